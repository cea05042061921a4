// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <cstring>

#include <gtest/gtest.h>

#include <lmcache/index/chunk_record.hpp>

#include "support/segment_invariants.hpp"
#include "support/tier_scene.hpp"

namespace lmcache::test {
namespace {

using Whereabouts = DramTier::Whereabouts;
constexpr std::uint32_t kChunk = 64;

class Fetched : public testing::Test {
 protected:
  [[nodiscard]] ChunkKey key(std::uint32_t chunk = 0) const {
    return scene_.chain(prompt_).keys()[chunk] ^ scene_.space.lane_masks[0];
  }
  [[nodiscard]] Result<ChunkRef> reserve_fetch(std::uint32_t chunk = 0) {
    return tier_.reserve_fetch(scene_.space, scene_.chain(prompt_),
                               {.chunk = chunk, .end_token = (chunk + 1) * kChunk, .lane = 0});
  }
  [[nodiscard]] std::uint16_t lower_tiers(ChunkRef ref) {
    return scene_.state().index.at(ref.index).lower_tiers.load();
  }

  ManualClock clock_;
  TierScene scene_{{.options = {.capacity_bytes = 16u << 20, .ttl_seconds = 60}}, clock_};
  TestPrompt prompt_ = prompt_of(1, 2 * kChunk);
  DramTier& tier_ = scene_.tier();
};

TEST_F(Fetched, FindSaysWhereAChunkIs) {
  EXPECT_EQ(tier_.find(key()).where, Whereabouts::kAbsent);
  EXPECT_FALSE(tier_.find(key()).ref);
  auto const refs = scene_.reserve(prompt_);
  EXPECT_EQ(tier_.find(key()).where, Whereabouts::kWriting);
  EXPECT_EQ(tier_.find(key()).ref, refs[0][0]);
  scene_.publish(prompt_, refs);
  EXPECT_EQ(tier_.find(key()).where, Whereabouts::kReady);
  EXPECT_EQ(tier_.find(key(1)).ref, refs[0][1]);
  clock_.advance_seconds(61);
  EXPECT_EQ(tier_.find(key()).where, Whereabouts::kAbsent) << "expired";
}

TEST_F(Fetched, FindDoesNotWaitForALongHeldLock) {
  auto const held = must(scene_.state().index.lock(key(), std::chrono::milliseconds{0}));
  EXPECT_EQ(tier_.find(key()).where, Whereabouts::kUnknown);
}

TEST_F(Fetched, AReservedChunkIsComingUntilItIsThere) {
  auto const ref = must(reserve_fetch());
  EXPECT_EQ(tier_.find(key()).where, Whereabouts::kComing);
  EXPECT_EQ(scene_.hit(prompt_), 0u);
  auto const again = reserve_fetch();
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), ErrorCode::kCancelled);
  ASSERT_TRUE(tier_.begin_write(ref));
  tier_.abandon(ref);
  EXPECT_EQ(tier_.find(key()).where, Whereabouts::kAbsent);
  EXPECT_TRUE(segment_is_sound(scene_.state()));
  EXPECT_TRUE(nothing_is_held(scene_.state()));
}

// The whole record, header and all, as it came from below.
TEST_F(Fetched, ARecordFromBelowIsReadAsItWasWritten) {
  std::vector<std::byte> record;
  {
    TierScene other{scene_.shape(), clock_};
    ASSERT_EQ(other.store(prompt_), 2u);
    auto const ref = other.tier().find(key()).ref;
    auto const slot = other.tier().begin_read(ref);
    ASSERT_TRUE(slot);
    record.assign(slot->record, slot->record + slot->slot_bytes);
    other.tier().release({&ref, 1});
  }
  auto const ref = must(reserve_fetch());
  auto const slot = tier_.begin_write(ref);
  ASSERT_TRUE(slot);
  ASSERT_EQ(slot->slot_bytes, record.size());
  std::memcpy(slot->record, record.data(), record.size());
  tier_.publish_and_keep(ref);
  tier_.note_on_disk(ref);
  EXPECT_EQ(tier_.find(key()).where, Whereabouts::kReady);
  EXPECT_FALSE(nothing_is_held(scene_.state())) << "the lease goes on";
  tier_.release({&ref, 1});
  EXPECT_TRUE(nothing_is_held(scene_.state()));
  EXPECT_EQ(scene_.hit(prompt_), kChunk);
  EXPECT_EQ(lower_tiers(ref), kOnDisk);
  EXPECT_TRUE(segment_is_sound(scene_.state()));
}

TEST_F(Fetched, WhatIsKeptAfterPublicationIsNotEvicted) {
  auto const ref = must(reserve_fetch());
  ASSERT_TRUE(tier_.begin_write(ref));
  tier_.publish_and_keep(ref);
  SlotAllocator allocator{scene_.state()};
  {
    auto const guard = must(scene_.state().lock_space());
    EXPECT_FALSE(allocator.evict(ref.index));
  }
  tier_.release({&ref, 1});
  auto const guard = must(scene_.state().lock_space());
  EXPECT_TRUE(allocator.evict(ref.index));
}

TEST_F(Fetched, WhatLiesOnDiskIsNotedAndForgotten) {
  auto const refs = scene_.reserve(prompt_);
  scene_.publish(prompt_, refs);
  auto const ref = refs[0][0];
  EXPECT_EQ(lower_tiers(ref), 0u);
  tier_.note_on_disk(ref);
  EXPECT_EQ(lower_tiers(ref), kOnDisk);
  EXPECT_EQ(lower_tiers(refs[0][1]), 0u);
  tier_.note_off_disk(key());
  EXPECT_EQ(lower_tiers(ref), 0u);
  tier_.note_off_disk(ChunkKey{});  // of a chunk that memory does not hold
  auto gone = ref;
  ++gone.generation;
  tier_.note_on_disk(gone);
  tier_.note_on_disk({});
  EXPECT_EQ(lower_tiers(ref), 0u) << "a note about what lay there before";
}

}  // namespace
}  // namespace lmcache::test
