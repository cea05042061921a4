// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <thread>

#include <gtest/gtest.h>

#include "support/segment_invariants.hpp"
#include "support/tier_scene.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint32_t kChunk = 64;

TEST(PartialMatch, TheLongestOfManyChildrenWins) {
  TierScene scene;
  auto const base = prompt_of(1, kChunk);
  for (std::uint32_t shared = 20; shared < 30; ++shared) {
    scene.store(
        branch_of(branch_of(base, kChunk, 1, 2 * kChunk), kChunk + shared, shared, 2 * kChunk));
  }
  auto const longest = branch_of(base, kChunk, 1, 2 * kChunk);
  EXPECT_EQ(scene.hit(longest), kChunk + 29);
  EXPECT_EQ(scene.hit(branch_of(longest, kChunk + 25, 99, 2 * kChunk)), kChunk + 25);
}

TEST(PartialMatch, ASeventeenthCandidateIsNotLookedAt) {
  // A bound on the time of a look-up: of children that begin with other tokens, the latest 16 are
  // compared; of those that begin with the same 16 tokens, too.
  TierScene scene;
  auto const base = prompt_of(1, kChunk);
  auto const oldest = branch_of(base, kChunk, 1000, 2 * kChunk);
  scene.store(oldest);
  for (std::uint64_t seed = 0; seed < 15; ++seed)
    scene.store(branch_of(base, kChunk, seed, 2 * kChunk));
  EXPECT_EQ(scene.hit(branch_of(oldest, kChunk + 10, 7, 2 * kChunk)), kChunk + 10);
  scene.store(branch_of(base, kChunk, 15, 2 * kChunk));
  EXPECT_EQ(scene.hit(branch_of(oldest, kChunk + 10, 7, 2 * kChunk)), kChunk);
  // Those 16 do not begin with the same 16 tokens, so they do not crowd it out here.
  EXPECT_EQ(scene.hit(branch_of(oldest, kChunk + 20, 7, 2 * kChunk)), kChunk + 20);
  for (std::uint64_t seed = 0; seed < 16; ++seed) {
    scene.store(branch_of(oldest, kChunk + 17, seed, 2 * kChunk));
  }
  EXPECT_EQ(scene.hit(branch_of(oldest, kChunk + 20, 7, 2 * kChunk)), kChunk + 17);
}

TEST(PartialMatch, FewerTokensThanAFingerprintHasAreFoundToo) {
  TierScene scene;
  scene.store(prompt_of(1, 10));
  scene.store(prompt_of(2, 15));
  scene.store(prompt_of(3, 16));
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    auto const whole = prompt_of(seed, kChunk);
    std::uint32_t const stored = seed == 1 ? 10 : seed == 2 ? 15 : 16;
    for (std::uint32_t shared = 1; shared <= 20; ++shared) {
      EXPECT_EQ(scene.hit(branch_of(whole, shared, 5, 40)), std::min(shared, stored));
    }
  }
}

TEST(PartialMatch, AChildThatLostItsParentIsNotReusedInParts) {
  TierScene scene;
  auto const prompt = prompt_of(1, 2 * kChunk);
  auto const refs = scene.reserve(prompt);
  scene.publish(prompt, refs);
  SlotAllocator allocator{scene.state()};
  {
    auto const guard = scene.state().lock_space();
    ASSERT_TRUE(allocator.remove(refs[0][0].index, RemovalReason::kCleared));
  }
  EXPECT_EQ(scene.hit(prompt), 0u);
  EXPECT_TRUE(segment_is_sound(scene.state()));
  EXPECT_EQ(scene.store(prompt.first(kChunk)), 1u);
  EXPECT_EQ(scene.hit(prompt), 2 * kChunk) << "by its key it is found again";
  EXPECT_EQ(scene.hit(branch_of(prompt, kChunk + 20, 1, 2 * kChunk)), kChunk);
}

// What memory that went wrong must never do: give one prompt the KV of another. The link to a
// parent is turned to another prompt's chunk here; the tokens below it are the same.
TEST(PartialMatch, AWrongLinkIsAMissAndNotAWrongAnswer) {
  TierScene scene;
  auto const one = prompt_of(1, 2 * kChunk);
  auto other = prompt_of(2, kChunk);
  other.tokens.insert(other.tokens.end(), one.tokens.begin() + kChunk, one.tokens.end());
  auto const refs = scene.reserve(one);
  scene.publish(one, refs);
  scene.store(other.first(kChunk));
  auto& state = scene.state();
  std::uint32_t const child = refs[0][1].index;
  std::uint32_t const wrong =
      state.index.find(scene.chain(other).keys()[0] ^ scene.space.lane_masks[0]);
  ASSERT_NE(wrong, kNoEntry);
  state.tree.unlink(child, nullptr);
  state.tree.link(child, wrong, nullptr);
  state.recency.remove(state.class_of(state.index.at(wrong)).leaves, wrong);
  EXPECT_EQ(scene.hit(other.first(kChunk + 10)), kChunk);  // 74 tokens would have been a lie
  EXPECT_EQ(scene.use().leased, 0u);
  EXPECT_EQ(scene.hit(one), 2 * kChunk);
}

// The table of namespaces is full, so a record that holds nothing is given to another namespace.
// Its former owner must neither be served what that one stored nor harm it.
class RecordGivenAway : public testing::Test {
 protected:
  RecordGivenAway() {
    for (std::uint32_t i = 1; i < kMaxNamespaces; ++i) {
      // Not "m" + std::to_string(i): g++ 12 warns of an overlap that is not there (GCC bug 105651).
      std::string name{"m"};
      (void)scene_.open_space(name.append(std::to_string(i)));
    }
    thief_ = scene_.open_space("thief");
  }

  TierScene scene_;
  DramNamespace thief_;
  TestPrompt prompt_ = prompt_of(1, 2 * kChunk + 10);
};

TEST_F(RecordGivenAway, IsNoticed) {
  EXPECT_EQ(thief_.place.id(), scene_.space.place.id());
  EXPECT_FALSE(scene_.tier().owns_record(scene_.space));
  EXPECT_TRUE(scene_.tier().owns_record(thief_));
}

TEST_F(RecordGivenAway, ItsFormerOwnerIsNotServedFromIt) {
  scene_.store(thief_, prompt_);
  EXPECT_EQ(scene_.hit(prompt_), 0u);
  EXPECT_EQ(scene_.hit(prompt_.first(20)), 0u);
  EXPECT_EQ(scene_.hit(thief_, prompt_), prompt_.size());
  EXPECT_EQ(scene_.tier().record(thief_).lookups, 1u) << "only its own look-ups are counted";
}

TEST_F(RecordGivenAway, ItsFormerOwnerGetsAnotherToStore) {
  scene_.store(thief_, prompt_);
  EXPECT_EQ(scene_.store(prompt_), 3u);
  EXPECT_NE(thief_.place.id(), scene_.space.place.id());
  EXPECT_TRUE(scene_.tier().owns_record(scene_.space));
  EXPECT_EQ(scene_.hit(prompt_), prompt_.size());
  EXPECT_EQ(scene_.hit(thief_, prompt_), prompt_.size());
  EXPECT_TRUE(segment_is_sound(scene_.state()));
}

TEST_F(RecordGivenAway, DeclaringALaneDoesNotChangeTheNewOwners) {
  scene_.store(thief_, prompt_);  // a record that holds something is given to nobody
  must(scene_.tier().declare_lane(scene_.space, 0, 4096));
  EXPECT_EQ(scene_.tier().record(thief_).lane_block_bytes[0], scene_.block_bytes());
  EXPECT_EQ(scene_.tier().record(scene_.space).lane_block_bytes[0], 4096u);
}

TEST_F(RecordGivenAway, WhileOtherThreadsUseIt) {
  auto& tier = scene_.tier();
  auto const chain = scene_.chain(prompt_);
  std::atomic<bool> stop{false};
  std::thread thieves{[&] {
    for (int i = 0; i < 300; ++i) (void)scene_.open_space("another thief " + std::to_string(i));
    stop = true;
  }};
  std::thread looking{[&] {
    while (!stop) {
      auto const found = tier.lookup(scene_.space, chain, kNoLimit);
      tier.release(found.lanes[0]);
    }
  }};
  while (!stop) {
    auto const refs = tier.reserve(scene_.space, chain, {.first_chunk = 0, .end_token = kNoLimit});
    for (auto const ref : refs[0]) tier.cancel(ref);
  }
  thieves.join();
  looking.join();
  EXPECT_EQ(scene_.store(prompt_), 3u);
  EXPECT_EQ(scene_.hit(prompt_), prompt_.size());
  EXPECT_TRUE(segment_is_sound(scene_.state()));
}

}  // namespace
}  // namespace lmcache::test
