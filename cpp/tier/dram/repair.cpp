// SPDX-License-Identifier: Apache-2.0
// What is done when a process dies inside the space lock. The entries' states, keys, slots and
// parents are the truth (entry.hpp says in which order they are written); all else is derived from
// them here.
#include <algorithm>
#include <utility>
#include <vector>

#include <lmcache/tier/dram/slot_allocator.hpp>
#include <lmcache/tier/dram/space_state.hpp>

namespace lmcache {
namespace {

// Long enough for any holder of a shard lock to be done, or to be known dead.
constexpr std::chrono::milliseconds kRepairLockTimeout{2000};

class Repair {
 public:
  explicit Repair(DramState& state) noexcept : state_{state}, limit_{state.index.entry_limit()} {}

  Result<void> run() {
    std::vector<RobustGuard> shards;
    shards.reserve(kShardCount);
    for (std::uint32_t shard = 0; shard < kShardCount; ++shard) {
      LMC_TRY_ASSIGN(auto guard, state_.index.lock_shard(shard, kRepairLockTimeout));
      shards.push_back(std::move(guard));
    }
    reset();
    bind_entries();
    link_live();
    state_.index.rebuild_all();
    release_empty_extents();
    find_open_extents();
    return {};
  }

 private:
  void reset() {
    auto& space = state_.space;
    space.unbound.clear();
    for (std::uint32_t id = 1; id <= space.class_count; ++id) {
      space.classes[id].free.clear();
      space.classes[id].leaves.clear();
      space.classes[id].open_extent = kNoExtent;
      space.classes[id].empty_extents = 0;
    }
    for (std::uint32_t extent = 0; extent < state_.extents.count(); ++extent) {
      auto& record = state_.extents.at(extent);
      record.bound = 0;
      record.live = 0;
      record.first_entry = kNoEntry;
      if (record.size_class != 0) ++space.classes[record.size_class].empty_extents;
    }
    state_.tree.initialise();
    for (auto& record : state_.namespaces.records()) {
      record.root_children = kNoEntry;
      record.entries.store(0, std::memory_order_relaxed);
      record.bytes.store(0, std::memory_order_relaxed);
    }
  }

  [[nodiscard]] bool bound(Entry const& entry) const {
    if (entry.payload_offset == kUnbound || entry.size_class == 0) return false;
    std::uint32_t const extent = state_.extents.extent_of(entry.payload_offset);
    return state_.extents.at(extent).size_class == entry.size_class;
  }

  void bind_entries() {
    for (std::uint32_t index = 0; index < limit_; ++index) {
      auto& entry = state_.index.at(index);
      entry.first_child = entry.next_sibling = entry.previous_sibling = kNoEntry;
      entry.child_count = 0;
      entry.extent_next = kNoEntry;
      if (!bound(entry)) {
        if (entry.state.load(std::memory_order_relaxed) != EntryState::kFree) {
          // Never seen; if it happens, no ref to the chunk must name what comes after it.
          entry.generation.fetch_add(1, std::memory_order_release);
          entry.state.store(EntryState::kFree, std::memory_order_release);
        }
        entry.payload_offset = kUnbound;
        entry.size_class = 0;
        state_.recency.push_front(state_.space.unbound, index);
        continue;
      }
      auto& record = state_.extents.at(state_.extents.extent_of(entry.payload_offset));
      entry.extent_next = std::exchange(record.first_entry, index);
      record.bound = std::max(record.bound, state_.extents.slot_of(entry.payload_offset) + 1);
      if (entry.state.load(std::memory_order_relaxed) == EntryState::kFree) {
        state_.recency.push_front(state_.class_of(entry).free, index);
      } else {
        state_.mark_live(entry);
        live_.push_back(index);
      }
    }
  }

  void link_live() {
    // Oldest first: every list puts its latest arrival in front.
    std::ranges::sort(live_, {},
                      [&](std::uint32_t index) { return state_.recency.at(index).stamp; });
    for (std::uint32_t const index : live_) {
      auto& entry = state_.index.at(index);
      auto& record = state_.namespaces.at(entry.namespace_id);
      record.entries.fetch_add(1, std::memory_order_relaxed);
      record.bytes.fetch_add(entry.payload_bytes, std::memory_order_relaxed);
      bool const at_root = (entry.flags & kAtRoot) != 0 && entry.lane == 0;
      std::uint32_t const parent = parent_of(entry);
      state_.tree.link(index, parent, at_root ? &record.root_children : nullptr);
      if (entry.lane == 0 && entry.fingerprint != 0) {
        state_.tree.link_fingerprint(index, entry.fingerprint);
      }
    }
    for (std::uint32_t const index : live_) {
      auto& entry = state_.index.at(index);
      if (entry.child_count == 0) state_.recency.push_front(state_.class_of(entry).leaves, index);
    }
  }

  // The dead process may have freed a parent before it let the children go.
  [[nodiscard]] std::uint32_t parent_of(Entry const& entry) const {
    if (entry.parent >= limit_) return kNoEntry;
    auto const& parent = state_.index.at(entry.parent);
    bool const live = parent.state.load(std::memory_order_relaxed) != EntryState::kFree;
    bool const related = parent.lane == entry.lane && parent.namespace_id == entry.namespace_id;
    return live && related ? entry.parent : kNoEntry;
  }

  // Where an extent was being given to a class or taken from one, nothing in it is live.
  void release_empty_extents() {
    for (std::uint32_t extent = 0; extent < state_.extents.count(); ++extent) {
      auto const& record = state_.extents.at(extent);
      if (record.size_class != 0 && record.live == 0) release_extent(state_, extent);
    }
  }

  // The slots that were never handed out.
  void find_open_extents() {
    for (std::uint32_t extent = 0; extent < state_.extents.count(); ++extent) {
      auto const& record = state_.extents.at(extent);
      if (record.size_class == 0 || record.bound == record.slots) continue;
      state_.space.classes[record.size_class].open_extent = extent;
    }
  }

  DramState& state_;
  std::uint32_t limit_;
  std::vector<std::uint32_t> live_;
};

}  // namespace

Result<void> repair_space(DramState& state) { return Repair{state}.run(); }

}  // namespace lmcache
