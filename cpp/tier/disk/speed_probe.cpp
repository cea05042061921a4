// SPDX-License-Identifier: Apache-2.0
// Reads a few chunks for nothing but their speed: before the first prompt asks for it, and after
// prompts were told that the disk is too slow, since nobody else would find out that it no longer
// is.
#include <cstdlib>
#include <memory>
#include <utility>

#include <lmcache/tier/disk/disk_tier.hpp>

namespace lmcache {
namespace {

constexpr std::uint64_t kMostBytes = 8u << 20;
constexpr std::size_t kMostChunks = 16;
constexpr std::int64_t kDoubtNs = 10'000'000'000;

}  // namespace

// On the tier's thread.
void DiskTier::measure_speed() {
  auto const now = clock_.monotonic_ns();
  bool const unknown = read_bytes_per_s() == 0;
  bool const doubted = doubted_.load(std::memory_order_relaxed) && now - measured_ns_ > kDoubtNs;
  if ((!unknown && !doubted) || reads_.open_bytes() != 0 || probe_in_flight_) return;
  auto const recent = volume_.directory->most_recent(kMostChunks);
  if (recent.empty()) return;
  doubted_.store(false, std::memory_order_relaxed);
  measured_ns_ = now;
  std::uint64_t used = 0;
  std::vector<DiskRead> reads;
  for (auto const& it : recent) {
    if (used != 0 && used + it.place.slot_bytes > kMostBytes) break;
    reads.push_back({.key = it.key, .slot_bytes = it.place.slot_bytes});
    used += it.place.slot_bytes;
  }
  std::shared_ptr<std::byte> const memory{
      static_cast<std::byte*>(std::aligned_alloc(kDiskPageBytes, used)), std::free};
  if (!memory) return;
  used = 0;
  for (auto& read : reads) {
    read.slot = memory.get() + used;
    used += read.slot_bytes;
  }
  probe_in_flight_ = static_cast<std::uint32_t>(reads.size());
  std::vector<ChunkKey> keys;
  for (auto const& it : reads) keys.push_back(it.key);
  read(std::move(reads), [this, memory, keys = std::move(keys)](std::uint32_t item, auto outcome) {
    if (outcome == TierOutcome::kCorrupt && hooks_.on_damaged) hooks_.on_damaged(keys[item]);
    --probe_in_flight_;
  });
}

}  // namespace lmcache
