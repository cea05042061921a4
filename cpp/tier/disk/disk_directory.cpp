// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/disk/disk_directory.hpp>

#include <unistd.h>

#include <algorithm>
#include <utility>

#include <lmcache/base/fixed_text.hpp>

namespace lmcache {
namespace {

constexpr std::chrono::milliseconds kLockTimeout{50};
constexpr std::chrono::seconds kJoinTimeout{5};

}  // namespace

DiskDirectory::DiskDirectory(std::unique_ptr<Segment> segment, Clock const& clock)
    : segment_{std::move(segment)}, clock_{clock}, state_{*segment_} {}

Result<std::unique_ptr<DiskDirectory>> DiskDirectory::join(std::unique_ptr<Segment> segment,
                                                           Clock const& clock,
                                                           std::string_view role) {
  std::unique_ptr<DiskDirectory> directory{new DiskDirectory{std::move(segment), clock}};
  auto& state = directory->state_;
  LMC_TRY_ASSIGN(auto const guard, state.lock(kJoinTimeout));
  if (state.segment.header().closed.load() != 0) {
    state.segment.unlink();
    return Error{ErrorCode::kCancelled, "the directory was closed"};
  }
  ProcessTable::Claim const claim{
      .role = role, .instance_id = {}, .now_unix_s = clock.unix_seconds()};
  auto claimed = state.processes.claim(claim);
  if (!claimed) {
    for (std::uint32_t process = 0; process < kMaxProcesses; ++process) {
      if (!state.processes.attached(process) || state.processes.alive(process)) continue;
      state.process = process;  // who takes over what was its
      directory->reclaim(process, directory->orphans_);
      break;
    }
    claimed = state.processes.claim(claim);
  }
  if (!claimed) return std::move(claimed).error();
  state.process = claimed.value();
  directory->joined_pid_ = ::getpid();
  return directory;
}

DiskDirectory::~DiskDirectory() {
  if (joined_pid_ != ::getpid()) return;
  auto const guard = state_.lock(kJoinTimeout);
  if (!guard) {
    // Let the others take us for dead, as we soon shall be.
    state_.processes.record(state_.process).pid = 0;
    return;
  }
  SlabTask left_behind;  // nothing, or all of it: whoever comes next reads the files anew
  reclaim(state_.process, left_behind);
  // What the dead hold is taken back by those who live and can remove files.
  if (others_live()) return;
  state_.segment.header().closed.store(1);
  state_.segment.unlink();
}

Result<RobustGuard> DiskDirectory::lock() { return state_.lock(kLockTimeout); }

DiskPlace DiskDirectory::place_of(std::uint32_t index) const noexcept {
  auto const& entry = state_.entries[index];
  auto const& slab = state_.slabs[entry.slab];
  return {.record = index,
          .slab = entry.slab,
          .incarnation = slab.incarnation,
          .folder = slab.folder,
          .offset = entry.offset,
          .slot_bytes = slab.slot_bytes,
          .payload_bytes = entry.payload_bytes,
          .sequence = entry.sequence,
          .valid_tokens = entry.valid_tokens};
}

bool DiskDirectory::holds(DiskPlace const& place) const noexcept {
  auto const& entry = state_.entries[place.record];
  return entry.sequence == place.sequence && entry.slab == place.slab &&
         (entry.state == DiskState::kReady || entry.state == DiskState::kWriting);
}

std::uint32_t DiskDirectory::readable(ChunkKey const& key) const noexcept {
  std::uint32_t const index = state_.find(key);
  if (index == kNoRecord) return kNoRecord;
  auto const& entry = state_.entries[index];
  bool const expired = entry.expires_unix_s != 0 && entry.expires_unix_s <= clock_.unix_seconds();
  return entry.state == DiskState::kReady && !expired ? index : kNoRecord;
}

void DiskDirectory::find(std::span<ChunkKey const> keys, std::span<std::optional<DiskPlace>> out) {
  std::ranges::fill(out, std::nullopt);
  auto const guard = lock();
  if (!guard) return;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (std::uint32_t const index = readable(keys[i]); index != kNoRecord) out[i] = place_of(index);
  }
}

void DiskDirectory::begin_reads(std::span<ChunkKey const> keys,
                                std::span<std::optional<DiskPlace>> out) {
  std::ranges::fill(out, std::nullopt);
  auto const guard = lock();
  if (!guard) return;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    std::uint32_t const index = readable(keys[i]);
    if (index == kNoRecord) continue;
    state_.entries[index].readers |= state_.own_bit();
    ++reading_[index];
    out[i] = place_of(index);
  }
}

void DiskDirectory::drop_reader(std::uint32_t index) {
  auto const held = reading_.find(index);
  if (held == reading_.end() || --held->second != 0) return;
  reading_.erase(held);
  state_.entries[index].readers &= ~state_.own_bit();
}

void DiskDirectory::end_read(DiskPlace const& place) {
  if (auto const guard = lock()) {
    drop_reader(place.record);
    return;
  }
  std::lock_guard const debts{debts_mutex_};
  debts_.push_back(place);
}

void DiskDirectory::settle_debts() {
  std::vector<DiskPlace> debts;
  {
    std::lock_guard const pending{debts_mutex_};
    debts.swap(debts_);
  }
  for (auto const& place : debts) end_read(place);
}

void DiskDirectory::touch(std::span<ChunkKey const> keys) {
  auto const guard = lock();
  if (!guard) return;
  for (std::size_t i = keys.size(); i-- > 0;) {
    std::uint32_t const index = readable(keys[i]);
    if (index == kNoRecord) continue;
    state_.entries[index].last_use = ++state_.space.now;
    state_.recency.move_to_front(state_.class_of(state_.entries[index]).used, index);
  }
}

bool DiskDirectory::remove(DiskPlace const& place) {
  auto const guard = lock();
  if (!guard || !holds(place)) return false;
  auto const& entry = state_.entries[place.record];
  if (entry.state != DiskState::kReady || (entry.readers & ~state_.own_bit()) != 0) return false;
  if (auto const held = reading_.find(place.record); held != reading_.end()) {
    if (held->second != 1) return false;
    reading_.erase(held);  // the caller's own lease
  }
  state_.entries[place.record].readers &= ~state_.own_bit();
  state_.retire_entry(place.record);
  return true;
}

std::uint64_t DiskDirectory::now() {
  auto const guard = lock();
  return guard ? ++state_.space.now : 0;
}

void DiskDirectory::commit(DiskPlace const& place, DiskChunkFacts const& facts,
                           std::uint64_t last_use) {
  auto const guard = state_.lock(kJoinTimeout);
  if (!guard || !holds(place)) return;
  auto& entry = state_.entries[place.record];
  entry.payload_bytes = facts.payload_bytes;
  entry.valid_tokens = facts.valid_tokens;
  entry.fingerprint = facts.fingerprint;
  entry.expires_unix_s = facts.expires_unix_s;
  entry.lane = facts.lane;
  entry.flags = facts.flags;
  entry.root = facts.root;
  entry.last_use = last_use;
  std::atomic_signal_fence(std::memory_order_release);
  entry.state = DiskState::kReady;
  state_.recency.push_front(state_.class_of(entry).used, place.record);
  state_.space.used_bytes.fetch_add(facts.payload_bytes, std::memory_order_relaxed);
  state_.space.chunks.fetch_add(1, std::memory_order_relaxed);
}

void DiskDirectory::abandon(DiskPlace const& place) {
  auto const guard = state_.lock(kJoinTimeout);
  if (!guard || !holds(place)) return;
  if (state_.entries[place.record].state == DiskState::kWriting) state_.free_entry(place.record);
}

std::vector<DiskPlace> DiskDirectory::clear(std::optional<Id128> const& root) {
  std::vector<DiskPlace> freed;
  // In batches, so that nobody else waits for the lock for long.
  constexpr std::uint32_t kBatch = 4096;
  for (std::uint32_t first = 0; first < state_.space.entry_limit; first += kBatch) {
    auto const guard = state_.lock(kJoinTimeout);
    if (!guard) break;
    auto const end = std::min(state_.space.entry_limit, first + kBatch);
    for (std::uint32_t index = first; index < end; ++index) {
      auto const& entry = state_.entries[index];
      if (entry.state != DiskState::kReady || entry.readers != 0) continue;
      if (root && entry.root != *root) continue;
      freed.push_back(place_of(index));
      state_.retire_entry(index);
    }
  }
  return freed;
}

UseOrder DiskDirectory::order() {
  UseOrder out;
  auto const guard = state_.lock(kJoinTimeout);
  if (!guard) return out;
  auto const& space = state_.space;
  out.now = space.now;
  out.read_bytes_per_s = space.read_bytes_per_s;
  out.write_bytes_per_s = space.write_bytes_per_s;
  out.last_use.resize(space.entry_limit);
  for (std::uint32_t index = 0; index < space.entry_limit; ++index) {
    auto const& entry = state_.entries[index];
    if (entry.state == DiskState::kReady) out.last_use[index] = entry.last_use;
  }
  return out;
}

DiskUse DiskDirectory::use() {
  auto const guard = state_.lock(kJoinTimeout);
  return guard ? measure_use(state_) : DiskUse{};
}

Result<DirectoryView> inspect_directory(std::string const& path) {
  LMC_TRY_ASSIGN(auto const segment, Segment::attach(path, SegmentKind::kDiskDirectory));
  DirectoryState state{*segment};
  LMC_TRY_ASSIGN(auto const guard, state.lock(kJoinTimeout));
  DirectoryView out;
  out.use = measure_use(state);
  out.io_engine = text_in(state.space.io_engine);
  std::string_view rest = text_in(state.space.folder_paths);
  for (auto end = rest.find('\n'); end != rest.npos; end = rest.find('\n')) {
    out.folders.emplace_back(rest.substr(0, end));
    rest.remove_prefix(end + 1);
  }
  return out;
}

DiskUse measure_use(DirectoryState const& state) {
  DiskUse out;
  auto const& space = state.space;
  out.limit_bytes = space.limit_bytes;
  out.file_bytes = space.fixed_bytes + space.slab_bytes;
  out.used_bytes = space.used_bytes;
  out.chunks = space.chunks;
  out.record_capacity = state.entries.size();
  out.damaged_records = space.damaged_records;
  out.read_bytes_per_s = space.read_bytes_per_s;
  out.write_bytes_per_s = space.write_bytes_per_s;
  out.folders = space.folder_count;
  for (std::uint32_t process = 0; process < kMaxProcesses; ++process) {
    out.processes += state.processes.alive(process) ? 1 : 0;
  }
  for (std::uint32_t slab = 0; slab < space.slab_limit; ++slab) {
    out.slabs += state.slabs[slab].state != SlabState::kNone ? 1 : 0;
  }
  return out;
}

std::vector<DiskDirectory::Listed> DiskDirectory::list() {
  std::vector<Listed> out;
  auto const guard = state_.lock(kJoinTimeout);
  if (!guard) return out;
  for (std::uint32_t index = 0; index < state_.space.entry_limit; ++index) {
    auto const& entry = state_.entries[index];
    if (entry.state != DiskState::kReady) continue;
    out.push_back({.place = place_of(index), .key = entry.key, .root = entry.root});
  }
  std::ranges::sort(out, {}, [](Listed const& listed) {
    return std::pair{listed.place.slab, listed.place.offset};
  });
  return out;
}

std::vector<DiskDirectory::Listed> DiskDirectory::most_recent(std::size_t count) {
  std::vector<Listed> out;
  auto const guard = lock();
  if (!guard) return out;
  for (std::uint32_t id = 1; id <= state_.space.class_count; ++id) {
    std::uint32_t at = state_.space.classes[id].used.front;
    for (std::size_t taken = 0; at != kNoNode && taken < count; ++taken) {
      auto const& entry = state_.entries[at];
      out.push_back({.place = place_of(at), .key = entry.key, .root = entry.root});
      at = state_.recency.at(at).next;
    }
  }
  // The large ones say most.
  std::ranges::stable_sort(out, std::ranges::greater{},
                           [](Listed const& listed) { return listed.place.slot_bytes; });
  if (out.size() > count) out.resize(count);
  return out;
}

// Smoothed over a few measurements: one that a neighbour disturbed does not decide alone. Bad news
// counts for more: prompts pay for it.
void DiskDirectory::record_speed(std::atomic<std::uint64_t> DirectorySpace::* speed,
                                 double bytes_per_s) {
  auto& known = state_.space.*speed;
  auto const before = static_cast<double>(known.load(std::memory_order_relaxed));
  double const weight = before == 0 ? 1 : bytes_per_s < before ? 0.7 : 0.3;
  double const now = (1 - weight) * before + weight * bytes_per_s;
  known.store(static_cast<std::uint64_t>(std::max(1.0, now)), std::memory_order_relaxed);
}

}  // namespace lmcache
