// SPDX-License-Identifier: Apache-2.0
#include <lmcache/index/chunk_tree.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <random>
#include <span>
#include <vector>

namespace lmcache {
namespace {

constexpr std::uint32_t kEntries = 64;
constexpr std::uint32_t kBuckets = 8;
using Indices = std::deque<std::uint32_t>;

class ChunkTreeTest : public testing::Test {
 protected:
  ChunkTreeTest() {
    tree_.initialise();
    for (auto& entry : entries_) {
      entry.parent = entry.first_child = kNoEntry;
      entry.next_sibling = entry.previous_sibling = kNoEntry;
      entry.fingerprint_next = entry.fingerprint_previous = kNoEntry;
    }
  }

  // A list of siblings, their parent and the back links checked on the way.
  [[nodiscard]] Indices siblings(std::uint32_t first, std::uint32_t parent) const {
    Indices out;
    std::uint32_t previous = kNoEntry;
    for (std::uint32_t at = first; at != kNoEntry && out.size() <= kEntries;
         at = entries_[at].next_sibling) {
      EXPECT_EQ(entries_[at].previous_sibling, previous) << "of entry " << at;
      EXPECT_EQ(entries_[at].parent, parent) << "of entry " << at;
      previous = at;
      out.push_back(at);
    }
    return out;
  }
  [[nodiscard]] Indices children(std::uint32_t parent) const {
    auto out = siblings(entries_[parent].first_child, parent);
    EXPECT_EQ(entries_[parent].child_count, out.size()) << "of entry " << parent;
    return out;
  }
  [[nodiscard]] Indices at_root() const { return siblings(root_, kNoEntry); }

  // Entries chained with this fingerprint, whose bucket others may share.
  [[nodiscard]] Indices chain(std::uint32_t fingerprint) const {
    Indices out;
    std::uint32_t previous = kNoEntry;
    for (std::uint32_t at = tree_.first_with_fingerprint(fingerprint);
         at != kNoEntry && out.size() <= kEntries; at = entries_[at].fingerprint_next) {
      EXPECT_EQ(entries_[at].fingerprint_previous, previous) << "of entry " << at;
      previous = at;
      out.push_back(at);
    }
    return out;
  }
  void expect_alone(std::uint32_t index) const {
    EXPECT_EQ(entries_[index].parent, kNoEntry) << "of entry " << index;
    EXPECT_EQ(entries_[index].next_sibling, kNoEntry) << "of entry " << index;
    EXPECT_EQ(entries_[index].previous_sibling, kNoEntry) << "of entry " << index;
  }

  std::vector<Entry> entries_{kEntries};
  // Three quarters of another bucket table: a power of two of it is used.
  std::array<std::uint32_t, kBuckets + kBuckets / 2> memory_{};
  ChunkTree tree_{std::as_writable_bytes(std::span{memory_}), entries_};
  std::uint32_t root_ = kNoEntry;
};

TEST_F(ChunkTreeTest, ChildrenAreMostRecentFirst) {
  for (std::uint32_t child : {1U, 2U, 3U}) tree_.link(child, 0, nullptr);
  EXPECT_EQ(children(0), (Indices{3, 2, 1}));
}

TEST_F(ChunkTreeTest, AChildLeavesFromAnywhere) {
  for (std::uint32_t gone : {1U, 2U, 3U}) {
    Indices expected{3, 2, 1};
    for (std::uint32_t child : {1U, 2U, 3U}) tree_.link(child, 0, nullptr);
    tree_.unlink(gone, nullptr);
    std::erase(expected, gone);
    EXPECT_EQ(children(0), expected);
    expect_alone(gone);
    tree_.orphan_children(0);
  }
}

TEST_F(ChunkTreeTest, TheRootHasChildrenToo) {
  for (std::uint32_t child : {1U, 2U, 3U}) tree_.link(child, kNoEntry, &root_);
  EXPECT_EQ(at_root(), (Indices{3, 2, 1}));
  tree_.unlink(2, &root_);
  EXPECT_EQ(at_root(), (Indices{3, 1}));
  tree_.unlink(3, &root_);
  EXPECT_EQ(at_root(), (Indices{1}));
  tree_.unlink(1, &root_);
  EXPECT_EQ(root_, kNoEntry);
}

// Those of other lanes: their root keeps no list.
TEST_F(ChunkTreeTest, WithoutAListAtTheRootAnEntryIsAlone) {
  entries_[1].next_sibling = entries_[1].previous_sibling = entries_[1].parent = 7;
  tree_.link(1, kNoEntry, nullptr);
  expect_alone(1);
  tree_.unlink(1, nullptr);
  expect_alone(1);
}

TEST_F(ChunkTreeTest, OrphansHaveNoParentAndLeaveAlone) {
  tree_.link(0, kNoEntry, &root_);
  for (std::uint32_t child : {1U, 2U, 3U}) tree_.link(child, 0, nullptr);
  tree_.link(4, 2, nullptr);
  tree_.orphan_children(0);
  EXPECT_EQ(children(0), Indices{});
  for (std::uint32_t child : {1U, 2U, 3U}) expect_alone(child);
  EXPECT_EQ(children(2), Indices{4}) << "grandchildren stay where they are";
  // An orphan is no first child of the root, though neither has a parent.
  tree_.unlink(1, &root_);
  EXPECT_EQ(at_root(), Indices{0});
  EXPECT_EQ(children(0), Indices{});
  tree_.orphan_children(5);
  EXPECT_EQ(children(5), Indices{});
}

TEST_F(ChunkTreeTest, NoFingerprintsAtFirst) {
  for (std::uint32_t fingerprint = 0; fingerprint < 2 * kBuckets; ++fingerprint) {
    EXPECT_EQ(tree_.first_with_fingerprint(fingerprint), kNoEntry);
  }
}

TEST_F(ChunkTreeTest, FingerprintChainsAreMostRecentFirst) {
  tree_.link_fingerprint(0, 3);
  tree_.link_fingerprint(1, 3);
  tree_.link_fingerprint(2, 3 + kBuckets);  // the same bucket
  tree_.link_fingerprint(3, 4);
  EXPECT_EQ(chain(3), (Indices{2, 1, 0}));
  EXPECT_EQ(chain(3 + kBuckets), (Indices{2, 1, 0}));
  EXPECT_EQ(chain(4), (Indices{3}));
  EXPECT_EQ(entries_[2].fingerprint, 3 + kBuckets);
  tree_.unlink_fingerprint(1);
  EXPECT_EQ(entries_[1].fingerprint, 0U);
  EXPECT_EQ(chain(3), (Indices{2, 0}));
  tree_.unlink_fingerprint(2);
  tree_.unlink_fingerprint(0);
  EXPECT_EQ(chain(3), Indices{});
  EXPECT_EQ(chain(4), (Indices{3}));
}

TEST_F(ChunkTreeTest, UnlinkingWhatHasNoFingerprintChangesNothing) {
  tree_.link_fingerprint(0, kBuckets);  // the bucket of fingerprint 0
  tree_.unlink_fingerprint(1);
  EXPECT_EQ(chain(0), Indices{0});
  tree_.unlink_fingerprint(0);
  tree_.unlink_fingerprint(0);
  EXPECT_EQ(chain(0), Indices{});
}

TEST_F(ChunkTreeTest, BucketsBeyondAPowerOfTwoAreNotTouched) {
  for (std::uint32_t i = 0; i < kEntries; ++i) tree_.link_fingerprint(i, i + 1);
  for (std::uint32_t i = kBuckets; i < memory_.size(); ++i) EXPECT_EQ(memory_[i], 0U);
}

TEST_F(ChunkTreeTest, RandomFamiliesAgreeWithAMapOfLists) {
  constexpr unsigned kSeed = 20240714;
  constexpr std::uint32_t kGone = kEntries + 1;  // no parent, and not in the tree
  constexpr std::uint32_t kOrphan = kEntries + 2;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  std::mt19937 random{kSeed};
  std::map<std::uint32_t, Indices> expected;  // by parent; kNoEntry is the root
  std::vector<std::uint32_t> parent_of(kEntries, kGone);
  for (int step = 0; step < 20'000; ++step) {
    auto const index = static_cast<std::uint32_t>(random() % kEntries);
    auto& parent = parent_of[index];
    if (parent == kGone) {
      auto const other = static_cast<std::uint32_t>(random() % kEntries);
      parent = other == index || parent_of[other] == kGone ? kNoEntry : other;
      tree_.link(index, parent, parent == kNoEntry ? &root_ : nullptr);
      expected[parent].push_front(index);
    } else {
      for (auto const child : expected[index]) parent_of[child] = kOrphan;
      expected.erase(index);
      tree_.orphan_children(index);
      tree_.unlink(index, parent == kNoEntry || parent == kOrphan ? &root_ : nullptr);
      if (parent != kOrphan) std::erase(expected[parent], index);
      expect_alone(index);
      parent = kGone;
    }
    ASSERT_EQ(at_root(), expected[kNoEntry]) << "step " << step;
    for (std::uint32_t i = 0; i < kEntries; ++i) {
      ASSERT_EQ(children(i), expected[i]) << "of entry " << i << ", step " << step;
    }
    ASSERT_FALSE(HasFailure()) << "step " << step;
  }
}

TEST_F(ChunkTreeTest, RandomFingerprintsAgreeWithLists) {
  constexpr unsigned kSeed = 20240715;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  std::mt19937 random{kSeed};
  std::array<Indices, kBuckets> expected;
  for (int step = 0; step < 20'000; ++step) {
    auto const index = static_cast<std::uint32_t>(random() % kEntries);
    std::uint32_t const old = entries_[index].fingerprint;
    if (old == 0) {
      auto const fingerprint = static_cast<std::uint32_t>(random() | 1U << 31);
      tree_.link_fingerprint(index, fingerprint);
      ASSERT_EQ(entries_[index].fingerprint, fingerprint);
      expected[fingerprint % kBuckets].push_front(index);
    } else {
      tree_.unlink_fingerprint(index);
      std::erase(expected[old % kBuckets], index);
    }
    for (std::uint32_t bucket = 0; bucket < kBuckets; ++bucket) {
      ASSERT_EQ(chain(bucket), expected[bucket]) << "step " << step;
    }
    ASSERT_FALSE(HasFailure()) << "step " << step;
  }
}

}  // namespace
}  // namespace lmcache
