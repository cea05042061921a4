// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "support/child_process.hpp"
#include "support/log_lines.hpp"
#include "support/scratch_folder.hpp"
#include "support/segment_invariants.hpp"
#include "support/tier_scene.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint32_t kChunk = 64;

class Reaper : public testing::Test {
 protected:
  TierShape shape() const {
    TierShape out;
    out.options.name = "reaper";
    out.options.directory = folder_.path();
    out.options.capacity_bytes = 16u << 20;
    return out;
  }
  // A process that does something with a tier of its own and is killed.
  template <class Body>
  void in_a_process_that_dies(Body body) {
    ChildProcess child{[&] {
      TierScene scene{shape()};
      body(scene);
      ::raise(SIGKILL);
      return 0;
    }};
    EXPECT_EQ(child.wait(), 256 + SIGKILL);
  }

  ScratchFolder folder_;
  LogLines log_;
  ManualClock clock_;
  TierScene scene_{shape(), clock_, log_.hook()};
};

TEST_F(Reaper, HasNothingToDoWhileAllLive) {
  TierScene other{shape()};
  (void)other.reserve(prompt_of(1, kChunk));
  scene_.tier().reap();
  EXPECT_EQ(scene_.use().writing, 1u);
  EXPECT_EQ(scene_.state().processes.attached_count(), 2u);
  EXPECT_TRUE(log_.lines().empty());
}

TEST_F(Reaper, TakesBackTheLeasesAndReservationsOfTheDead) {
  scene_.store(prompt_of(1, 3 * kChunk));
  in_a_process_that_dies([](TierScene& scene) {
    (void)scene.tier().lookup(scene.space, scene.chain(prompt_of(1, 3 * kChunk)), kNoLimit);
    (void)scene.reserve(prompt_of(2, 2 * kChunk));
    auto const refs = scene.reserve(prompt_of(3, 2 * kChunk));
    (void)scene.tier().begin_write(refs[0][0]);  // half written
    scene.publish(prompt_of(3, 2 * kChunk), {{{}, refs[0][1]}});
  });
  EXPECT_EQ(scene_.use().leased, 4u);
  EXPECT_EQ(scene_.use().writing, 3u);
  scene_.tier().reap();
  EXPECT_TRUE(nothing_is_held(scene_.state()));
  EXPECT_EQ(scene_.use().ready, 4u) << "what it published stays";
  EXPECT_TRUE(segment_is_sound(scene_.state()));
  EXPECT_EQ(scene_.state().processes.attached_count(), 1u);
  EXPECT_EQ(scene_.state().header.departed.reaped_processes, 1u);
  EXPECT_EQ(scene_.state().header.departed.reclaimed_slots, 3u);
  EXPECT_EQ(scene_.state().header.departed.reclaimed_leases, 4u);
  EXPECT_EQ(scene_.state().header.departed.lookups, 1u);
  EXPECT_EQ(log_.count("is gone without leaving the segment"), 1u);
  EXPECT_EQ(scene_.store(prompt_of(2, 2 * kChunk)), 2u)
      << "what nobody will write can be stored again";
  scene_.tier().reap();
  EXPECT_EQ(log_.lines().size(), 1u);
}

TEST_F(Reaper, ASlotThatTheDeadWereReadingIntoWaitsForTheKernel) {
  auto const prompt = prompt_of(1, 3 * kChunk);
  in_a_process_that_dies([&](TierScene& scene) {
    for (std::uint32_t chunk = 0; chunk < 2; ++chunk) {
      auto const ref = must(scene.tier().reserve_fetch(
          scene.space, scene.chain(prompt),
          {.chunk = chunk, .end_token = (chunk + 1) * kChunk, .lane = 0}));
      if (chunk == 0) (void)scene.tier().begin_write(ref);  // a read is under way
    }
  });
  auto const key = scene_.chain(prompt).keys()[0] ^ scene_.space.lane_masks[0];
  auto const ref = scene_.tier().find(key).ref;
  EXPECT_TRUE(scene_.tier().is_reserved(ref));
  scene_.tier().reap();
  EXPECT_EQ(scene_.use().writing, 1u) << "the other was not begun";
  EXPECT_EQ(scene_.use().leased, 0u);
  EXPECT_FALSE(scene_.tier().is_reserved(ref)) << "nobody waits for it";
  EXPECT_EQ(scene_.tier().find(key).where, DramTier::Whereabouts::kWriting);
  clock_.advance_seconds(59);
  scene_.tier().sweep_expired();
  EXPECT_EQ(scene_.use().writing, 1u);
  clock_.advance_seconds(1);
  scene_.tier().sweep_expired();
  EXPECT_EQ(scene_.use().writing, 0u);
  EXPECT_EQ(scene_.tier().find(key).where, DramTier::Whereabouts::kAbsent);
  EXPECT_TRUE(segment_is_sound(scene_.state()));
  EXPECT_EQ(scene_.store(prompt), 3u);
}

TEST_F(Reaper, LeasesOfTheLivingOnTheSameChunkStay) {
  scene_.store(prompt_of(1, kChunk));
  auto const mine =
      scene_.tier().lookup(scene_.space, scene_.chain(prompt_of(1, kChunk)), kNoLimit);
  in_a_process_that_dies([](TierScene& scene) {
    (void)scene.tier().lookup(scene.space, scene.chain(prompt_of(1, kChunk)), kNoLimit);
  });
  scene_.tier().reap();
  EXPECT_EQ(scene_.use().leased, 1u);
  EXPECT_EQ(clear_chunks(scene_.state(), std::nullopt), 0u);
  scene_.tier().release(mine.lanes[0]);
  EXPECT_TRUE(nothing_is_held(scene_.state()));
}

TEST_F(Reaper, AWriterInheritsTheReservationOfADeadReserver) {
  Milestone reserved;
  Milestone begun;
  auto const prompt = prompt_of(1, kChunk);
  ChildProcess reserver{[&] {
    TierScene scene{shape()};
    (void)scene.reserve(prompt);
    reserved.reach();
    wait_to_be_killed();
    return 0;
  }};
  reserved.await();
  auto const index =
      scene_.state().index.find(scene_.chain(prompt).keys()[0] ^ scene_.space.lane_masks[0]);
  ASSERT_NE(index, kNoEntry);
  ChunkRef const ref{.index = index, .generation = scene_.state().index.at(index).generation};
  auto const slot = scene_.tier().begin_write(ref);
  ASSERT_TRUE(slot);
  reserver.kill();
  scene_.tier().reap();
  EXPECT_EQ(scene_.use().writing, 1u);
  EXPECT_TRUE(segment_is_sound(scene_.state()));
  scene_.write(*slot, causal_states(prompt, scene_.space.opened.root.prefix64()), 0, 0);
  scene_.tier().publish(ref);
  EXPECT_EQ(scene_.hit(prompt), kChunk);
}

TEST_F(Reaper, AHalfWrittenChunkOfADeadWriterIsFreedThoughItsReserverLives) {
  auto const prompt = prompt_of(1, kChunk);
  auto const ref = scene_.reserve(prompt)[0][0];
  in_a_process_that_dies([&](TierScene& scene) { EXPECT_TRUE(scene.tier().begin_write(ref)); });
  EXPECT_FALSE(scene_.tier().begin_write(ref)) << "somebody seems to write it";
  scene_.tier().reap();
  EXPECT_TRUE(nothing_is_held(scene_.state()));
  EXPECT_FALSE(scene_.tier().begin_write(ref));
  scene_.tier().cancel(ref);
  EXPECT_EQ(scene_.store(prompt), 1u);
}

TEST_F(Reaper, AReservationThatWasNotBegunStaysWithItsLivingReserver) {
  auto const ref = scene_.reserve(prompt_of(1, kChunk))[0][0];
  in_a_process_that_dies([](TierScene&) {});
  scene_.tier().reap();
  EXPECT_TRUE(scene_.tier().begin_write(ref));
  scene_.tier().abandon(ref);
}

TEST_F(Reaper, TriesAgainWhenALockIsHeld) {
  scene_.store(prompt_of(1, kChunk));
  in_a_process_that_dies([](TierScene& scene) {
    (void)scene.tier().lookup(scene.space, scene.chain(prompt_of(1, kChunk)), kNoLimit);
  });
  {
    auto const key = scene_.chain(prompt_of(1, kChunk)).keys()[0] ^ scene_.space.lane_masks[0];
    auto const stuck = must(scene_.state().index.lock(key, kLockTimeout));
    scene_.tier().reap();
    EXPECT_EQ(scene_.state().processes.attached_count(), 2u);
    EXPECT_TRUE(log_.lines().empty());
  }
  scene_.tier().reap();
  EXPECT_EQ(scene_.state().processes.attached_count(), 1u);
  EXPECT_TRUE(nothing_is_held(scene_.state()));
  EXPECT_EQ(scene_.state().header.departed.reclaimed_leases, 1u);
}

TEST_F(Reaper, SweepsWhatIsExpired) {
  auto options = shape().options;
  options.ttl_seconds = 100;
  TierScene mortal{{.options = options}, clock_};
  mortal.store(prompt_of(1, 3 * kChunk));
  scene_.store(prompt_of(2, 2 * kChunk));
  clock_.advance_seconds(50);
  mortal.store(prompt_of(3, kChunk));
  scene_.tier().sweep_expired();
  EXPECT_EQ(scene_.use().ready, 6u);
  clock_.advance_seconds(50);
  auto const leased =
      scene_.tier().begin_read({.index = 0, .generation = scene_.state().index.at(0).generation});
  ASSERT_TRUE(leased);
  scene_.tier().sweep_expired();
  EXPECT_EQ(scene_.use().ready, 4u) << "the leased one stays for now";
  ChunkRef const held{.index = 0, .generation = scene_.state().index.at(0).generation};
  scene_.tier().release({&held, 1});
  scene_.tier().sweep_expired();
  EXPECT_EQ(scene_.use().ready, 3u);
  EXPECT_EQ(scene_.counters().expired_chunks, 3u);
  EXPECT_EQ(scene_.counters().evicted_chunks, 0u);
  EXPECT_EQ(scene_.hit(prompt_of(2, 2 * kChunk)), 2 * kChunk);
  EXPECT_EQ(scene_.hit(prompt_of(3, kChunk)), kChunk);
  EXPECT_TRUE(segment_is_sound(scene_.state()));
}

TEST_F(Reaper, WantsMemoryAheadOfNeed) {
  auto& tier = scene_.tier();
  for (std::uint32_t extent = 0; extent < scene_.state().extents.count(); ++extent) {
    ASSERT_EQ(tier.extent_to_reserve().extent, extent) << "16 MiB are less than what is kept ready";
    tier.note_reservation(extent, {});
  }
  EXPECT_EQ(tier.extent_to_reserve().extent, std::nullopt);
  EXPECT_EQ(scene_.use().reserved_bytes, 16u << 20);
}

TEST_F(Reaper, WithoutMemoryTheCacheStaysAsItIs) {
  auto& tier = scene_.tier();
  Result<void> const no_room = Error{ErrorCode::kOutOfMemory, "no room"};
  tier.note_reservation(0, {});
  tier.note_reservation(0, no_room);  // somebody else had room for it
  EXPECT_EQ(tier.segment().capacity_bytes(), 16u << 20);
  tier.note_reservation(1, no_room);
  tier.note_reservation(1, {});  // another process, which came later
  EXPECT_EQ(scene_.use().reserved_bytes, scene_.state().header.extent_bytes);
  EXPECT_EQ(tier.extent_to_reserve().extent, std::nullopt);
  EXPECT_EQ(tier.segment().capacity_bytes(), scene_.state().header.extent_bytes);
  EXPECT_TRUE(segment_is_sound(scene_.state()));
}

}  // namespace
}  // namespace lmcache::test
