// SPDX-License-Identifier: Apache-2.0
// The pool in the memory of one CUDA device, as the stores and loads of an engine use it.
//
// Stores write through: a chunk goes to its slot in DRAM, where the index publishes it, and into
// the pool besides, from the same blocks and under the same ticket. So what the pool evicts lies in
// DRAM already, and nothing is copied back. A load takes the copy of the pool where there is one.
//
// What was loaded from DRAM twice will be loaded again: then it is copied into the pool, behind
// everything else on the device. Not out of the blocks that it was loaded into: the model writes
// into those of a chunk whose last tokens are not the prompt's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <span>
#include <unordered_set>

#include <lmcache/device/device_copier.hpp>
#include <lmcache/device/device_pool.hpp>
#include <lmcache/tier/dram/dram_tier.hpp>

namespace lmcache {

// Thread-safe, but for the destructor: the copier is gone by then.
class DeviceSide {
 public:
  // Both outlive this; `memory` is of the copier, which is not used after stop().
  DeviceSide(DramTier& tier, DeviceCopier& copier, std::span<std::byte> memory);
  DeviceSide(DeviceSide const&) = delete;
  DeviceSide& operator=(DeviceSide const&) = delete;

  // Where a chunk that is being stored goes besides; null if there is no room. Then end_store(),
  // when that copy is over or was not begun.
  [[nodiscard]] std::byte* begin_store(ChunkRef chunk, std::uint64_t payload_bytes);
  void end_store(ChunkRef chunk, std::uint64_t payload_bytes, DevicePool::Written written);

  // The copy of a chunk that the caller has leased, null if there is none; then end_load().
  [[nodiscard]] std::byte* begin_load(ChunkRef chunk, std::uint64_t payload_bytes);
  void end_load(ChunkRef chunk);
  // A chunk that the caller has leased was loaded from DRAM.
  void loaded_from_dram(ChunkRef chunk);

  // Begins no copies any more.
  void stop();
  // The device is lost: as if nothing had been here.
  void close();

  // Loads from DRAM that are remembered, and copies into the pool that may be under way for them.
  static constexpr std::size_t kRemembered = 4096;
  static constexpr std::uint32_t kMostPromotions = 32;

 private:
  [[nodiscard]] bool is_second_load(ChunkRef chunk);
  void promote(ChunkRef chunk, ChunkSlot const& slot);
  void end_promotion(ChunkRef chunk, std::uint64_t payload_bytes, CopyStatus status);

  DramTier& tier_;
  DeviceCopier& copier_;
  DevicePool pool_;
  // Guards all below. Held while a copy is submitted, so that none is after stop(): that waits for
  // no device, and calls nobody back.
  std::mutex mutex_;
  std::unordered_set<std::uint64_t> seen_;  // packed refs
  std::deque<std::uint64_t> seen_order_;
  std::uint32_t promotions_ = 0;
  bool stopped_ = false;
};

}  // namespace lmcache
