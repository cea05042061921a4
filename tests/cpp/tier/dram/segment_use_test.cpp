// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "support/segment_invariants.hpp"
#include "support/tier_scene.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint32_t kChunk = 64;

TEST(SegmentUse, OfAnEmptySegmentIsNothing) {
  TierScene scene;
  auto const use = scene.use();
  EXPECT_EQ(use.bound_slots, 0u);
  EXPECT_EQ(use.ready + use.writing + use.free_slots + use.leased, 0u);
  EXPECT_EQ(use.used_bytes, 0u);
}

TEST(SegmentUse, CountsWhatLiesThere) {
  TierScene scene;
  scene.store(prompt_of(1, 3 * kChunk));
  auto const reserved = scene.reserve(prompt_of(2, 2 * kChunk));
  auto const found = scene.tier().lookup(scene.space, scene.chain(prompt_of(1, kChunk)), kNoLimit);
  auto use = scene.use();
  EXPECT_EQ(use.ready, 3u);
  EXPECT_EQ(use.writing, 2u);
  EXPECT_EQ(use.free_slots, 0u);
  EXPECT_EQ(use.bound_slots, 5u);
  EXPECT_EQ(use.leased, 1u);
  EXPECT_EQ(use.used_bytes, 5 * kChunk * scene.shape().token_bytes);
  EXPECT_EQ(use.reserved_bytes, 2u << 20);
  for (auto const ref : reserved[0]) scene.tier().cancel(ref);
  scene.tier().release(found.lanes[0]);
  use = scene.use();
  EXPECT_EQ(use.writing, 0u);
  EXPECT_EQ(use.free_slots, 2u);
  EXPECT_EQ(use.bound_slots, 5u);
  EXPECT_EQ(use.leased, 0u);
}

TEST(SegmentUse, CannotBeMeasuredWhileTheSpaceLockIsHeld) {
  TierScene scene;
  auto const stuck = must(scene.state().lock_space());
  auto const refused = measure_use(scene.state());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kTimeout);
}

TEST(SegmentUse, ClearRemovesOneNamespaceOrAll) {
  TierScene scene;
  auto other = scene.open_space("other");
  auto const prompt = prompt_of(1, 3 * kChunk + 5);
  scene.store(prompt);
  scene.store(other, prompt);
  EXPECT_EQ(clear_chunks(scene.state(), other.place.id()), 4u);
  EXPECT_EQ(scene.hit(other, prompt), 0u);
  EXPECT_EQ(scene.hit(prompt), prompt.size());
  EXPECT_EQ(scene.tier().record(other).entries, 0u);
  EXPECT_EQ(scene.tier().record(other).bytes, 0u);
  scene.store(other, prompt);
  EXPECT_EQ(clear_chunks(scene.state(), std::nullopt), 8u);
  EXPECT_EQ(clear_chunks(scene.state(), std::nullopt), 0u);
  EXPECT_EQ(scene.hit(prompt), 0u);
  EXPECT_EQ(scene.counters().evicted_chunks, 0u) << "what is cleared was not evicted";
  EXPECT_TRUE(segment_is_sound(scene.state()));
}

TEST(SegmentUse, ClearLeavesWhatIsLeasedOrBeingWritten) {
  TierScene scene;
  auto const prompt = prompt_of(1, 3 * kChunk);
  scene.store(prompt);
  auto const reserved = scene.reserve(prompt_of(2, kChunk));
  auto const found = scene.tier().lookup(scene.space, scene.chain(prompt.first(kChunk)), kNoLimit);
  EXPECT_EQ(clear_chunks(scene.state(), std::nullopt), 2u);
  EXPECT_TRUE(scene.holds(prompt, found));
  EXPECT_EQ(scene.publish(prompt_of(2, kChunk), reserved), 1u);
  scene.tier().release(found.lanes[0]);
  EXPECT_EQ(clear_chunks(scene.state(), std::nullopt), 2u);
  EXPECT_TRUE(segment_is_sound(scene.state()));
}

TEST(SegmentUse, ClearWorksThroughMoreThanOneBatch) {
  TierScene scene{{.options = {.capacity_bytes = 16u << 20, .max_entries = 4096}}};
  for (std::uint64_t seed = 0; seed < 3000; ++seed) scene.store(prompt_of(seed, kChunk));
  EXPECT_EQ(clear_chunks(scene.state(), std::nullopt), 3000u);
  EXPECT_EQ(scene.use().free_slots, 3000u);
  EXPECT_TRUE(segment_is_sound(scene.state()));
}

}  // namespace
}  // namespace lmcache::test
