// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/dram/space_state.hpp>

namespace lmcache {

DramState::DramState(Segment& mapped, Clock const& time, EvictionKind eviction)
    : segment{mapped},
      clock{time},
      header{mapped.header()},
      processes{mapped.region(Region::kProcesses), mapped.fd()},
      extents{mapped.region(Region::kExtents), mapped.header().extent_count,
              mapped.header().extent_bytes},
      namespaces{mapped.region(Region::kNamespaces)},
      index{{.shards = mapped.region(Region::kShards),
             .buckets = mapped.region(Region::kBuckets),
             .entries = mapped.region(Region::kEntries)}},
      tree{mapped.region(Region::kFingerprints), mapped.region_of<Entry>(Region::kEntries)},
      recency{mapped.region(Region::kRecency)},
      policy{make_eviction_policy(eviction, recency)},
      space{*reinterpret_cast<SpaceState*>(mapped.region(Region::kSpace).data())},
      requests{mapped.region(Region::kRequests)},
      removals{mapped.region(Region::kRemovals)},
      leased{static_cast<std::uint16_t*>(std::calloc(index.capacity(), sizeof(std::uint16_t)))} {}

Result<RobustGuard> DramState::lock_space(std::chrono::milliseconds timeout) {
  LMC_TRY_ASSIGN(auto const found, header.space_lock.lock(timeout));
  RobustGuard guard{header.space_lock};
  if (found == LockState::kOwnerDied) {
    // When the repair fails the lock stays marked, and the next owner tries again.
    LMC_TRY(repair_space(*this));
    space.repaired.fetch_add(1, std::memory_order_relaxed);
    if (counters != nullptr) count(counters->repaired_locks);
    header.space_lock.mark_consistent();
  }
  return guard;
}

void DramState::free_entry(std::uint32_t index_of_entry) noexcept {
  auto& entry = index.at(index_of_entry);
  auto& record = namespaces.at(entry.namespace_id);
  auto* const root_children =
      (entry.flags & kAtRoot) != 0 && entry.lane == 0 ? &record.root_children : nullptr;
  // In this order: whoever dies in between leaves an entry that no old ref names, never a free one
  // that an old ref would name again once it holds another chunk.
  std::uint32_t const next = entry.generation.load(std::memory_order_relaxed) + 1;
  entry.generation.store(next != 0 ? next : 1, std::memory_order_release);
  entry.state.store(EntryState::kFree, std::memory_order_release);
  index.erase(index_of_entry);
  record.entries.fetch_sub(1, std::memory_order_relaxed);
  record.bytes.fetch_sub(entry.payload_bytes, std::memory_order_relaxed);
  tree.unlink_fingerprint(index_of_entry);
  auto& size_class = class_of(entry);
  if (entry.child_count == 0) recency.remove(size_class.leaves, index_of_entry);
  tree.orphan_children(index_of_entry);
  std::uint32_t const parent = entry.parent;
  tree.unlink(index_of_entry, root_children);
  if (parent != kNoEntry && index.at(parent).child_count == 0) {
    policy->on_leaf(class_of(index.at(parent)).leaves, parent);
  }
  recency.push_front(size_class.free, index_of_entry);
  if (--extents.at(extents.extent_of(entry.payload_offset)).live == 0) ++size_class.empty_extents;
}

void DramState::mark_live(Entry const& entry) noexcept {
  if (extents.at(extents.extent_of(entry.payload_offset)).live++ == 0) {
    --class_of(entry).empty_extents;
  }
}

}  // namespace lmcache
