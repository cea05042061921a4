// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>
#include <vector>

#include <lmcache/tier/disk/directory_state.hpp>

namespace lmcache {
namespace {

class Rebuild {
 public:
  explicit Rebuild(DirectoryState& state) noexcept : state_{state}, space_{state.space} {}

  void run() {
    reset();
    ready_.reserve(space_.entry_limit);
    for (std::uint32_t index = 0; index < space_.entry_limit; ++index) {
      // Of a large directory every chain head is a cache miss: it is asked for ahead.
      if (std::uint32_t const later = index + kPrefetch; later < space_.entry_limit) {
        auto const bucket = state_.entries[later].key.prefix64() & (state_.buckets.size() - 1);
        __builtin_prefetch(&state_.buckets[bucket], 1);
      }
      bind(index);
    }
    link_ready();
    find_open_slabs();
  }

 private:
  static constexpr std::uint32_t kPrefetch = 16;

  void reset() {
    space_.unbound.clear();
    for (std::uint32_t id = 1; id <= space_.class_count; ++id) {
      auto& disk_class = space_.classes[id];
      disk_class.free.clear();
      disk_class.used.clear();
      disk_class.open_slab.fill(kNoSlab);
    }
    space_.slab_bytes = 0;
    for (std::uint32_t slab = 0; slab < space_.slab_limit; ++slab) {
      auto& record = state_.slabs[slab];
      record.bound = record.live = 0;
      record.first_entry = kNoRecord;
      if (record.state != SlabState::kNone) space_.slab_bytes += record.size_bytes;
    }
    std::ranges::fill(state_.buckets, kNoRecord);
    space_.used_bytes = 0;
    space_.chunks = 0;
  }

  void unbind(std::uint32_t index) {
    state_.entries[index].state = DiskState::kNoSlot;
    state_.recency.push_front(space_.unbound, index);
  }

  void bind(std::uint32_t index) {
    auto& entry = state_.entries[index];
    if (entry.state == DiskState::kNoSlot) return unbind(index);
    auto& slab = state_.slabs[entry.slab];
    if (slab.state == SlabState::kNone) return unbind(index);
    if (entry.state == DiskState::kDropped) {
      // Its writer, or who buries it, unbinds it.
      if (slab.state == SlabState::kPreparing) return;
      entry.state = DiskState::kFree;  // died before the slab was taken
    }
    entry.slab_next = std::exchange(slab.first_entry, index);
    slab.bound =
        std::max(slab.bound, static_cast<std::uint32_t>(entry.offset / slab.slot_bytes) + 1);
    switch (entry.state) {
      case DiskState::kFree:
        state_.recency.push_front(space_.classes[slab.disk_class].free, index);
        return;
      case DiskState::kReady:
        ready_.push_back({entry.last_use, index, slab.disk_class});
        used_bytes_ += entry.payload_bytes;
        [[fallthrough]];
      default:
        ++slab.live;
    }
    state_.link(index);
  }

  void link_ready() {
    // Oldest first: each goes in front.
    auto const before = [this](Ready const& a, Ready const& b) {
      if (a.last_use != b.last_use) return a.last_use < b.last_use;
      return state_.entries[a.index].sequence < state_.entries[b.index].sequence;
    };
    if (!std::ranges::is_sorted(ready_, before)) std::ranges::sort(ready_, before);
    for (auto const& [last_use, index, disk_class] : ready_) {
      state_.recency.push_front(space_.classes[disk_class].used, index);
    }
    space_.used_bytes = used_bytes_;
    space_.chunks = ready_.size();
  }

  void find_open_slabs() {
    for (std::uint32_t slab = 0; slab < space_.slab_limit; ++slab) {
      auto const& record = state_.slabs[slab];
      if (record.state != SlabState::kReady || record.bound == record.slots) continue;
      space_.classes[record.disk_class].open_slab[record.folder] = slab;
    }
  }

  DirectoryState& state_;
  DirectorySpace& space_;
  // All that sorting them takes, so that it stays in the caches.
  struct Ready {
    std::uint64_t last_use;
    std::uint32_t index;
    std::uint16_t disk_class;
  };
  std::vector<Ready> ready_;
  std::uint64_t used_bytes_ = 0;
};

}  // namespace

void rebuild_directory(DirectoryState& state) { Rebuild{state}.run(); }

}  // namespace lmcache
