// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/segment_status.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include <lmcache/engine/segment_visit.hpp>
#include <lmcache/engine/status_reader.hpp>
#include <lmcache/memory/segment_file.hpp>
#include <lmcache/tier/disk/disk_directory.hpp>
#include <lmcache/tier/dram/segment_use.hpp>

namespace lmcache {
namespace {

std::string remote_state(RemoteGauges const& gauges) {
  auto const state = gauges.state.load(std::memory_order_relaxed);
  return state == 0 ? "" : state == 1 ? "unavailable" : "connected";
}

std::uint32_t living_in(ProcessTable const& processes) noexcept {
  std::uint32_t alive = 0;
  for (std::uint32_t i = 0; i < kMaxProcesses; ++i) alive += processes.alive(i) ? 1 : 0;
  return alive;
}

// Refused for its content only: a file of another user was refused already, by its owner.
Result<bool> remove_foreign(std::string const& path, Error refusal, RemoveMode mode) {
  bool const foreign =
      refusal.code() == ErrorCode::kInvalidArgument || refusal.code() == ErrorCode::kCorrupted;
  if (mode != RemoveMode::kForce || !foreign) return refusal;
  LMC_TRY_ASSIGN(auto const fd, open_segment_file(path));
  ::unlink(path.c_str());
  return true;
}

template <std::size_t N>
std::string text_of(std::array<char, N> const& text) {
  return std::string{text.data()};
}

}  // namespace

DiskSummary summarize_disk(std::string const& directory) {
  DiskSummary out;
  auto const seen = inspect_directory(directory);
  if (!seen) {
    out.unreadable = seen.error().message();
    return out;
  }
  auto const& [use, folders, io_engine] = seen.value();
  out.folders = folders;
  out.io_engine = io_engine;
  out.limit_bytes = use.limit_bytes;
  out.file_bytes = use.file_bytes;
  out.used_bytes = use.used_bytes;
  out.chunks = use.chunks;
  out.damaged_records = use.damaged_records;
  out.read_bytes_per_s = use.read_bytes_per_s;
  out.write_bytes_per_s = use.write_bytes_per_s;
  out.processes = use.processes;
  return out;
}

Result<SegmentStatus> read_status(DramState& state) {
  LMC_TRY_ASSIGN(auto const use, measure_use(state));
  SegmentStatus out;
  auto const& header = state.header;
  out.path = state.segment.path();
  out.created_unix_s = header.created_unix_s;
  out.capacity_bytes = state.segment.capacity_bytes();
  out.reserved_bytes = use.reserved_bytes;
  out.used_bytes = use.used_bytes;
  out.entries = std::uint64_t{use.ready} + use.writing;
  out.ready = use.ready;
  out.writing = use.writing;
  out.free_slots = use.free_slots;
  out.bound_slots = use.bound_slots;
  out.leased = use.leased;
  out.max_entries = state.index.capacity();
  out.extent_bytes = header.extent_bytes;
  out.repaired_locks = state.index.repaired_shards() + state.space.repaired.load();
  out.remove_when_unused = header.remove_when_unused != 0;
  out.total = header.departed.snapshot();
  for (std::uint32_t i = 0; i < kMaxProcesses; ++i) {
    if (!state.processes.attached(i)) continue;
    auto const& record = state.processes.record(i);
    out.processes.push_back({.pid = record.pid,
                             .alive = state.processes.alive(i),
                             .role = text_of(record.role),
                             .instance_id = text_of(record.instance_id),
                             .attached_unix_s = record.attached_unix_s,
                             .counters = record.counters.snapshot(),
                             .remote_state = remote_state(record.remote),
                             .remote_failures = record.remote.failures.load(),
                             .remote_lookup_ns = record.remote.lookup_ns.load(),
                             .remote_read_bytes_per_s = record.remote.read_bytes_per_s.load(),
                             .remote_write_bytes_per_s = record.remote.write_bytes_per_s.load(),
                             .remote_last_error = record.remote.last_error_text(),
                             .device_capacity_bytes = record.device.capacity_bytes.load(),
                             .device_used_bytes = record.device.used_bytes.load(),
                             .device_chunks = record.device.chunks.load()});
    out.total += out.processes.back().counters;
    out.lookup_ns += record.latencies.lookup.snapshot();
    out.load_ns += record.latencies.load.snapshot();
    out.store_ns += record.latencies.store.snapshot();
  }
  auto const records = state.namespaces.records();
  for (std::size_t id = 0; id < records.size(); ++id) {
    auto const& record = records[id];
    if (record.used.load(std::memory_order_acquire) == 0) continue;
    out.namespaces.push_back({.id = static_cast<std::uint16_t>(id),
                              .incarnation = record.used.load(),
                              .root = record.root,
                              .lanes = record.lanes,
                              .chunk_tokens = record.chunk_tokens,
                              .model = text_of(record.model),
                              .description = text_of(record.description),
                              .entries = record.entries.load(),
                              .size_bytes = record.bytes.load(),
                              .lookups = record.lookups.load(),
                              .lookup_tokens = record.lookup_tokens.load(),
                              .hit_tokens = record.hit_tokens.load()});
  }
  if (auto const directory = text_of(state.space.disk_directory); !directory.empty()) {
    out.disk = summarize_disk(directory);
  }
  return out;
}

Result<SegmentStatus> inspect_segment(std::string const& path) {
  LMC_TRY_ASSIGN(auto const visit, SegmentVisit::open(path));
  return read_status(visit->state());
}

Result<std::vector<SegmentInfo>> list_segments(std::string const& directory) {
  LMC_TRY_ASSIGN(auto const files, list_segment_files(directory));
  std::vector<SegmentInfo> out;
  for (auto const& file : files) {
    SegmentInfo info{.path = file.path,
                     .name = file.name,
                     .allocated_bytes = file.allocated_bytes,
                     .unreadable = {},
                     .processes = 0};
    auto visit = SegmentVisit::open(file.path);
    if (visit) {
      info.processes = living_in(visit.value()->state().processes);
    } else {
      info.unreadable = visit.error().message();
    }
    out.push_back(std::move(info));
  }
  return out;
}

Result<bool> remove_segment(std::string const& path, RemoveMode mode) {
  auto visit = SegmentVisit::open(path);
  if (!visit) return remove_foreign(path, std::move(visit).error(), mode);
  auto& state = visit.value()->state();
  LMC_TRY_ASSIGN(auto const guard, state.lock_space(std::chrono::seconds{5}));
  if (living_in(visit.value()->state().processes) != 0) return false;
  state.header.closed.store(1);
  visit.value()->segment().unlink();
  return true;
}

Result<std::vector<DiskDirectoryInfo>> list_disk_directories(std::string const& memory_folder) {
  std::string const prefix = "lmcache-disk-" + std::to_string(::geteuid()) + "-";
  std::error_code failed;
  std::vector<DiskDirectoryInfo> out;
  for (std::filesystem::directory_iterator it{memory_folder, failed}, end; !failed && it != end;
       it.increment(failed)) {
    auto const& path = it->path();
    struct stat file{};
    if (!path.filename().string().starts_with(prefix) || ::lstat(path.c_str(), &file) != 0 ||
        !S_ISREG(file.st_mode)) {
      continue;
    }
    DiskDirectoryInfo info;
    info.path = path.string();
    info.allocated_bytes = static_cast<std::uint64_t>(file.st_blocks) * 512;
    auto const segment = Segment::attach(info.path, SegmentKind::kDiskDirectory);
    if (segment) {
      info.processes = living_in(DirectoryState{*segment.value()}.processes);
    } else {
      info.unreadable = segment.error().message();
    }
    if (auto seen = inspect_directory(info.path)) info.folders = std::move(seen).value().folders;
    out.push_back(std::move(info));
  }
  if (failed) {
    return Error{ErrorCode::kIo, "cannot read " + memory_folder + ": " + failed.message(),
                 failed.value()};
  }
  std::ranges::sort(out, {}, &DiskDirectoryInfo::path);
  return out;
}

Result<bool> remove_disk_directory(std::string const& path, RemoveMode mode) {
  auto segment = Segment::attach(path, SegmentKind::kDiskDirectory);
  if (!segment) return remove_foreign(path, std::move(segment).error(), mode);
  DirectoryState state{*segment.value()};
  LMC_TRY_ASSIGN(auto const guard, state.lock(std::chrono::seconds{5}));
  if (living_in(state.processes) != 0) return false;
  segment.value()->header().closed.store(1);
  segment.value()->unlink();
  return true;
}

Result<std::uint64_t> clear_segment(std::string const& path,
                                    std::optional<std::string> const& model) {
  LMC_TRY_ASSIGN(auto const visit, SegmentVisit::open(path));
  auto& state = visit->state();
  if (!model.has_value()) return clear_chunks(state, std::nullopt);
  std::uint64_t removed = 0;
  auto const records = state.namespaces.records();
  for (std::size_t id = 0; id < records.size(); ++id) {
    auto const& record = records[id];
    if (record.used.load(std::memory_order_acquire) == 0 || text_of(record.model) != *model)
      continue;
    removed += clear_chunks(state, static_cast<std::uint16_t>(id));
  }
  return removed;
}

}  // namespace lmcache
