// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <random>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "support/segment_invariants.hpp"
#include "support/tier_scene.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint32_t kChunk = 64;

TEST(Lookup, EveryPrefixOfAStoredPromptIsFound) {
  TierScene scene;
  auto const stored = prompt_of(1, 3 * kChunk + 9);
  EXPECT_EQ(scene.store(stored), 4u);
  for (std::uint32_t tokens = 0; tokens <= stored.size(); ++tokens) {
    EXPECT_EQ(scene.hit(stored.first(tokens)), tokens);
  }
  EXPECT_TRUE(nothing_is_held(scene.state()));
}

TEST(Lookup, PromptsThatPartAtAnyTokenShareAllTokensBeforeIt) {
  TierScene scene;
  auto const stored = prompt_of(1, 3 * kChunk + 9);
  scene.store(stored);
  for (std::uint32_t shared = 0; shared <= stored.size(); ++shared) {
    for (std::uint32_t const more : {1u, 3u, kChunk, 2 * kChunk + 1}) {
      EXPECT_EQ(scene.hit(branch_of(stored, shared, shared, shared + more)), shared);
    }
  }
}

TEST(Lookup, AStoredTailIsExtendedByAnyNumberOfTokens) {
  for (std::uint32_t const tail : {1u, 4u, 15u, 16u, 17u, kChunk - 1}) {
    TierScene scene;
    auto const whole = prompt_of(2, 4 * kChunk);
    scene.store(whole.first(kChunk + tail));
    for (std::uint32_t tokens = kChunk + tail; tokens <= whole.size(); tokens += 5) {
      EXPECT_EQ(scene.hit(whole.first(tokens)), kChunk + tail) << tokens;
    }
  }
}

TEST(Lookup, StopsAtTheLimit) {
  TierScene scene;
  auto const stored = prompt_of(3, 2 * kChunk + 20);
  scene.store(stored);
  auto const longer = branch_of(stored, stored.size(), 1, 4 * kChunk);
  for (std::uint32_t limit = 0; limit <= longer.size(); ++limit) {
    EXPECT_EQ(scene.hit(stored, limit), std::min(limit, stored.size()));
    EXPECT_EQ(scene.hit(longer, limit), std::min(limit, stored.size()));
  }
}

TEST(Lookup, NothingIsFoundInAnEmptySegmentOrForAnEmptyPrompt) {
  TierScene scene;
  EXPECT_EQ(scene.hit(prompt_of(1, 200)), 0u);
  EXPECT_EQ(scene.hit({}), 0u);
  scene.store(prompt_of(1, 200));
  EXPECT_EQ(scene.hit({}), 0u);
  EXPECT_EQ(scene.hit(prompt_of(1, 200), 0), 0u);
}

TEST(Lookup, AHoleInTheChainEndsThePrefix) {
  TierScene scene;
  auto const prompt = prompt_of(4, 4 * kChunk);
  auto const refs = scene.reserve(prompt);
  for (std::uint32_t const i : {0u, 1u, 3u}) {
    scene.publish(prompt, {{refs[0][i]}}, i);
  }
  EXPECT_EQ(scene.hit(prompt), 2 * kChunk);  // the third is still being written
  scene.tier().cancel(refs[0][2]);
  EXPECT_EQ(scene.hit(prompt), 2 * kChunk);
  EXPECT_EQ(scene.store(prompt), 1u);
  EXPECT_EQ(scene.hit(prompt), 4 * kChunk);
}

TEST(Lookup, NamespacesShareNothing) {
  TierScene scene;
  auto other = scene.open_space("other model");
  auto const prompt = prompt_of(5, 100);
  scene.store(prompt);
  EXPECT_EQ(scene.hit(other, prompt), 0u);
  EXPECT_EQ(scene.store(other, prompt), 2u);
  EXPECT_EQ(scene.hit(other, prompt), 100u);
  EXPECT_EQ(scene.hit(prompt), 100u);
}

TEST(Lookup, EveryLaneMustHaveAChunk) {
  TierScene scene{{.lanes = 3}};
  auto const prompt = prompt_of(6, 3 * kChunk + 10);
  auto refs = scene.reserve(prompt);
  ASSERT_EQ(refs.size(), 3u);
  auto missing = std::exchange(refs[1][1], {});
  scene.publish(prompt, refs);
  EXPECT_EQ(scene.hit(prompt), kChunk);
  EXPECT_TRUE(scene.use().leased == 0) << "the lanes that had it keep no lease";
  EXPECT_EQ(scene.publish(prompt, {{}, {{}, missing}, {}}), 1u);
  EXPECT_EQ(scene.hit(prompt), prompt.size());
  missing = {};
  for (std::uint32_t tokens = 0; tokens <= prompt.size(); ++tokens) {
    EXPECT_EQ(scene.hit(branch_of(prompt, tokens, tokens, tokens + 5)), tokens);
  }
  EXPECT_TRUE(segment_is_sound(scene.state()));
}

TEST(Lookup, AnotherCandidateServesWhenTheBestLacksALane) {
  TierScene scene{{.lanes = 2}};
  auto const base = prompt_of(7, kChunk);
  auto const best = branch_of(base, kChunk, 1, 2 * kChunk);
  auto const second = branch_of(best, kChunk + 30, 2, 2 * kChunk);
  scene.store(second);
  auto refs = scene.reserve(best, 1);
  refs[1][0] = {};
  scene.publish(best, refs, 1);  // lane 1 has not come yet
  auto const asked = branch_of(best, kChunk + 40, 3, 2 * kChunk);
  EXPECT_EQ(scene.hit(asked), kChunk + 30);
}

TEST(Lookup, ItemsWithOtherContentPartWhereTheyBegin) {
  TierScene scene;
  auto stored = prompt_of(8, 3 * kChunk);
  stored.items = {{.first_token = 100, .tokens = 20, .item_hash = {{1}}}};
  scene.store(stored);
  EXPECT_EQ(scene.hit(stored), stored.size());
  auto other = stored;
  other.items[0].item_hash = {{2}};
  // The chunk that holds the item can be reused as a whole only: a slot keeps no items.
  EXPECT_EQ(scene.hit(other), kChunk);
  auto text = stored;
  text.items.clear();
  EXPECT_EQ(scene.hit(text), kChunk);
  scene.store(text);
  EXPECT_EQ(scene.hit(other), 100u) << "up to the item the two are the same text";
  EXPECT_EQ(scene.hit(stored), stored.size());
  EXPECT_EQ(scene.hit(text), text.size());
}

TEST(Lookup, APrefixNeverEndsInsideAnItem) {
  TierScene scene;
  auto stored = prompt_of(9, 4 * kChunk);
  stored.items = {{.first_token = 10, .tokens = 10, .item_hash = {{1}}},
                  {.first_token = 50, .tokens = 100, .item_hash = {{2}}},
                  {.first_token = 200, .tokens = 1, .item_hash = {{3}}}};
  scene.store(stored);
  for (std::uint32_t limit = 0; limit <= stored.size(); ++limit) {
    std::uint32_t expected = limit;
    if (limit > 10 && limit < 20) expected = 10;
    if (limit > 50 && limit < 150) expected = 50;
    EXPECT_EQ(scene.hit(stored, limit), expected) << limit;
  }
  EXPECT_TRUE(nothing_is_held(scene.state()));
}

TEST(Lookup, MatchesTheLongestCommonPrefixOfManyPrompts) {
  std::mt19937_64 random{42};
  for (int round = 0; round < 5; ++round) {
    TierScene scene{{.chunk_tokens = 32, .lanes = 1 + static_cast<std::uint32_t>(round % 2)}};
    std::vector<TestPrompt> stored{prompt_of(random(), 150)};
    scene.store(stored.front());
    // At most 12 branches: no chunk has more children than a look-up considers.
    for (int i = 0; i < 12; ++i) {
      auto const& parent = stored[random() % stored.size()];
      std::uint32_t const shared = static_cast<std::uint32_t>(random() % (parent.size() + 1));
      auto const tokens = shared + 1 + static_cast<std::uint32_t>(random() % 100);
      stored.push_back(branch_of(parent, shared, random(), tokens));
      scene.store(stored.back());
    }
    for (int i = 0; i < 300; ++i) {
      auto const& parent = stored[random() % stored.size()];
      std::uint32_t const shared = static_cast<std::uint32_t>(random() % (parent.size() + 1));
      auto const asked =
          branch_of(parent, shared, random(), shared + static_cast<std::uint32_t>(random() % 70));
      std::uint32_t longest = 0;
      for (auto const& other : stored) {
        auto const length = std::min(other.tokens.size(), asked.tokens.size());
        auto const part =
            std::mismatch(asked.tokens.begin(), asked.tokens.begin() + static_cast<long>(length),
                          other.tokens.begin());
        longest = std::max(longest, static_cast<std::uint32_t>(part.first - asked.tokens.begin()));
      }
      EXPECT_EQ(scene.hit(asked), longest);
    }
    EXPECT_TRUE(segment_is_sound(scene.state()));
    EXPECT_TRUE(nothing_is_held(scene.state()));
  }
}

TEST(Lookup, LeasesWhatItPromises) {
  TierScene scene;
  auto const prompt = prompt_of(10, 2 * kChunk);
  scene.store(prompt);
  auto const found = scene.tier().lookup(scene.space, scene.chain(prompt), kNoLimit);
  EXPECT_EQ(scene.use().leased, 2u);
  EXPECT_EQ(clear_chunks(scene.state(), std::nullopt), 0u);
  EXPECT_TRUE(scene.holds(prompt, found));
  scene.tier().release(found.lanes[0]);
  EXPECT_EQ(scene.use().leased, 0u);
  EXPECT_EQ(clear_chunks(scene.state(), std::nullopt), 2u);
  EXPECT_EQ(scene.hit(prompt), 0u);
}

TEST(Lookup, CountsForTheProcessAndForTheNamespace) {
  TierScene scene;
  auto const prompt = prompt_of(11, 100);
  scene.store(prompt);
  scene.hit(branch_of(prompt, 70, 1, 130));
  scene.hit(prompt_of(12, 50));
  auto const counted = scene.counters();
  EXPECT_EQ(counted.lookups, 2u);
  EXPECT_EQ(counted.lookup_tokens, 180u);
  EXPECT_EQ(counted.hit_tokens, 70u);
  auto const& record = scene.tier().record(scene.space);
  EXPECT_EQ(record.lookups, 2u);
  EXPECT_EQ(record.lookup_tokens, 180u);
  EXPECT_EQ(record.hit_tokens, 70u);
}

TEST(Lookup, AnExpiredChunkIsNotFound) {
  ManualClock clock;
  TierScene scene{{.options = {.capacity_bytes = 16u << 20, .ttl_seconds = 60}}, clock};
  auto const prompt = prompt_of(13, 100);
  scene.store(prompt);
  clock.advance_seconds(59);
  EXPECT_EQ(scene.hit(prompt), 100u);
  EXPECT_EQ(scene.hit(branch_of(prompt, 90, 1, 120)), 90u);
  clock.advance_seconds(1);
  EXPECT_EQ(scene.hit(prompt), 0u);
  EXPECT_EQ(scene.hit(branch_of(prompt, 90, 1, 120)), 0u);
}

TEST(Lookup, ALockThatIsNotFreeMakesAMissInTime) {
  TierScene scene;
  auto const prompt = prompt_of(14, 20 * kChunk);
  scene.store(prompt);
  auto const chain = scene.chain(prompt);
  auto const stuck = scene.state().index.lock(chain.keys()[5] ^ scene.space.lane_masks[0],
                                              std::chrono::milliseconds{0});
  ASSERT_TRUE(stuck.has_value());
  std::uint32_t first_stuck = 0;
  auto const shard = HashIndex::shard_of(chain.keys()[5] ^ scene.space.lane_masks[0]);
  while (HashIndex::shard_of(chain.keys()[first_stuck] ^ scene.space.lane_masks[0]) != shard)
    ++first_stuck;
  auto const started = std::chrono::steady_clock::now();
  auto const found = scene.tier().lookup(scene.space, chain, kNoLimit);
  EXPECT_LT(std::chrono::steady_clock::now() - started, 3 * kLockTimeout);
  EXPECT_EQ(found.prefix_tokens, first_stuck * kChunk);
  scene.tier().release(found.lanes[0]);
}

TEST(Lookup, UsesMoveChunksToTheFrontOnceFlushed) {
  TierScene scene;
  std::vector<ChunkRef> refs;
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    auto const reserved = scene.reserve(prompt_of(seed, kChunk));
    scene.publish(prompt_of(seed, kChunk), reserved);
    refs.push_back(reserved[0][0]);
  }
  auto const& leaves = scene.state().class_of(scene.state().index.at(refs[0].index)).leaves;
  EXPECT_EQ(leaves.back, refs[0].index);
  scene.hit(prompt_of(0, kChunk));
  scene.hit(prompt_of(1, kChunk));
  EXPECT_EQ(leaves.back, refs[0].index);
  scene.tier().flush_touches();
  EXPECT_EQ(leaves.back, refs[2].index);
  EXPECT_EQ(leaves.front, refs[1].index);
}

// Two lanes, the second with a window: it lacks the chunks named.
std::uint32_t hit_without(std::uint32_t window, std::vector<std::uint32_t> const& gaps,
                          std::uint32_t tokens, std::uint32_t limit = kNoLimit) {
  TierScene scene{{.lanes = 2, .windows = {0, window}}};
  auto const prompt = prompt_of(8, tokens);
  auto refs = scene.reserve(prompt);
  for (auto const chunk : gaps) scene.tier().cancel(std::exchange(refs[1][chunk], {}));
  scene.publish(prompt, refs);
  auto const found = scene.hit(prompt, limit);
  EXPECT_TRUE(nothing_is_held(scene.state()));
  return found;
}

TEST(Lookup, ALaneWithAWindowMayLackWhatLiesBeforeIt) {
  EXPECT_EQ(hit_without(2 * kChunk, {0, 1}, 4 * kChunk), 4 * kChunk);
  EXPECT_EQ(hit_without(2 * kChunk, {2}, 4 * kChunk), 2 * kChunk);
  EXPECT_EQ(hit_without(2 * kChunk, {3}, 4 * kChunk), 3 * kChunk);
  EXPECT_EQ(hit_without(2 * kChunk, {0, 3}, 4 * kChunk), 3 * kChunk);
  EXPECT_EQ(hit_without(2 * kChunk, {0, 2}, 4 * kChunk), 0u);
}

TEST(Lookup, AWindowMovesWithTheLimit) {
  // Up to token 200 of 256 the window begins in the second chunk.
  EXPECT_EQ(hit_without(2 * kChunk, {1}, 4 * kChunk, 200), kChunk);
  EXPECT_EQ(hit_without(2 * kChunk, {0}, 4 * kChunk, 200), 200u);
}

TEST(Lookup, ATailNeedsItsWindowToo) {
  EXPECT_EQ(hit_without(2 * kChunk, {0}, 3 * kChunk + 9), 3 * kChunk + 9);
  EXPECT_EQ(hit_without(2 * kChunk, {1}, 3 * kChunk + 9), kChunk);
  EXPECT_EQ(hit_without(2 * kChunk, {3}, 3 * kChunk + 9), 3 * kChunk);
}

TEST(Lookup, OfStatesOnlyTheLastIsNeededAndAPrefixEndsWithAChunk) {
  EXPECT_EQ(hit_without(kStateWindow, {0, 1, 2}, 4 * kChunk), 4 * kChunk);
  EXPECT_EQ(hit_without(kStateWindow, {0, 2, 3}, 4 * kChunk), 2 * kChunk);
  EXPECT_EQ(hit_without(kStateWindow, {1}, 4 * kChunk, 3 * kChunk - 1), kChunk);
  EXPECT_EQ(hit_without(kStateWindow, {}, 3 * kChunk + 9), 3 * kChunk);
  EXPECT_EQ(hit_without(kStateWindow, {0, 1, 2, 3}, 4 * kChunk), 0u);
}

TEST(Lookup, WithWindowsInEveryLaneTheLatestPrefixThatIsWholeIsFound) {
  TierScene scene{{.windows = {kChunk}}};
  auto const prompt = prompt_of(8, 4 * kChunk);
  auto refs = scene.reserve(prompt);
  scene.tier().cancel(std::exchange(refs[0][0], {}));
  scene.tier().cancel(std::exchange(refs[0][3], {}));
  scene.publish(prompt, refs);
  EXPECT_EQ(scene.hit(prompt), 3 * kChunk);
  EXPECT_TRUE(nothing_is_held(scene.state()));
}

TEST(Lookup, WhatAWindowHasPassedIsNotUsed) {
  TierScene scene{{.lanes = 2, .windows = {0, kChunk}}};
  auto const prompt = prompt_of(8, 3 * kChunk);
  scene.store(prompt);
  auto const found = scene.tier().lookup(scene.space, scene.chain(prompt), kNoLimit);
  EXPECT_TRUE(scene.holds(prompt, found));  // empty before the window
  EXPECT_FALSE(found.lanes[1][0]);
  EXPECT_FALSE(found.lanes[1][1]);
  for (auto const& lane : found.lanes) scene.tier().release(lane);
  EXPECT_TRUE(nothing_is_held(scene.state()));
}

}  // namespace
}  // namespace lmcache::test
