// SPDX-License-Identifier: Apache-2.0
// What must hold of a disk directory whenever nobody is inside its lock.
#pragma once

#include <algorithm>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <lmcache/tier/disk/directory_state.hpp>

#include "support/must.hpp"

namespace lmcache::test {

class DirectoryCheck {
 public:
  explicit DirectoryCheck(DirectoryState& state)
      : state_{state}, space_{state.space}, seen_(space_.entry_limit) {}

  [[nodiscard]] testing::AssertionResult run() {
    if (space_.entry_limit > state_.entries.size()) return bad("more entries than there are");
    check_lists();
    check_slabs();
    check_entries();
    if (problem_.empty()) return testing::AssertionSuccess();
    return bad(problem_);
  }

 private:
  static testing::AssertionResult bad(std::string const& what) {
    return testing::AssertionFailure() << what;
  }
  void expect(bool condition, std::string const& what) {
    if (!condition && problem_.empty()) problem_ = what;
  }

  void walk(RecencyHead const& list, DiskState state, std::uint32_t disk_class) {
    std::uint32_t count = 0;
    std::uint32_t previous = kNoNode;
    for (std::uint32_t at = list.front; at != kNoNode; at = state_.recency.at(at).next) {
      if (at >= space_.entry_limit || seen_[at]) return expect(false, "an entry is in two lists");
      seen_[at] = true;
      auto const& entry = state_.entries[at];
      expect(entry.state == state, "an entry is in a list of another state");
      expect(state_.recency.at(at).previous == previous, "a list does not lead back");
      if (disk_class != 0) {
        expect(state_.slabs[entry.slab].disk_class == disk_class, "in the list of another class");
      }
      previous = at;
      ++count;
    }
    expect(list.back == previous && list.count == count, "a list ends elsewhere");
  }
  void check_lists() {
    walk(space_.unbound, DiskState::kNoSlot, 0);
    for (std::uint32_t id = 1; id <= space_.class_count; ++id) {
      walk(space_.classes[id].free, DiskState::kFree, id);
      walk(space_.classes[id].used, DiskState::kReady, id);
    }
  }

  void check_slabs() {
    std::uint64_t bytes = 0;
    for (std::uint32_t slab = 0; slab < space_.slab_limit; ++slab) {
      auto const& record = state_.slabs[slab];
      if (record.state == SlabState::kNone) continue;
      bytes += record.size_bytes;
      if (record.state == SlabState::kPreparing) continue;
      expect(record.slots * record.slot_bytes <= record.size_bytes, "more slots than room");
      expect(record.bound <= record.slots, "more bound slots than there are");
      std::uint32_t live = 0;
      std::set<std::uint64_t> offsets;
      for (std::uint32_t at = record.first_entry; at != kNoRecord;
           at = state_.entries[at].slab_next) {
        auto const& entry = state_.entries[at];
        expect(entry.slab == slab, "in the chain of another slab");
        expect(offsets.insert(entry.offset).second, "two entries for a slot");
        expect(entry.offset / record.slot_bytes < record.bound, "behind the bound slots");
        if (offsets.size() > record.slots) return;
        live += entry.state != DiskState::kFree ? 1 : 0;
      }
      expect(live == record.live, "a slab counts its live entries wrong");
      chained_ += static_cast<std::uint32_t>(offsets.size());
    }
    expect(bytes == space_.slab_bytes, "the slabs' bytes are counted wrong");
    expect(space_.fixed_bytes + bytes <= space_.limit_bytes, "more than the limit");
  }

  void check_entries() {
    std::uint64_t used = 0;
    std::uint64_t chunks = 0;
    std::uint32_t bound = 0;
    std::set<ChunkKey> keys;
    for (std::uint32_t index = 0; index < space_.entry_limit; ++index) {
      auto const& entry = state_.entries[index];
      bool const named = entry.state == DiskState::kReady || entry.state == DiskState::kWriting;
      bool const in_list = entry.state != DiskState::kWriting && entry.state != DiskState::kDropped;
      expect(seen_[index] == in_list, "an entry is in no list");
      if (named) expect(state_.find(entry.key) == index, "an entry is not found");
      if (named) expect(keys.insert(entry.key).second, "two entries for a key");
      if (entry.state == DiskState::kFree || named) ++bound;
      if (entry.state != DiskState::kReady) continue;
      used += entry.payload_bytes;
      ++chunks;
    }
    expect(bound == chained_, "an entry is in no slab's chain");
    expect(used == space_.used_bytes && chunks == space_.chunks, "chunks are counted wrong");
  }

  DirectoryState& state_;
  DirectorySpace& space_;
  std::vector<bool> seen_;
  std::uint32_t chained_ = 0;
  std::string problem_;
};

[[nodiscard]] inline testing::AssertionResult directory_is_sound(DirectoryState& state) {
  auto const guard = must(state.lock(std::chrono::seconds{5}));
  return DirectoryCheck{state}.run();
}

// Nobody reads, writes or takes anything.
[[nodiscard]] inline testing::AssertionResult directory_is_at_rest(DirectoryState& state) {
  auto const guard = must(state.lock(std::chrono::seconds{5}));
  for (std::uint32_t index = 0; index < state.space.entry_limit; ++index) {
    auto const& entry = state.entries[index];
    bool const busy = entry.state == DiskState::kWriting || entry.state == DiskState::kDropped ||
                      (entry.state == DiskState::kReady && entry.readers != 0);
    if (busy) return testing::AssertionFailure() << "entry " << index << " is in use";
  }
  for (std::uint32_t slab = 0; slab < state.space.slab_limit; ++slab) {
    if (state.slabs[slab].state == SlabState::kPreparing) {
      return testing::AssertionFailure() << "slab " << slab << " is being made";
    }
  }
  return testing::AssertionSuccess();
}

}  // namespace lmcache::test
