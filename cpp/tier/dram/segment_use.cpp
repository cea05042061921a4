// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/dram/segment_use.hpp>

#include <algorithm>

#include <lmcache/tier/dram/slot_allocator.hpp>

namespace lmcache {

std::uint64_t clear_chunks(DramState& state, std::optional<std::uint16_t> namespace_id) {
  std::uint64_t removed = 0;
  SlotAllocator allocator{state};
  std::uint32_t const limit = state.index.entry_limit();
  // In batches, so that nobody else waits for the lock for long.
  constexpr std::uint32_t kBatch = 1024;
  for (std::uint32_t first = 0; first < limit; first += kBatch) {
    auto const guard = state.lock_space(std::chrono::seconds{2});
    if (!guard) break;
    for (std::uint32_t index = first; index < std::min(limit, first + kBatch); ++index) {
      auto const& entry = state.index.at(index);
      if (entry.state.load(std::memory_order_relaxed) != EntryState::kReady) continue;
      if (namespace_id.has_value() && entry.namespace_id != *namespace_id) continue;
      if (allocator.remove(index, RemovalReason::kCleared)) ++removed;
    }
  }
  return removed;
}

Result<SegmentUse> measure_use(DramState& state) {
  SegmentUse out{};
  LMC_TRY_ASSIGN(auto const guard, state.lock_space(std::chrono::seconds{2}));
  for (std::uint32_t extent = 0; extent < state.extents.count(); ++extent) {
    auto const& record = state.extents.at(extent);
    if (record.reserved != 0) out.reserved_bytes += state.header.extent_bytes;
    if (record.size_class != 0) out.bound_slots += record.bound;
  }
  std::uint32_t const limit = state.index.entry_limit();
  for (std::uint32_t index = 0; index < limit; ++index) {
    auto const& entry = state.index.at(index);
    if (entry.size_class == 0) continue;
    if (entry.leases.load(std::memory_order_relaxed) != 0) ++out.leased;
    switch (entry.state.load(std::memory_order_relaxed)) {
      case EntryState::kFree:
        ++out.free_slots;
        continue;
      case EntryState::kWriting:
        ++out.writing;
        break;
      case EntryState::kReady:
        ++out.ready;
        break;
    }
    out.used_bytes += entry.payload_bytes;
  }
  return out;
}

}  // namespace lmcache
