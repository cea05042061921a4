// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <limits>

#include <gtest/gtest.h>

#include "support/segment_invariants.hpp"
#include "support/tier_scene.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint32_t kChunk = 64;

class Leases : public testing::Test {
 protected:
  ChunkRef reserve_one() { return scene_.reserve(prompt_)[0][0]; }
  ChunkRef store_one() {
    auto const refs = scene_.reserve(prompt_);
    scene_.publish(prompt_, refs);
    return refs[0][0];
  }
  // Another process that holds a lock.
  RobustGuard hold_shard(ChunkRef ref) {
    return must(scene_.state().index.lock(entry(ref).key(), std::chrono::milliseconds{0}));
  }
  Entry& entry(ChunkRef ref) { return scene_.state().index.at(ref.index); }
  std::uint64_t dropped(DropReason reason) { return scene_.counters().dropped(reason); }

  TierScene scene_;
  TestPrompt prompt_ = prompt_of(1, kChunk);
  DramTier& tier_ = scene_.tier();
};

TEST_F(Leases, AReservationIsWrittenOnceAndThenReadable) {
  auto const ref = reserve_one();
  ASSERT_TRUE(ref);
  EXPECT_FALSE(tier_.is_ready(ref));
  EXPECT_FALSE(tier_.begin_read(ref)) << "nothing to read yet";
  auto const slot = tier_.begin_write(ref);
  ASSERT_TRUE(slot);
  EXPECT_EQ(slot->payload_bytes, kChunk * scene_.shape().token_bytes);
  EXPECT_EQ(slot->valid_tokens, kChunk);
  EXPECT_FALSE(tier_.begin_write(ref)) << "one writer";
  EXPECT_FALSE(tier_.begin_read(ref));
  tier_.publish(ref);
  EXPECT_TRUE(tier_.is_ready(ref));
  EXPECT_FALSE(tier_.begin_write(ref)) << "published bytes never change";
  auto const read = tier_.begin_read(ref);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->payload, slot->payload);
  tier_.release({&ref, 1});
  EXPECT_TRUE(segment_is_sound(scene_.state()));
  EXPECT_TRUE(nothing_is_held(scene_.state()));
}

TEST_F(Leases, AnAbandonedWriteLeavesNothing) {
  auto const ref = reserve_one();
  ASSERT_TRUE(tier_.begin_write(ref));
  tier_.abandon(ref);
  EXPECT_FALSE(tier_.begin_write(ref));
  EXPECT_TRUE(nothing_is_held(scene_.state()));
  EXPECT_EQ(dropped(DropReason::kCancelled), 0u) << "whoever abandons counts, with its reason";
  EXPECT_TRUE(reserve_one()) << "it can be stored again at once";
}

TEST_F(Leases, CancelGivesBackWhatNobodyWrites) {
  auto const ref = reserve_one();
  tier_.cancel(ref);
  EXPECT_FALSE(tier_.begin_write(ref));
  EXPECT_EQ(dropped(DropReason::kCancelled), 1u);
  tier_.cancel(ref);
  EXPECT_EQ(dropped(DropReason::kCancelled), 1u) << "once";
  auto const again = reserve_one();
  ASSERT_TRUE(again);
  ASSERT_TRUE(tier_.begin_write(again));
  tier_.cancel(again);
  EXPECT_EQ(dropped(DropReason::kCancelled), 1u) << "somebody is writing it";
  tier_.publish(again);
  tier_.cancel(again);
  EXPECT_TRUE(tier_.is_ready(again)) << "it was published";
  EXPECT_TRUE(nothing_is_held(scene_.state()));
}

TEST_F(Leases, AStaleRefNamesNothing) {
  auto const stale = store_one();
  ASSERT_EQ(clear_chunks(scene_.state(), std::nullopt), 1u);
  prompt_ = prompt_of(2, kChunk);
  auto const fresh = reserve_one();
  ASSERT_EQ(fresh.index, stale.index) << "the test wants the same entry";
  EXPECT_NE(fresh.generation, stale.generation);
  for (int round = 0; round < 2; ++round) {  // reserved, then published
    EXPECT_FALSE(tier_.is_ready(stale));
    EXPECT_FALSE(tier_.begin_read(stale));
    EXPECT_FALSE(tier_.begin_write(stale));
    tier_.publish(stale);
    tier_.cancel(stale);
    tier_.abandon(stale);
    tier_.release({&stale, 1});
    EXPECT_EQ(tier_.is_ready(fresh), round == 1);
    if (round == 0) {
      ASSERT_TRUE(tier_.begin_write(fresh));
      tier_.publish(fresh);
    }
  }
  EXPECT_TRUE(segment_is_sound(scene_.state()));
  EXPECT_TRUE(nothing_is_held(scene_.state()));
}

TEST_F(Leases, RefsFromNowhereNameNothing) {
  (void)store_one();
  for (auto const ref :
       {ChunkRef{}, ChunkRef{.index = 0, .generation = 0},
        ChunkRef{.index = 5'000, .generation = 1}, ChunkRef{.index = kNoEntry, .generation = 1}}) {
    EXPECT_FALSE(tier_.is_ready(ref));
    EXPECT_FALSE(tier_.begin_read(ref));
    EXPECT_FALSE(tier_.begin_write(ref));
    tier_.publish(ref);
    tier_.cancel(ref);
    tier_.abandon(ref);
    tier_.release({&ref, 1});
  }
  EXPECT_TRUE(segment_is_sound(scene_.state()));
}

TEST_F(Leases, LastAsLongAsTheLastOfThem) {
  auto const ref = store_one();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(tier_.begin_read(ref));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(clear_chunks(scene_.state(), std::nullopt), 0u);
    tier_.release({&ref, 1});
  }
  EXPECT_EQ(clear_chunks(scene_.state(), std::nullopt), 1u);
}

TEST_F(Leases, ALeaseReleasedTwiceIsReleasedOnce) {
  auto const ref = store_one();
  ASSERT_TRUE(tier_.begin_read(ref));
  tier_.release({&ref, 1});
  tier_.release({&ref, 1});
  ASSERT_TRUE(tier_.begin_read(ref));
  EXPECT_EQ(scene_.use().leased, 1u);
  EXPECT_EQ(clear_chunks(scene_.state(), std::nullopt), 0u);
  tier_.release({&ref, 1});
  EXPECT_TRUE(nothing_is_held(scene_.state()));
}

TEST_F(Leases, MoreThanCanBeCountedAreRefused) {
  auto const ref = store_one();
  constexpr int kMost = std::numeric_limits<std::uint16_t>::max();
  for (int i = 0; i < kMost; ++i) ASSERT_TRUE(tier_.begin_read(ref));
  EXPECT_FALSE(tier_.begin_read(ref));
  EXPECT_EQ(scene_.hit(prompt_), 0u);
  for (int i = 0; i < kMost; ++i) tier_.release({&ref, 1});
  EXPECT_TRUE(nothing_is_held(scene_.state()));
  EXPECT_EQ(scene_.hit(prompt_), kChunk);
}

TEST_F(Leases, AReleaseThatALockRefusesIsMadeLater) {
  auto const ref = store_one();
  ASSERT_TRUE(tier_.begin_read(ref));
  {
    auto const stuck = hold_shard(ref);
    tier_.release({&ref, 1});
    tier_.settle_debts();
  }
  EXPECT_EQ(scene_.use().leased, 1u);
  tier_.settle_debts();
  EXPECT_EQ(scene_.use().leased, 0u);
}

TEST_F(Leases, PublishingWaitsForNoLock) {
  auto const ref = reserve_one();
  ASSERT_TRUE(tier_.begin_write(ref));
  {
    auto const stuck = hold_shard(ref);
    auto const started = std::chrono::steady_clock::now();
    tier_.publish(ref);
    EXPECT_LT(std::chrono::steady_clock::now() - started, 3 * kLockTimeout);
    EXPECT_TRUE(tier_.is_ready(ref));
  }
  EXPECT_EQ(scene_.use().leased, 1u);
  tier_.settle_debts();
  EXPECT_TRUE(nothing_is_held(scene_.state()));
}

TEST_F(Leases, AReservationThatALockKeepsIsGivenBackLater) {
  for (bool const space : {true, false}) {
    for (bool const writing : {true, false}) {
      auto const ref = reserve_one();
      ASSERT_TRUE(ref);
      ASSERT_EQ(writing && !tier_.begin_write(ref), false);
      {
        auto const stuck = space ? must(scene_.state().lock_space()) : hold_shard(ref);
        writing ? tier_.abandon(ref) : tier_.cancel(ref);
      }
      EXPECT_EQ(scene_.use().writing, 1u);
      EXPECT_FALSE(reserve_one()) << "still taken";
      tier_.settle_debts();
      EXPECT_TRUE(nothing_is_held(scene_.state()));
      EXPECT_EQ(scene_.use().ready, 0u);
    }
  }
  EXPECT_EQ(dropped(DropReason::kCancelled), 2u);
}

TEST_F(Leases, OfTwoProcessesAreKeptApart) {
  TierShape shape;
  shape.options.name = "leases-of-two";
  shape.options.directory = testing::TempDir();
  TierScene one{shape};
  TierScene two{shape};
  auto const refs = one.reserve(prompt_);
  one.publish(prompt_, refs);
  auto const ref = refs[0][0];
  ASSERT_TRUE(one.tier().begin_read(ref));
  ASSERT_TRUE(two.tier().begin_read(ref));
  one.tier().release({&ref, 1});
  EXPECT_EQ(clear_chunks(one.state(), std::nullopt), 0u);
  EXPECT_TRUE(segment_is_sound(two.state()));
  two.tier().release({&ref, 1});
  EXPECT_EQ(clear_chunks(one.state(), std::nullopt), 1u);
}

}  // namespace
}  // namespace lmcache::test
