// SPDX-License-Identifier: Apache-2.0
// Chunks that were stored in memory, on their way to disk.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include <lmcache/base/clock.hpp>
#include <lmcache/index/chunk_ref.hpp>
#include <lmcache/tier/disk/disk_tier.hpp>
#include <lmcache/tier/dram/dram_tier.hpp>

namespace lmcache {

// Thread-safe. Both tiers must outlive every write under way.
class WriteBehind {
 public:
  WriteBehind(DramTier& dram, Clock const& clock, std::uint64_t budget_bytes) noexcept
      : dram_{dram}, clock_{clock}, budget_bytes_{budget_bytes} {}
  WriteBehind(WriteBehind&&) = delete;

  // A chunk was published: it is written if the disk has it not. Never waits: beyond the budget of
  // bytes under way it is not written, and counted.
  void offer(DiskTier& disk, ChunkRef ref);
  [[nodiscard]] std::uint64_t open_bytes() const noexcept { return open_bytes_.load(); }

 private:
  void written(ChunkRef ref, std::uint64_t size_bytes, std::int64_t started_ns,
               DiskOutcome outcome);

  DramTier& dram_;
  Clock const& clock_;
  std::uint64_t const budget_bytes_;
  std::atomic<std::uint64_t> open_bytes_{0};
};

}  // namespace lmcache
