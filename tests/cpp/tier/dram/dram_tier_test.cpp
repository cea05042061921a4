// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include <gtest/gtest.h>

#include "support/child_process.hpp"
#include "support/log_lines.hpp"
#include "support/scratch_folder.hpp"
#include "support/segment_invariants.hpp"
#include "support/tier_scene.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint32_t kChunk = 64;

class DramTierTest : public testing::Test {
 protected:
  TierShape shape(bool keep = false) const {
    TierShape out;
    out.options.name = "tier";
    out.options.directory = folder_.path();
    out.options.capacity_bytes = 16u << 20;
    out.options.remove_when_unused = !keep;
    return out;
  }
  // A process that does something to the segment and is killed.
  template <class Body>
  void in_a_process_that_dies(Body body) {
    ChildProcess child{[&] {
      body();
      ::raise(SIGKILL);
      return 0;
    }};
    EXPECT_EQ(child.wait(), 256 + SIGKILL);
  }

  ScratchFolder folder_;
  SystemClock clock_;
};

TEST_F(DramTierTest, APrivateSegmentIsNoFile) {
  TierScene scene;
  EXPECT_TRUE(scene.tier().segment().path().empty());
  scene.store(prompt_of(1, 100));
  TierScene other;
  EXPECT_EQ(other.hit(prompt_of(1, 100)), 0u);
}

TEST_F(DramTierTest, ProcessesOfOneNameShareASegment) {
  TierScene one{shape()};
  one.store(prompt_of(1, 100));
  TierScene two{shape()};
  EXPECT_EQ(two.hit(prompt_of(1, 100)), 100u);
  two.store(prompt_of(2, 100));
  EXPECT_EQ(one.hit(prompt_of(2, 100)), 100u);
  EXPECT_EQ(one.state().processes.attached_count(), 2u);
  EXPECT_TRUE(segment_is_sound(one.state()));
}

TEST_F(DramTierTest, TheLastToLeaveRemovesTheSegment) {
  auto one = std::make_unique<TierScene>(shape());
  auto two = std::make_unique<TierScene>(shape());
  one.reset();
  EXPECT_EQ(folder_.file_count(), 1u);
  two.reset();
  EXPECT_EQ(folder_.file_count(), 0u);
}

TEST_F(DramTierTest, ASegmentToKeepStaysAndIsFoundWarm) {
  {
    TierScene scene{shape(true)};
    scene.store(prompt_of(1, 100));
  }
  EXPECT_EQ(folder_.file_count(), 1u);
  TierScene again{shape(true)};
  EXPECT_EQ(again.hit(prompt_of(1, 100)), 100u);
  EXPECT_TRUE(nothing_is_held(again.state()));
}

TEST_F(DramTierTest, AfterACrashTheNextOneFindsItWarm) {
  in_a_process_that_dies([&] {
    TierScene scene{shape()};
    scene.store(prompt_of(1, 100));
    (void)scene.reserve(prompt_of(2, 100));
    (void)scene.tier().lookup(scene.space, scene.chain(prompt_of(1, 100)), kNoLimit);
    ::raise(SIGKILL);
  });
  EXPECT_EQ(folder_.file_count(), 1u);
  {
    TierScene scene{shape()};
    EXPECT_EQ(scene.hit(prompt_of(1, 100)), 100u);
    scene.tier().reap();
    EXPECT_TRUE(segment_is_sound(scene.state()));
    EXPECT_TRUE(nothing_is_held(scene.state()));
  }
  EXPECT_EQ(folder_.file_count(), 0u);
}

TEST_F(DramTierTest, OneThatCrashedDoesNotKeepTheSegmentFromBeingRemoved) {
  TierScene scene{shape()};
  in_a_process_that_dies([&] {
    TierScene crashing{shape()};
    ::raise(SIGKILL);
  });
  EXPECT_EQ(scene.state().processes.attached_count(), 2u);
  scene.close();
  EXPECT_EQ(folder_.file_count(), 0u);
}

TEST_F(DramTierTest, ASegmentThatWasClosedButKeptItsNameIsReplaced) {
  in_a_process_that_dies([&] {
    TierScene scene{shape()};
    scene.state().header.closed = 1;  // as if killed a moment before unlink()
    ::raise(SIGKILL);
  });
  EXPECT_EQ(folder_.file_count(), 1u);
  TierScene scene{shape()};
  EXPECT_TRUE(scene.tier().segment().created());
  EXPECT_EQ(scene.store(prompt_of(1, 100)), 2u);
}

TEST_F(DramTierTest, AnotherSizeIsSaidOnceAndChangesNothing) {
  TierScene scene{shape()};
  LogLines log;
  auto larger = shape();
  larger.options.capacity_bytes = 64u << 20;
  TierScene other{larger, clock_, log.hook()};
  EXPECT_EQ(log.lines().size(), 1u);
  EXPECT_EQ(log.count("exists with 16 MB; the 67 MB asked for here do not change it"), 1u);
  EXPECT_EQ(other.tier().segment().capacity_bytes(), 16u << 20);
  TierScene same{shape(), clock_, log.hook()};
  EXPECT_EQ(log.lines().size(), 1u);
}

TEST_F(DramTierTest, A65thProcessIsRefusedUnlessOneIsDead) {
  std::vector<std::unique_ptr<DramTier>> tiers;
  auto const options = shape().options;
  for (std::uint32_t i = 0; i < kMaxProcesses - 1; ++i)
    tiers.push_back(must(DramTier::open(options, clock_, {})));
  in_a_process_that_dies([&] {
    auto const tier = must(DramTier::open(options, clock_, {}));
    ::raise(SIGKILL);
  });
  tiers.push_back(must(DramTier::open(options, clock_, {})));
  auto const refused = DramTier::open(options, clock_, {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kUnavailable);
  tiers.pop_back();
  EXPECT_TRUE(DramTier::open(options, clock_, {}));
}

TEST_F(DramTierTest, ErrorsOfTheSegmentComeThrough) {
  EXPECT_EQ(DramTier::open({.capacity_bytes = 0}, clock_, {}).error().code(),
            ErrorCode::kInvalidArgument);
  auto bad_name = shape().options;
  bad_name.name = "a b";
  EXPECT_EQ(DramTier::open(bad_name, clock_, {}).error().code(), ErrorCode::kInvalidArgument);
  auto too_large = shape().options;
  too_large.capacity_bytes = std::uint64_t{1} << 50;
  EXPECT_EQ(DramTier::open(too_large, clock_, {}).error().code(), ErrorCode::kOutOfMemory);
  EXPECT_EQ(folder_.file_count(), 0u);
}

TEST_F(DramTierTest, ExtentsHoldWholeChunksOfTheHint) {
  for (std::uint64_t const hint : {100'000u, 1'000'000u, 3'000'000u, 4'718'592u, 50'000'000u}) {
    DramOptions const options{.capacity_bytes = std::uint64_t{1} << 32, .chunk_bytes_hint = hint};
    auto const tier = must(DramTier::open(options, clock_, {}));
    std::uint64_t const slot = SlotAllocator::slot_bytes(hint);
    std::uint64_t const extent = tier->state().header.extent_bytes;
    EXPECT_GE(extent, slot);
    EXPECT_EQ(extent % kExtentAlignBytes, 0u);
    EXPECT_LT(static_cast<double>(extent % slot) / static_cast<double>(extent), 0.03) << hint;
  }
  // Without one, as many as make sense.
  auto const tier = must(DramTier::open({.capacity_bytes = std::uint64_t{1} << 32}, clock_, {}));
  EXPECT_EQ(tier->state().header.extent_count, 64u);
}

TEST_F(DramTierTest, EntriesAreByCapacityUnlessAskedFor) {
  auto const entries = [&](DramOptions const& options) {
    return must(DramTier::open(options, clock_, {}))->state().index.capacity();
  };
  EXPECT_EQ(entries({.capacity_bytes = 4u << 20}), 4096u);
  EXPECT_EQ(entries({.capacity_bytes = std::uint64_t{4} << 30}), std::uint32_t{1} << 18);
  EXPECT_EQ(entries({.capacity_bytes = std::uint64_t{400} << 30}), std::uint32_t{1} << 20);
  EXPECT_EQ(entries({.capacity_bytes = 4u << 20, .max_entries = 256}), 256u);
}

TEST_F(DramTierTest, OpeningANamespaceTwiceGivesTheSameRecord) {
  TierScene one{shape()};
  TierScene two{shape()};
  EXPECT_EQ(one.space.place.id(), two.space.place.id());
  EXPECT_EQ(one.space.place.incarnation(), two.space.place.incarnation());
  auto const other = two.open_space("other");
  EXPECT_NE(other.place.id(), one.space.place.id());
}

TEST_F(DramTierTest, WhatAnotherProcessDeclaredIsKnown) {
  auto wide = shape();
  wide.lanes = 2;
  TierScene one{wide};
  auto first = one.open_space("ranks", false);
  must(one.tier().declare_lane(first, 1, 1234));
  TierScene two{wide};
  auto second = two.open_space("ranks", false);
  EXPECT_EQ(second.lane_block_bytes, (std::vector<std::uint64_t>{0, 1234}));
  must(two.tier().declare_lane(second, 0, 99));
  EXPECT_EQ(one.tier().record(first).lane_block_bytes[0], 99u);
}

TEST_F(DramTierTest, LanesAreChecked) {
  TierScene scene;
  auto& space = scene.space;
  for (std::uint64_t const bytes :
       {std::uint64_t{0}, (std::uint64_t{1} << 40) + 1, ~std::uint64_t{0}}) {
    auto const refused = scene.tier().declare_lane(space, 0, bytes);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), ErrorCode::kInvalidArgument);
  }
  auto const refused = scene.tier().declare_lane(space, 1, 64);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("lane 1 of a namespace of 1 lanes"), std::string::npos);
  auto none = scene.describe_space("none");
  none.lane_masks.clear();
  EXPECT_FALSE(scene.tier().open_namespace(none));
  must(scene.tier().declare_lane(space, 0, std::uint64_t{1} << 40));
  EXPECT_EQ(scene.store(prompt_of(1, 100)), 0u);
  EXPECT_EQ(scene.counters().dropped(DropReason::kTooLarge), 2u);
}

TEST_F(DramTierTest, LeavingGivesEverythingBack) {
  TierScene stays{shape()};
  TierScene leaves{shape()};
  leaves.store(prompt_of(1, 3 * kChunk));
  (void)leaves.reserve(prompt_of(2, 3 * kChunk));
  auto const writing = leaves.reserve(prompt_of(3, kChunk));
  ASSERT_TRUE(leaves.tier().begin_write(writing[0][0]));
  (void)leaves.tier().lookup(leaves.space, leaves.chain(prompt_of(1, 3 * kChunk)), kNoLimit);
  EXPECT_EQ(stays.use().leased, 4u);
  leaves.close();
  EXPECT_TRUE(nothing_is_held(stays.state()));
  EXPECT_EQ(stays.use().ready, 3u);
  EXPECT_TRUE(segment_is_sound(stays.state()));
  EXPECT_EQ(stays.state().header.departed.reaped_processes, 0u);
  EXPECT_EQ(stays.state().header.departed.lookups, 1u) << "what it counted stays";
}

TEST_F(DramTierTest, AForkLeavesItsParentsSegmentAlone) {
  TierScene scene{shape()};
  scene.store(prompt_of(1, kChunk));
  auto const found = scene.tier().lookup(scene.space, scene.chain(prompt_of(1, kChunk)), kNoLimit);
  ChildProcess child{[&] {
    scene.tier().release(found.lanes[0]);
    scene.close();
    return 0;
  }};
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(folder_.file_count(), 1u);
  EXPECT_EQ(scene.state().processes.attached_count(), 1u);
  EXPECT_EQ(scene.use().leased, 1u);
  EXPECT_EQ(scene.state().header.closed, 0u);
  scene.tier().release(found.lanes[0]);
}

TEST_F(DramTierTest, OneThatCannotLeaveInTimeIsTakenForDead) {
  TierScene stays{shape()};
  TierScene leaves{shape()};
  leaves.store(prompt_of(1, kChunk));
  (void)leaves.tier().lookup(leaves.space, leaves.chain(prompt_of(1, kChunk)), kNoLimit);
  auto const key = stays.chain(prompt_of(1, kChunk)).keys()[0] ^ stays.space.lane_masks[0];
  {
    auto const stuck = must(stays.state().index.lock(key, kLockTimeout));
    leaves.close();
  }
  EXPECT_EQ(stays.use().leased, 1u);
  stays.tier().reap();
  EXPECT_TRUE(nothing_is_held(stays.state()));
  EXPECT_EQ(stays.state().processes.attached_count(), 1u);
}

}  // namespace
}  // namespace lmcache::test
