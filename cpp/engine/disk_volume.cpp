// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/disk_volume.hpp>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include <lmcache/base/clock.hpp>
#include <lmcache/base/fixed_text.hpp>
#include <lmcache/engine/disk_side.hpp>
#include <lmcache/index/chunk_record.hpp>
#include <lmcache/tier/disk/disk_tier.hpp>

namespace lmcache {
namespace {

SystemClock const kClock;

// Waits for the answers to a batch.
class Answers {
 public:
  explicit Answers(std::uint64_t count) : open_{count} {}
  void add(TierOutcome outcome) {
    std::lock_guard const lock{mutex_};
    if (outcome == TierOutcome::kDone) ++done_;
    if (--open_ == 0) all_.notify_all();
  }
  [[nodiscard]] std::uint64_t wait() {
    std::unique_lock lock{mutex_};
    all_.wait(lock, [this] { return open_ == 0; });
    return done_;
  }

 private:
  std::mutex mutex_;  // guards what follows
  std::condition_variable all_;
  std::uint64_t open_;
  std::uint64_t done_{0};
};

struct FreePages {
  void operator()(std::byte* memory) const noexcept { std::free(memory); }
};

}  // namespace

DiskVolume::DiskVolume(std::unique_ptr<DiskTier> tier) noexcept : tier_{std::move(tier)} {}
DiskVolume::~DiskVolume() = default;

Result<std::unique_ptr<DiskVolume>> DiskVolume::open(DiskVolumeOptions options, LogHook log) {
  DiskOptions wanted;
  wanted.volume = {.folders = std::move(options.folders),
                   .limit_bytes = options.limit_bytes,
                   .purpose = options.existing_only ? VolumeOptions::Purpose::kLook
                                                    : VolumeOptions::Purpose::kUse,
                   .memory_folder = std::move(options.memory_folder),
                   .role = "disk"};
  LMC_TRY_ASSIGN(wanted.io.kind, parse_io(options.io));
  LMC_TRY_ASSIGN(wanted.durability, parse_durability(options.durability));
  if (options.depth_bytes != 0) wanted.io.depth_bytes = options.depth_bytes;
  LMC_TRY_ASSIGN(auto tier, DiskTier::open(std::move(wanted), kClock, std::move(log)));
  return std::unique_ptr<DiskVolume>{new DiskVolume{std::move(tier)}};
}

std::uint64_t DiskVolume::write(std::span<ChunkKey const> keys, DiskSlots const& slots) {
  Answers answers{keys.size()};
  for (std::size_t i = 0; i < keys.size(); ++i) {
    ChunkHeader header{};
    header.magic = kChunkMagic;
    header.format_version = kChunkFormatVersion;
    header.key = keys[i];
    header.payload_bytes = slots.payload_bytes;
    auto* const slot = slots.data + i * slots.slot_bytes;
    std::memcpy(slot, &header, sizeof header);
    tier_->write({.key = keys[i], .slot = slot, .slot_bytes = slots.slot_bytes},
                 [&answers](TierOutcome outcome) { answers.add(outcome); });
  }
  return keys.empty() ? 0 : answers.wait();
}

std::uint64_t DiskVolume::read(std::span<ChunkKey const> keys, DiskSlots const& slots) {
  if (keys.empty()) return 0;
  Answers answers{keys.size()};
  std::vector<DiskRead> reads(keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    reads[i] = {
        .key = keys[i], .slot = slots.data + i * slots.slot_bytes, .slot_bytes = slots.slot_bytes};
  }
  tier_->read(std::move(reads),
              [&answers](std::uint32_t, TierOutcome outcome) { answers.add(outcome); });
  return answers.wait();
}

std::uint64_t DiskVolume::find(std::span<ChunkKey const> keys) {
  std::vector<std::optional<DiskPlace>> places(keys.size());
  tier_->find(keys, places);
  return static_cast<std::uint64_t>(
      std::ranges::count_if(places, [](auto const& place) { return place.has_value(); }));
}

ScrubReport DiskVolume::scrub(
    std::function<bool(ScrubReport const&, std::uint64_t)> const& progress) {
  constexpr std::uint64_t kBatchBytes = 64u << 20;
  ScrubReport report;
  auto const listed = tier_->directory().list();
  std::uint64_t largest = 0;
  for (auto const& it : listed) largest = std::max(largest, it.place.slot_bytes);
  std::uint64_t const room = std::max(largest, kBatchBytes);
  std::unique_ptr<std::byte, FreePages> const memory{
      static_cast<std::byte*>(std::aligned_alloc(kDiskPageBytes, room))};
  if (!memory) return report;
  std::atomic<std::uint64_t> corrupt{0};
  std::atomic<std::uint64_t> unreadable{0};
  std::atomic<std::uint64_t> gone{0};
  std::mutex damage_mutex;  // guards report.damage
  auto const note_damage = [&](DiskPlace const& place, TierOutcome outcome) {
    std::lock_guard const lock{damage_mutex};
    if (report.damage.size() == ScrubReport::kMostDamage) return;
    report.damage.push_back({.folder = tier_->files().folders()[place.folder].path(),
                             .slab = place.slab,
                             .offset = place.offset,
                             .corrupt = outcome == TierOutcome::kCorrupt});
  };
  for (std::size_t first = 0; first < listed.size();) {
    auto const begin = first;
    std::vector<DiskRead> reads;
    std::uint64_t used = 0;
    for (; first < listed.size() && used + listed[first].place.slot_bytes <= room; ++first) {
      auto const slot_bytes = listed[first].place.slot_bytes;
      reads.push_back(
          {.key = listed[first].key, .slot = memory.get() + used, .slot_bytes = slot_bytes});
      used += slot_bytes;
    }
    Answers answers{reads.size()};
    report.chunks += reads.size();
    report.size_bytes += used;
    tier_->read(std::move(reads), [&](std::uint32_t item, TierOutcome outcome) {
      bool const damaged = outcome == TierOutcome::kCorrupt || outcome == TierOutcome::kIoError;
      if (damaged) note_damage(listed[begin + item].place, outcome);
      if (outcome == TierOutcome::kCorrupt) ++corrupt;
      if (outcome == TierOutcome::kIoError) ++unreadable;
      if (outcome == TierOutcome::kMissing) ++gone;
      answers.add(outcome);
    });
    (void)answers.wait();
    report.corrupt = corrupt;
    report.unreadable = unreadable;
    report.gone = gone;
    if (!progress(report, listed.size())) return report;
  }
  report.damaged_records = forget_damaged_records();
  report.complete = true;
  return report;
}

std::uint64_t DiskVolume::forget_damaged_records() {
  auto& state = tier_->directory().state();
  auto const damaged = state.space.damaged_records.load();
  if (damaged == 0) return 0;
  // Those that cannot be freed are told of again.
  if (repair_index(state, tier_->files())) state.space.damaged_records -= damaged;
  return damaged;
}

std::uint64_t DiskVolume::clear() {
  auto const removed = tier_->clear();
  (void)tier_->drain(std::chrono::seconds{60});
  (void)forget_damaged_records();
  return removed;
}

std::vector<DiskModelUse> DiskVolume::models() {
  std::map<Id128, DiskModelUse> by_root;
  for (auto const& record : tier_->models()) {
    Id128 root;
    std::copy_n(record.root.bytes.begin(), root.size(), root.begin());
    by_root[root] = {.model = std::string{text_in(record.model)},
                     .description = std::string{text_in(record.description)},
                     .prefill_ps_per_token = record.prefill_ps_per_token};
  }
  for (auto const& it : tier_->directory().list()) {
    auto& use = by_root[it.root];
    ++use.chunks;
    use.size_bytes += it.place.payload_bytes;
  }
  std::vector<DiskModelUse> out;
  for (auto& [root, use] : by_root) {
    if (use.chunks != 0) out.push_back(std::move(use));
  }
  std::ranges::sort(out, std::ranges::greater{}, &DiskModelUse::size_bytes);
  return out;
}

}  // namespace lmcache
