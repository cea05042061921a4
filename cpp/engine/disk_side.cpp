// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/disk_side.hpp>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <lmcache/base/fixed_text.hpp>
#include <lmcache/engine/prefill_speed.hpp>

namespace lmcache {
namespace {

constexpr std::int64_t kRememberEveryNs = 5'000'000'000;

}  // namespace

DiskSide::DiskSide(DramTier& dram, Clock const& clock, std::uint64_t budget_bytes)
    : dram_{dram},
      clock_{clock},
      writes_{dram,
              clock,
              budget_bytes,
              {.written_chunks = dram.counters().disk_written_chunks,
               .written_bytes = dram.counters().disk_written_bytes,
               .write_ns = dram.counters().disk_write_ns,
               .dropped_writes = dram.counters().disk_dropped_writes,
               .write_errors = dram.counters().disk_write_errors},
              [this](ChunkHeader const& header, ChunkSlot const& slot, WriteBehind::Done done) {
                disk_->write(
                    {.key = header.key, .slot = slot.record, .slot_bytes = slot.slot_bytes},
                    std::move(done));
              },
              {.on_there = [&dram](ChunkRef ref) { dram.note_on_disk(ref); }}} {}

Result<std::unique_ptr<DiskSide>> DiskSide::open(EngineOptions const& options, DramTier& dram,
                                                 Clock const& clock, LogHook const& log) {
  DiskOptions wanted;
  wanted.volume = {.folders = options.disk_folders,
                   .limit_bytes = options.disk_bytes,
                   .memory_folder = options.disk_memory_folder,
                   .role = options.role};
  LMC_TRY_ASSIGN(wanted.io.kind, parse_io(options.disk_io));
  LMC_TRY_ASSIGN(wanted.durability, parse_durability(options.disk_durability));
  wanted.bytes_per_second = options.disk_bytes_per_second;
  // Chunks on their way to disk cannot be evicted: most of the memory stays free to use.
  std::uint64_t const budget =
      std::min(options.write_behind_bytes, dram.segment().capacity_bytes() / 4);
  std::unique_ptr<DiskSide> side{new DiskSide{dram, clock, budget}};
  LMC_TRY_ASSIGN(side->disk_, DiskTier::open(std::move(wanted), clock, log,
                                             {.on_evicted =
                                                  [&dram](ChunkKey const& key) {
                                                    count(dram.counters().disk_evicted_chunks);
                                                    dram.note_off_disk(key);
                                                  },
                                              .on_damaged =
                                                  [&dram](ChunkKey const& key) {
                                                    count(dram.counters().disk_corrupt_chunks);
                                                    dram.note_off_disk(key);
                                                  }}));
  for (auto const& known : side->disk_->models()) {
    side->known_speeds_.emplace(known.root, known.prefill_ps_per_token);
  }
  side->note_in_segment();
  return side;
}

DiskSide::~DiskSide() {
  describe_opened();
  remember_speed();
  disk_.reset();
}

// So that `lmcache status` finds the disk of a segment, and eviction knows that there is one.
void DiskSide::note_in_segment() {
  auto const path = disk_->status().directory;
  auto const guard = dram_.state().lock_space(std::chrono::seconds{2});
  if (guard) copy_text(dram_.state().space.disk_directory, path);
}

void DiskSide::opened(DramNamespace const& space) {
  ModelRecord record{};
  record.root = space.opened.root;
  record.geometry_hash = space.geometry_hash;
  copy_text(record.model, space.model);
  copy_text(record.description, space.description);
  std::lock_guard const lock{mutex_};
  if (auto const known = known_speeds_.find(record.root); known != known_speeds_.end()) {
    record.prefill_ps_per_token = known->second;
  }
  // One per adapter and tenant: there may be any number, and the file keeps the last few.
  if (models_.size() == kMaxModels) return;
  if (models_.insert_or_assign(record.root, record).second) to_describe_.push_back(record.root);
}

void DiskSide::describe_opened() {
  std::vector<ModelRecord> fresh;
  {
    std::lock_guard const lock{mutex_};
    for (auto const& root : std::exchange(to_describe_, {})) fresh.push_back(models_.at(root));
  }
  for (auto const& record : fresh) disk_->describe_model(record);
}

std::uint64_t DiskSide::known_prefill(ChunkKey const& root) {
  std::lock_guard const lock{mutex_};
  auto const known = known_speeds_.find(root);
  return known != known_speeds_.end() ? known->second : 0;
}

// For the next start: then the first prompt cannot be weighed by anything else.
void DiskSide::remember_speed() {
  auto const now = measured_prefill(dram_);
  std::vector<ModelRecord> changed;
  {
    std::lock_guard const lock{mutex_};
    auto const difference = std::max(now, remembered_prefill_) - std::min(now, remembered_prefill_);
    if (now == 0 || difference * 10 < remembered_prefill_) return;
    remembered_prefill_ = now;
    for (auto& [root, model] : models_) {
      model.prefill_ps_per_token = now;
      changed.push_back(model);
    }
  }
  for (auto const& model : changed) disk_->describe_model(model);
}

void DiskSide::memory_ready(std::uint32_t extent) {
  auto const& segment = dram_.segment();
  std::uint64_t const size_bytes = segment.header().extent_bytes;
  disk_->register_memory(segment.payload(extent * size_bytes), size_bytes);
}

void DiskSide::keep_house() {
  if (auto const used = dram_.take_used_below(); !used.empty()) disk_->touch(used);
  describe_opened();
  auto const now = clock_.monotonic_ns();
  if (now < remember_at_ns_) return;
  remember_at_ns_ = now + kRememberEveryNs;
  remember_speed();
}

}  // namespace lmcache
