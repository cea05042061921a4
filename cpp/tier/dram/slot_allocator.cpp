// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/dram/slot_allocator.hpp>

#include <algorithm>
#include <atomic>
#include <string>
#include <utility>

namespace lmcache {
namespace {

// Entries are backed with memory in steps of this many (512 KiB).
constexpr std::uint32_t kEntryStep = 4096;
// How many leased or half-written candidates an allocation looks past before it gives up.
constexpr int kMaxRefusals = 64;

}  // namespace

std::uint64_t SlotAllocator::slot_bytes(std::uint64_t size_bytes) noexcept {
  std::uint64_t const step = size_bytes >= 16 * kPageBytes ? kPageBytes : 64;
  return (size_bytes + step - 1) / step * step;
}

Result<std::uint16_t> SlotAllocator::class_for(std::uint64_t slot_bytes) {
  auto& space = state_.space;
  if (slot_bytes > state_.header.extent_bytes) {
    return Error{ErrorCode::kInvalidArgument,
                 "a chunk of " + std::to_string(slot_bytes) +
                     " bytes does not fit the segment's extents of " +
                     std::to_string(state_.header.extent_bytes) +
                     " bytes: lower chunk_size, or clear the segment and let this model create it"};
  }
  for (std::uint16_t id = 1; id <= space.class_count; ++id) {
    if (space.classes[id].slot_bytes == slot_bytes) return id;
  }
  if (space.class_count == kMaxSizeClasses) {
    return Error{ErrorCode::kInvalidArgument,
                 "the segment serves " + std::to_string(kMaxSizeClasses) + " chunk sizes already"};
  }
  auto const id = static_cast<std::uint16_t>(space.class_count + 1);
  auto& fresh = space.classes[id];
  fresh.slot_bytes = slot_bytes;
  fresh.free.clear();
  fresh.leaves.clear();
  fresh.open_extent = kNoExtent;
  fresh.empty_extents = 0;
  // Last: whoever repairs after our death trusts the classes that are counted.
  std::atomic_signal_fence(std::memory_order_release);
  space.class_count = id;
  return id;
}

Result<std::uint32_t> SlotAllocator::allocate(std::uint64_t size_bytes) {
  LMC_TRY_ASSIGN(auto const id, class_for(slot_bytes(size_bytes)));
  auto& size_class = state_.space.classes[id];
  for (int attempt = 0; attempt < 3; ++attempt) {
    if (std::uint32_t const entry = size_class.free.front; entry != kNoNode) {
      state_.recency.remove(size_class.free, entry);
      return entry;
    }
    if (auto const entry = bump(id)) return *entry;
    if (open_extent(id)) continue;
    if (take_back_extent(id)) continue;
    if (evict_from(size_class)) continue;
  }
  return Error{ErrorCode::kOutOfMemory, "every chunk that could make room is in use"};
}

void SlotAllocator::put_back(std::uint32_t entry) noexcept {
  state_.recency.push_front(state_.class_of(state_.index.at(entry)).free, entry);
}

std::optional<std::uint32_t> SlotAllocator::unbound_entry() {
  auto& space = state_.space;
  if (std::uint32_t const entry = space.unbound.front; entry != kNoNode) {
    state_.recency.remove(space.unbound, entry);
    return entry;
  }
  std::uint32_t const limit = state_.index.entry_limit();
  if (limit == state_.index.capacity()) return std::nullopt;
  if (limit == space.backed_entries) {
    std::uint32_t const step = std::min(kEntryStep, state_.index.capacity() - limit);
    auto const backed = [&](Region region, std::uint64_t item_bytes) {
      return state_.segment.reserve_region(region, limit * item_bytes, step * item_bytes)
          .has_value();
    };
    if (!backed(Region::kEntries, sizeof(Entry)) ||
        !backed(Region::kRecency, sizeof(RecencyNode))) {
      return std::nullopt;
    }
    space.backed_entries += step;
  }
  auto& entry = state_.index.at(limit);
  entry.generation.store(1, std::memory_order_relaxed);
  entry.payload_offset = kUnbound;
  entry.parent = entry.first_child = entry.next_sibling = entry.previous_sibling = kNoEntry;
  state_.index.set_entry_limit(limit + 1);
  return limit;
}

std::optional<std::uint32_t> SlotAllocator::bump(std::uint16_t size_class) {
  std::uint32_t const extent = state_.space.classes[size_class].open_extent;
  if (extent == kNoExtent) return std::nullopt;
  auto& record = state_.extents.at(extent);
  if (record.bound == record.slots) return std::nullopt;
  auto const index = unbound_entry();
  if (!index) return std::nullopt;
  auto& entry = state_.index.at(*index);
  entry.size_class = size_class;
  entry.extent_next = record.first_entry;
  entry.payload_offset = state_.extents.slot_offset(extent, record.bound);
  record.first_entry = *index;
  ++record.bound;
  return index;
}

bool SlotAllocator::open_extent(std::uint16_t size_class) {
  auto& target = state_.space.classes[size_class];
  if (target.open_extent != kNoExtent) {
    auto const& current = state_.extents.at(target.open_extent);
    if (current.bound < current.slots) return false;  // there are slots, but no entries left
  }
  std::uint32_t const usable = state_.header.usable_extents.load(std::memory_order_relaxed);
  std::uint32_t const extent = state_.extents.find_free(usable);
  if (extent == kNoExtent) return false;
  auto& record = state_.extents.at(extent);
  if (record.reserved == 0) {
    // The housekeeper reserves ahead; this is the rare case that it was overtaken.
    if (!state_.segment.reserve_extent(extent)) {
      state_.header.usable_extents.store(extent, std::memory_order_relaxed);
      return false;
    }
    record.reserved = 1;
  }
  state_.extents.assign(extent, size_class, target.slot_bytes, kNoEntry);
  target.open_extent = extent;
  ++target.empty_extents;
  return true;
}

bool SlotAllocator::evict(std::uint32_t index) noexcept {
  auto const& entry = state_.index.at(index);
  std::uint64_t const payload_bytes = entry.payload_bytes;
  bool const below = (entry.lower_tiers.load(std::memory_order_relaxed) & kOnDisk) != 0;
  if (!remove(index, below ? RemovalReason::kEvictedToDisk : RemovalReason::kEvicted)) return false;
  count(state_.counters->evicted_chunks);
  count(state_.counters->evicted_bytes, payload_bytes);
  return true;
}

bool SlotAllocator::remove(std::uint32_t index, RemovalReason reason) noexcept {
  auto const& entry = state_.index.at(index);
  auto const guard = state_.index.lock(entry.key(), kLockTimeout);
  if (!guard) return false;
  if (entry.state.load(std::memory_order_relaxed) != EntryState::kReady ||
      entry.leases.load(std::memory_order_relaxed) != 0) {
    return false;
  }
  state_.removals.note(
      entry.key(),
      {.unix_s = static_cast<std::uint32_t>(state_.clock.unix_seconds()), .reason = reason});
  state_.free_entry(index);
  return true;
}

bool SlotAllocator::evict_from(SizeClass& size_class) noexcept {
  for (int refused = 0; refused < kMaxRefusals; ++refused) {
    std::uint32_t const victim = prefer_kept_below(state_.policy->victim(size_class.leaves));
    if (victim == kNoNode) return false;
    if (evict(victim)) return true;
    state_.policy->on_refused(size_class.leaves, victim);
  }
  return false;
}

// Of the first few choices, one that a tier below holds: it is not lost.
std::uint32_t SlotAllocator::prefer_kept_below(std::uint32_t victim) const noexcept {
  constexpr int kMostLookedAt = 16;
  if (state_.space.disk_directory[0] == 0) return victim;
  std::uint32_t at = victim;
  for (int seen = 0; at != kNoNode && seen < kMostLookedAt; ++seen) {
    auto const& entry = state_.index.at(at);
    bool const below = (entry.lower_tiers.load(std::memory_order_relaxed) & kOnDisk) != 0;
    if (below && entry.leases.load(std::memory_order_relaxed) == 0) return at;
    at = state_.policy->next_victim(at);
  }
  return victim;
}

bool SlotAllocator::take_back_extent(std::uint16_t for_class) noexcept {
  auto const& own = state_.space.classes[for_class];
  std::uint32_t const own_oldest = own.leaves.back;
  // Taking an extent costs a whole extent of chunks, so another class gives one up only when it has
  // not used its oldest for a full turn over all chunks longer than we have, or when we have
  // nothing to evict ourselves.
  std::uint64_t const turn = state_.index.entry_limit();
  std::uint32_t oldest = kNoNode;
  for (std::uint32_t id = 1; id <= state_.space.class_count; ++id) {
    std::uint32_t const candidate = state_.space.classes[id].leaves.back;
    if (id == for_class || candidate == kNoNode) continue;
    if (oldest == kNoNode || state_.recency.at(candidate).stamp < state_.recency.at(oldest).stamp) {
      oldest = candidate;
    }
  }
  if (release_unused_extent(for_class)) return true;
  if (oldest == kNoNode) return false;
  if (own_oldest != kNoNode &&
      state_.recency.at(oldest).stamp + turn >= state_.recency.at(own_oldest).stamp) {
    return false;
  }
  if (empty_extent(state_.extents.extent_of(state_.index.at(oldest).payload_offset))) return true;
  if (own_oldest != kNoNode) return false;
  // Something in that extent is in use; any other extent will do, for otherwise we can store
  // nothing at all.
  for (std::uint32_t extent = 0; extent < state_.extents.count(); ++extent) {
    auto const& record = state_.extents.at(extent);
    if (record.size_class != 0 && record.size_class != for_class && empty_extent(extent))
      return true;
  }
  return false;
}

bool SlotAllocator::release_unused_extent(std::uint16_t for_class) noexcept {
  bool found = false;
  for (std::uint16_t id = 1; id <= state_.space.class_count && !found; ++id) {
    found = id != for_class && state_.space.classes[id].empty_extents != 0;
  }
  if (!found) return false;
  for (std::uint32_t extent = 0; extent < state_.extents.count(); ++extent) {
    auto const& record = state_.extents.at(extent);
    if (record.size_class == 0 || record.size_class == for_class || record.live != 0) continue;
    release_extent(state_, extent);
    return true;
  }
  return false;
}

bool SlotAllocator::empty_extent(std::uint32_t extent) noexcept {
  std::uint32_t const first = state_.extents.at(extent).first_entry;
  for (std::uint32_t at = first; at != kNoEntry; at = state_.index.at(at).extent_next) {
    auto const& entry = state_.index.at(at);
    auto const entry_state = entry.state.load(std::memory_order_relaxed);
    bool const busy =
        entry_state == EntryState::kWriting || entry.leases.load(std::memory_order_relaxed) != 0;
    if (busy) return false;
  }
  for (std::uint32_t at = first; at != kNoEntry; at = state_.index.at(at).extent_next) {
    auto const& entry = state_.index.at(at);
    if (entry.state.load(std::memory_order_relaxed) != EntryState::kFree && !evict(at))
      return false;
  }
  release_extent(state_, extent);
  return true;
}

void release_extent(DramState& state, std::uint32_t extent) noexcept {
  auto& record = state.extents.at(extent);
  auto& size_class = state.space.classes[record.size_class];
  for (std::uint32_t at = record.first_entry; at != kNoEntry;) {
    auto& entry = state.index.at(at);
    state.recency.remove(size_class.free, at);
    entry.payload_offset = kUnbound;
    entry.size_class = 0;
    state.recency.push_front(state.space.unbound, at);
    at = std::exchange(entry.extent_next, kNoEntry);
  }
  if (size_class.open_extent == extent) size_class.open_extent = kNoExtent;
  --size_class.empty_extents;
  state.extents.release(extent);
}

}  // namespace lmcache
