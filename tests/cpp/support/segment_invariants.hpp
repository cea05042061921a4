// SPDX-License-Identifier: Apache-2.0
// Walks a whole segment and says what is wrong with it. Nobody may be using it meanwhile; leases
// may be held.
#pragma once

#include <bit>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <lmcache/tier/dram/segment_use.hpp>
#include <lmcache/tier/dram/space_state.hpp>

namespace lmcache::test {

class SegmentInvariants {
 public:
  explicit SegmentInvariants(DramState& state)
      : state_{state}, limit_{state.index.entry_limit()}, seen_(limit_, Place::kNowhere) {}

  // What is wrong; empty when all is well.
  std::vector<std::string> check() {
    auto const guard = state_.lock_space(std::chrono::seconds{5});
    if (!guard) {
      wrong("the space lock cannot be taken");
      return problems_;
    }
    walk_lists();
    walk_extents();
    walk_hash_chains();
    walk_fingerprints();
    check_entries();
    check_sums();
    return problems_;
  }

 private:
  enum class Place : std::uint8_t { kNowhere, kUnboundList, kFreeList, kLeafList };

  template <class... Parts>
  void wrong(Parts const&... parts) {
    if (problems_.size() < 20) problems_.push_back((as_text(parts) + ...));
  }
  static std::string as_text(char const* text) { return text; }
  static std::string as_text(std::string const& text) { return text; }
  static std::string as_text(std::uint64_t number) { return std::to_string(number); }

  bool live(std::uint32_t index) const {
    return state_.index.at(index).state.load() != EntryState::kFree;
  }

  void walk_list(RecencyHead const& list, Place place, std::uint32_t size_class) {
    std::uint32_t previous = kNoNode;
    std::uint32_t count = 0;
    for (std::uint32_t at = list.front; at != kNoNode; at = state_.recency.at(at).next) {
      if (at >= limit_) return wrong("list of class ", size_class, " names entry ", at);
      if (state_.recency.at(at).previous != previous) wrong("back link of entry ", at);
      if (seen_[at] != Place::kNowhere) return wrong("entry ", at, " is in two lists");
      if (state_.index.at(at).size_class != size_class)
        wrong("entry ", at, " in a list of class ", size_class);
      seen_[at] = place;
      previous = at;
      ++count;
    }
    if (list.back != previous) wrong("end of a list of class ", size_class);
    if (list.count != count)
      wrong("a list of class ", size_class, " counts ", list.count, ", has ", count);
  }

  void walk_lists() {
    walk_list(state_.space.unbound, Place::kUnboundList, 0);
    for (std::uint32_t id = 1; id <= state_.space.class_count; ++id) {
      walk_list(state_.space.classes[id].free, Place::kFreeList, id);
      walk_list(state_.space.classes[id].leaves, Place::kLeafList, id);
    }
  }

  void walk_extents() {
    in_extent_.assign(limit_, 0);
    std::vector<std::uint32_t> empty(kMaxSizeClasses + 1, 0);
    for (std::uint32_t extent = 0; extent < state_.extents.count(); ++extent) {
      auto const& record = state_.extents.at(extent);
      if (record.size_class == 0) continue;
      auto const& size_class = state_.space.classes[record.size_class];
      if (record.size_class > state_.space.class_count)
        wrong("extent ", extent, " has a class that is not");
      if (record.slot_bytes != size_class.slot_bytes) wrong("slot size of extent ", extent);
      if (record.reserved == 0) wrong("extent ", extent, " is used without memory");
      std::set<std::uint32_t> slots;
      std::uint32_t alive = 0;
      for (std::uint32_t at = record.first_entry; at != kNoEntry;
           at = state_.index.at(at).extent_next) {
        if (at >= limit_ || slots.size() > record.slots) return wrong("chain of extent ", extent);
        auto const& entry = state_.index.at(at);
        ++in_extent_[at];
        if (entry.size_class != record.size_class)
          wrong("entry ", at, " of another class in extent ", extent);
        if (state_.extents.extent_of(entry.payload_offset) != extent)
          wrong("entry ", at, " lies elsewhere");
        std::uint32_t const slot = state_.extents.slot_of(entry.payload_offset);
        if (state_.extents.slot_offset(extent, slot) != entry.payload_offset)
          wrong("entry ", at, " between slots");
        if (slot >= record.bound || !slots.insert(slot).second)
          wrong("slot ", slot, " of extent ", extent);
        alive += live(at) ? 1 : 0;
      }
      if (slots.size() != record.bound) {
        wrong("extent ", extent, " lost slots: ", slots.size(), " of ", record.bound);
      }
      if (record.live != alive)
        wrong("extent ", extent, " counts ", record.live, " live, has ", alive);
      if (alive == 0) ++empty[record.size_class];
      if (record.bound < record.slots && size_class.open_extent != extent) {
        wrong("extent ", extent, " has slots that are never handed out");
      }
    }
    for (std::uint32_t id = 1; id <= state_.space.class_count; ++id) {
      if (state_.space.classes[id].empty_extents != empty[id]) wrong("empty extents of class ", id);
    }
  }

  void walk_hash_chains() {
    in_hash_.assign(limit_, 0);
    auto const heads = state_.segment.region_of<std::atomic<std::uint32_t>>(Region::kBuckets);
    std::uint64_t const mask = std::bit_floor(heads.size()) - 1;
    for (std::uint64_t bucket = 0; bucket <= mask; ++bucket) {
      std::uint32_t steps = 0;
      for (std::uint32_t at = heads[bucket]; at != kNoEntry; at = state_.index.at(at).hash_next) {
        if (at >= limit_ || ++steps > limit_) return wrong("hash chain ", bucket);
        ++in_hash_[at];
        if (!live(at)) wrong("free entry ", at, " in a hash chain");
        if ((state_.index.at(at).key().prefix64() & mask) != bucket)
          wrong("entry ", at, " in a wrong hash chain");
      }
    }
  }

  void walk_fingerprints() {
    in_fingerprints_.assign(limit_, 0);
    auto const heads = state_.segment.region_of<std::uint32_t>(Region::kFingerprints);
    std::uint64_t const mask = std::bit_floor(heads.size()) - 1;
    for (std::uint64_t bucket = 0; bucket <= mask; ++bucket) {
      std::uint32_t previous = kNoEntry;
      std::uint32_t steps = 0;
      for (std::uint32_t at = heads[bucket]; at != kNoEntry;
           at = state_.index.at(at).fingerprint_next) {
        if (at >= limit_ || ++steps > limit_) return wrong("fingerprint chain ", bucket);
        auto const& entry = state_.index.at(at);
        ++in_fingerprints_[at];
        if (entry.fingerprint_previous != previous) wrong("fingerprint back link of ", at);
        if ((entry.fingerprint & mask) != bucket || entry.lane != 0)
          wrong("fingerprint of entry ", at);
        previous = at;
      }
    }
  }

  std::uint32_t count_children(std::uint32_t first, std::uint32_t parent) {
    std::uint32_t count = 0;
    std::uint32_t previous = kNoEntry;
    for (std::uint32_t at = first; at != kNoEntry; at = state_.index.at(at).next_sibling) {
      if (at >= limit_ || ++count > limit_) return wrong("children of entry ", parent), count;
      if (state_.index.at(at).parent != parent || !live(at))
        wrong("entry ", at, " is no child of ", parent);
      if (state_.index.at(at).previous_sibling != previous) wrong("sibling of entry ", at);
      previous = at;
    }
    return count;
  }

  void check_entries() {
    std::uint64_t attached = 0;
    for (std::uint32_t i = 0; i < kMaxProcesses; ++i) {
      if (state_.processes.attached(i)) attached |= std::uint64_t{1} << i;
    }
    std::uint64_t family = 0;
    for (std::uint32_t index = 0; index < limit_; ++index) {
      auto const& entry = state_.index.at(index);
      if (entry.generation.load() == 0) wrong("entry ", index, " has generation 0");
      if ((entry.leases.load() & ~attached) != 0) wrong("entry ", index, " is leased by nobody");
      if (state_.process != kNoProcess) {
        bool const bit = (entry.leases.load() & state_.own_bit()) != 0;
        if (bit != (state_.leased[index] != 0)) wrong("our own lease of entry ", index);
      }
      if (live(index)) {
        check_live(index, attached);
        family += entry.child_count + (entry.parent == kNoEntry ? 1 : 0);
      } else {
        check_free(index);
      }
    }
    std::uint64_t alive = 0;
    for (std::uint32_t index = 0; index < limit_; ++index) alive += live(index) ? 1 : 0;
    if (family != alive) wrong("children and roots are ", family, ", entries ", alive);
  }

  void check_free(std::uint32_t index) {
    auto const& entry = state_.index.at(index);
    bool const bound = entry.size_class != 0;
    if (bound != (entry.payload_offset != kUnbound)) wrong("entry ", index, " is half bound");
    if (in_extent_[index] != (bound ? 1 : 0)) wrong("free entry ", index, " in its extent");
    if (seen_[index] != (bound ? Place::kFreeList : Place::kUnboundList))
      wrong("free entry ", index, " is lost");
    if (entry.leases.load() != 0) wrong("free entry ", index, " is leased");
    if (in_hash_[index] != 0 || in_fingerprints_[index] != 0)
      wrong("free entry ", index, " can be found");
  }

  void check_live(std::uint32_t index, std::uint64_t attached) {
    auto const& entry = state_.index.at(index);
    bool const writing = entry.state.load() == EntryState::kWriting;
    if (in_extent_[index] != 1) wrong("entry ", index, " is in ", in_extent_[index], " extents");
    if (in_hash_[index] != 1) wrong("entry ", index, " is in ", in_hash_[index], " hash chains");
    if (in_fingerprints_[index] != (entry.fingerprint != 0 ? 1 : 0))
      wrong("fingerprint of entry ", index);
    if (!keys_.insert(entry.key()).second) wrong("entry ", index, " has the key of another");
    bool const leaf = entry.child_count == 0;
    if (seen_[index] != (leaf ? Place::kLeafList : Place::kNowhere))
      wrong("entry ", index, " as a leaf");
    if (writing && ((attached >> entry.writer) & 1) == 0) wrong("nobody writes entry ", index);
    if (count_children(entry.first_child, index) != entry.child_count)
      wrong("child count of entry ", index);
    std::uint64_t const tokens_at = (entry.payload_bytes + 3) / 4 * 4;
    if (tokens_at + std::uint64_t{entry.valid_tokens} * 4 > state_.class_of(entry).slot_bytes) {
      wrong("entry ", index, " is larger than its slot");
    }
    if (state_.namespaces.at(entry.namespace_id).used.load() == 0)
      wrong("namespace of entry ", index);
    if (entry.parent == kNoEntry) return;
    if (entry.parent >= limit_ || !live(entry.parent))
      return wrong("parent of entry ", index, " is gone");
    auto const& parent = state_.index.at(entry.parent);
    if (parent.lane != entry.lane || parent.namespace_id != entry.namespace_id)
      wrong("parent of entry ", index);
  }

  void check_sums() {
    std::uint32_t bound = 0;
    for (std::uint32_t extent = 0; extent < state_.extents.count(); ++extent) {
      if (state_.extents.at(extent).size_class != 0) bound += state_.extents.at(extent).bound;
    }
    std::uint32_t with_slot = 0;
    std::vector<std::uint64_t> entries(kMaxNamespaces, 0);
    std::vector<std::uint64_t> bytes(kMaxNamespaces, 0);
    std::vector<std::uint32_t> roots(kMaxNamespaces, 0);
    for (std::uint32_t index = 0; index < limit_; ++index) {
      auto const& entry = state_.index.at(index);
      with_slot += entry.size_class != 0 ? 1 : 0;
      if (!live(index)) continue;
      ++entries[entry.namespace_id];
      bytes[entry.namespace_id] += entry.payload_bytes;
      roots[entry.namespace_id] += entry.lane == 0 && (entry.flags & kAtRoot) != 0 ? 1 : 0;
    }
    if (bound != with_slot) wrong("free + ready + writing is ", with_slot, ", slots are ", bound);
    for (std::uint16_t id = 0; id < kMaxNamespaces; ++id) {
      auto const& record = state_.namespaces.at(id);
      if (record.used.load() == 0) continue;
      if (record.entries.load() != entries[id]) wrong("entries of namespace ", id);
      if (record.bytes.load() != bytes[id]) wrong("bytes of namespace ", id);
      if (count_root_children(id) != roots[id]) wrong("children of the root of namespace ", id);
    }
  }

  std::uint32_t count_root_children(std::uint16_t id) {
    std::uint32_t count = 0;
    for (std::uint32_t at = state_.namespaces.at(id).root_children; at != kNoEntry;
         at = state_.index.at(at).next_sibling) {
      if (at >= limit_ || ++count > limit_) return wrong("root of namespace ", id), count;
      auto const& entry = state_.index.at(at);
      bool const belongs =
          live(at) && entry.namespace_id == id && entry.lane == 0 && (entry.flags & kAtRoot) != 0;
      if (!belongs) wrong("entry ", at, " is no root of namespace ", id);
    }
    return count;
  }

  DramState& state_;
  std::uint32_t limit_;
  std::vector<Place> seen_;
  std::vector<std::uint32_t> in_extent_;
  std::vector<std::uint32_t> in_hash_;
  std::vector<std::uint32_t> in_fingerprints_;
  std::set<ChunkKey> keys_;
  std::vector<std::string> problems_;
};

// EXPECT_TRUE(segment_is_sound(state))
[[nodiscard]] inline testing::AssertionResult segment_is_sound(DramState& state) {
  auto const problems = SegmentInvariants{state}.check();
  if (problems.empty()) return testing::AssertionSuccess();
  auto failure = testing::AssertionFailure();
  for (auto const& problem : problems) failure << "\n  " << problem;
  return failure;
}

// Nobody holds anything: all slots are free or ready, none is leased.
[[nodiscard]] inline testing::AssertionResult nothing_is_held(DramState& state) {
  auto const use = measure_use(state);
  if (!use) return testing::AssertionFailure() << use.error().message();
  auto const& u = use.value();
  if (u.free_slots + u.ready == u.bound_slots && u.leased == 0 && u.writing == 0)
    return testing::AssertionSuccess();
  return testing::AssertionFailure()
         << u.free_slots << " free + " << u.ready << " ready of " << u.bound_slots << ", "
         << u.writing << " writing, " << u.leased << " leased";
}

}  // namespace lmcache::test
