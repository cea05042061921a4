// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <limits>

#include <gtest/gtest.h>

#include "support/segment_invariants.hpp"
#include "support/tier_scene.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint32_t kChunk = 64;

std::size_t count_refs(TierScene::Refs const& refs) {
  std::size_t found = 0;
  for (auto const& lane : refs) {
    for (auto const ref : lane) found += ref ? 1 : 0;
  }
  return found;
}

std::uint64_t dropped(TierScene& scene, DropReason reason) {
  return scene.counters().dropped(reason);
}

// A segment of `extents` extents of 2 MiB, each with room for 7 full chunks.
TierShape small_shape(std::uint64_t extents, std::uint32_t lanes = 1) {
  TierShape shape;
  shape.lanes = lanes;
  shape.token_bytes = 4096;
  shape.options.capacity_bytes = extents << 21;
  return shape;
}

TEST(Reserve, GivesASlotPerChunkAndLane) {
  TierScene scene{{.lanes = 3}};
  auto const refs = scene.reserve(prompt_of(1, 3 * kChunk + 1));
  ASSERT_EQ(refs.size(), 3u);
  for (auto const& lane : refs) EXPECT_EQ(lane.size(), 4u);
  EXPECT_EQ(count_refs(refs), 12u);
  EXPECT_EQ(scene.use().writing, 12u);
  EXPECT_TRUE(segment_is_sound(scene.state()));
}

TEST(Reserve, CoversTheRangeThatIsAskedFor) {
  TierScene scene;
  auto const prompt = prompt_of(1, 5 * kChunk);
  auto const chain = scene.chain(prompt);
  auto const reserve = [&](std::uint32_t first_chunk, std::uint32_t end_token) {
    auto refs = scene.tier().reserve(scene.space, chain,
                                     {.first_chunk = first_chunk, .end_token = end_token});
    for (auto const ref : refs[0]) scene.tier().cancel(ref);
    return refs[0].size();
  };
  EXPECT_EQ(reserve(0, 0), 0u);
  EXPECT_EQ(reserve(0, 1), 1u);
  EXPECT_EQ(reserve(0, kChunk), 1u);
  EXPECT_EQ(reserve(0, kChunk + 1), 2u);
  EXPECT_EQ(reserve(2, 5 * kChunk), 3u);
  EXPECT_EQ(reserve(2, kNoLimit), 3u) << "as far as there are tokens";
  EXPECT_EQ(reserve(5, kNoLimit), 0u);
  EXPECT_EQ(reserve(kNoLimit, kNoLimit), 0u);
  EXPECT_EQ(scene.use().writing, 0u);
}

TEST(Reserve, TokenIdsAreKeptWithTheChunk) {
  TierScene scene;
  auto const prompt = prompt_of(1, kChunk + 7);
  auto const refs = scene.reserve(prompt);
  for (std::uint32_t i = 0; i < 2; ++i) {
    auto const tokens =
        slot_tokens(scene.tier().segment(), scene.state().index.at(refs[0][i].index));
    EXPECT_TRUE(std::ranges::equal(
        tokens, std::span{prompt.tokens}.subspan(i * kChunk, i == 0 ? kChunk : 7)));
  }
}

TEST(Reserve, WhatIsThereOrBeingWrittenIsNotReservedAgain) {
  TierScene scene;
  auto const prompt = prompt_of(1, 2 * kChunk + 8);
  auto const refs = scene.reserve(prompt);
  EXPECT_EQ(count_refs(scene.reserve(prompt)), 0u);
  EXPECT_EQ(dropped(scene, DropReason::kDuplicate), 3u);
  scene.publish(prompt, refs);
  EXPECT_EQ(count_refs(scene.reserve(prompt)), 0u);
  EXPECT_EQ(dropped(scene, DropReason::kDuplicate), 6u);
  EXPECT_EQ(scene.counters().dropped(DropReason::kNoSpace), 0u);
}

TEST(Reserve, ATailThatALongerChunkBeginsWithIsThere) {
  TierScene scene;
  auto const whole = prompt_of(1, 2 * kChunk);
  scene.store(whole);
  for (std::uint32_t const tokens : {kChunk + 1, kChunk + 20, 2 * kChunk - 1}) {
    EXPECT_EQ(count_refs(scene.reserve(whole.first(tokens))), 0u) << tokens;
  }
  EXPECT_EQ(count_refs(scene.reserve(branch_of(whole, kChunk + 20, 5, kChunk + 21))), 1u);
}

TEST(Reserve, ATailThatALongerChunkCoversInOneLaneOnlyIsStored) {
  TierScene scene{{.lanes = 2}};
  auto const whole = prompt_of(1, kChunk);
  auto refs = scene.reserve(whole);
  scene.tier().cancel(std::exchange(refs[1][0], {}));
  scene.publish(whole, refs);
  EXPECT_EQ(scene.store(whole.first(20)), 2u);
  EXPECT_EQ(scene.hit(whole), 20u);
}

TEST(Reserve, ALongerChunkIsStoredThoughATailIsThere) {
  TierScene scene;
  auto const whole = prompt_of(1, kChunk);
  scene.store(whole.first(20));
  EXPECT_EQ(scene.hit(whole), 20u);
  EXPECT_EQ(scene.store(whole.first(40)), 1u);
  EXPECT_EQ(scene.hit(whole), 40u);
  EXPECT_EQ(scene.store(whole), 1u);
  EXPECT_EQ(scene.hit(whole), kChunk);
}

TEST(Reserve, TailsTakeAnEighthAQuarterAHalfOrAWholeSlot) {
  TierScene scene{{.chunk_tokens = 128, .block_tokens = 4, .token_bytes = 64}};
  auto const slot_of = [&](std::uint32_t tokens) {
    auto const refs = scene.reserve(prompt_of(tokens, tokens));
    return scene.state().class_of(scene.state().index.at(refs[0][0].index)).slot_bytes;
  };
  auto const bytes = [](std::uint64_t tokens) {
    return SlotAllocator::slot_bytes(record_bytes(tokens * 64, tokens));
  };
  EXPECT_EQ(slot_of(1), bytes(16));
  EXPECT_EQ(slot_of(16), bytes(16));
  EXPECT_EQ(slot_of(17), bytes(32));
  EXPECT_EQ(slot_of(32), bytes(32));
  EXPECT_EQ(slot_of(33), bytes(64));
  EXPECT_EQ(slot_of(64), bytes(64));
  EXPECT_EQ(slot_of(65), bytes(128));
  EXPECT_EQ(slot_of(128), bytes(128));
  EXPECT_EQ(scene.state().space.class_count, 4u);
}

TEST(Reserve, NothingBeforeAllLanesAreDeclared) {
  TierScene scene{{.lanes = 2}};
  auto undeclared = scene.open_space("undeclared", false);
  auto const prompt = prompt_of(1, 2 * kChunk);
  auto const reserve = [&] {
    return scene.tier().reserve(undeclared, scene.chain(undeclared, prompt),
                                {.first_chunk = 0, .end_token = kNoLimit});
  };
  EXPECT_EQ(count_refs(reserve()), 0u);
  must(scene.tier().declare_lane(undeclared, 1, 64));
  EXPECT_EQ(count_refs(reserve()), 0u);
  EXPECT_EQ(dropped(scene, DropReason::kLaneUndeclared), 8u) << "two lanes of two chunks, twice";
  EXPECT_EQ(scene.use().writing, 0u);
  must(scene.tier().declare_lane(undeclared, 0, 64));
  EXPECT_EQ(count_refs(reserve()), 4u);
}

TEST(Reserve, AChunkLargerThanAnExtentIsRefused) {
  auto shape = small_shape(4);
  shape.token_bytes = 40'000;
  TierScene scene{shape};
  EXPECT_EQ(count_refs(scene.reserve(prompt_of(1, 2 * kChunk))), 0u);
  EXPECT_EQ(dropped(scene, DropReason::kTooLarge), 2u);
  EXPECT_EQ(count_refs(scene.reserve(prompt_of(1, 32))), 1u) << "a tail fits";
  EXPECT_TRUE(segment_is_sound(scene.state()));
}

TEST(Reserve, AChunkWithoutRoomInOneLaneIsReservedInNone) {
  TierScene scene{small_shape(1, 2)};  // 7 slots: three chunks of two lanes
  auto const refs = scene.reserve(prompt_of(1, 5 * kChunk));
  EXPECT_EQ(count_refs(refs), 6u);
  for (auto const& lane : refs) EXPECT_TRUE(lane[0] && lane[1] && lane[2] && !lane[3] && !lane[4]);
  EXPECT_EQ(scene.use().writing, 6u);
  EXPECT_EQ(scene.use().free_slots, 1u);
  EXPECT_EQ(dropped(scene, DropReason::kNoSpace), 4u) << "two lanes of two chunks";
  EXPECT_TRUE(segment_is_sound(scene.state()));
}

TEST(Reserve, WhatIsLeasedMakesNoRoom) {
  TierScene scene{small_shape(1)};
  auto const first = prompt_of(1, 7 * kChunk);
  EXPECT_EQ(scene.store(first), 7u);
  auto const hit = scene.tier().lookup(scene.space, scene.chain(first), kNoLimit);
  EXPECT_EQ(hit.prefix_tokens, 7 * kChunk);
  EXPECT_EQ(count_refs(scene.reserve(prompt_of(2, 2 * kChunk))), 0u);
  EXPECT_EQ(scene.counters().evicted_chunks, 0u);
  scene.tier().release(hit.lanes[0]);
  EXPECT_EQ(count_refs(scene.reserve(prompt_of(2, 2 * kChunk))), 2u);
  EXPECT_EQ(scene.counters().evicted_chunks, 2u);
  EXPECT_EQ(scene.hit(first), 5 * kChunk) << "the last chunks went first";
}

TEST(Reserve, AFullTableOfEntriesMakesRoomLikeAFullSegment) {
  TierScene scene{{.options = {.capacity_bytes = 16u << 20, .max_entries = 128}}};
  ASSERT_EQ(scene.state().index.capacity(), 128u);
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    ASSERT_EQ(scene.store(prompt_of(seed, kChunk)), 1u) << seed;
  }
  EXPECT_EQ(scene.counters().evicted_chunks, 300u - 128u);
  EXPECT_EQ(scene.hit(prompt_of(299, kChunk)), kChunk);
  EXPECT_EQ(scene.hit(prompt_of(300 - 128, kChunk)), kChunk);
  EXPECT_EQ(scene.hit(prompt_of(299 - 128, kChunk)), 0u);
  // Another size: entries are taken back with an extent of the first.
  EXPECT_EQ(scene.store(prompt_of(1000, 5)), 1u);
  EXPECT_EQ(scene.hit(prompt_of(1000, 5)), 5u);
  EXPECT_TRUE(segment_is_sound(scene.state()));
}

TEST(Reserve, AnExpiredChunkIsReplaced) {
  ManualClock clock;
  TierScene scene{{.options = {.capacity_bytes = 16u << 20, .ttl_seconds = 60}}, clock};
  auto const prompt = prompt_of(1, 2 * kChunk);
  auto const old = scene.reserve(prompt);
  scene.publish(prompt, old);
  clock.advance_seconds(60);
  auto const found = scene.tier().begin_read(old[0][1]);
  ASSERT_TRUE(found) << "a lease by ref outlasts the expiry";
  auto const refs = scene.reserve(prompt);
  EXPECT_EQ(count_refs(refs), 1u) << "what is leased is not replaced";
  EXPECT_NE(refs[0][0], old[0][0]);
  EXPECT_FALSE(scene.tier().is_ready(old[0][0]));
  scene.publish(prompt, refs);
  EXPECT_EQ(scene.hit(prompt), kChunk);
  scene.tier().release({&old[0][1], 1});
  EXPECT_EQ(scene.store(prompt), 1u);
  EXPECT_EQ(scene.hit(prompt), 2 * kChunk);
  EXPECT_EQ(scene.counters().expired_chunks, 2u);
  EXPECT_TRUE(segment_is_sound(scene.state()));
}

TEST(Reserve, AnExpiryBeyondTheYear2106IsNever) {
  ManualClock clock;
  auto options = DramOptions{.capacity_bytes = 16u << 20};
  options.ttl_seconds = std::numeric_limits<std::uint32_t>::max();
  TierScene scene{{.options = options}, clock};
  scene.store(prompt_of(1, kChunk));
  clock.advance_seconds(1'000'000'000);
  EXPECT_EQ(scene.hit(prompt_of(1, kChunk)), kChunk);
}

TEST(Reserve, AnEntryThatIsReusedHasNothingOfTheOld) {
  TierScene scene{small_shape(1)};
  auto prompt = prompt_of(1, 7 * kChunk);
  prompt.items = {{.first_token = 10, .tokens = 5, .item_hash = {{1}}}};
  scene.store(prompt);
  auto const other = prompt_of(2, 7 * kChunk);
  EXPECT_EQ(scene.store(other), 7u);
  for (std::uint32_t shared = 0; shared <= other.size(); shared += 9) {
    EXPECT_EQ(scene.hit(branch_of(other, shared, 3, shared + 30)), shared);
  }
  EXPECT_TRUE(segment_is_sound(scene.state()));
}

TEST(Reserve, ALockThatIsNotFreeStopsItInTime) {
  TierScene scene;
  auto const prompt = prompt_of(1, 200 * kChunk);
  auto const chain = scene.chain(prompt);
  auto const reserve = [&] {
    auto const started = std::chrono::steady_clock::now();
    auto const refs =
        scene.tier().reserve(scene.space, chain, {.first_chunk = 0, .end_token = kNoLimit});
    EXPECT_LT(std::chrono::steady_clock::now() - started, 6 * kLockTimeout);
    return count_refs(refs);
  };
  {
    auto const stuck = must(scene.state().lock_space());
    EXPECT_EQ(reserve(), 0u);
    EXPECT_EQ(dropped(scene, DropReason::kLockTimeout), 200u);
  }
  {
    auto const stuck = must(scene.state().index.lock_shard(5, kLockTimeout));
    EXPECT_LT(reserve(), 200u);
  }
  EXPECT_TRUE(segment_is_sound(scene.state()));
}

}  // namespace
}  // namespace lmcache::test
