// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/cuda_lane.hpp>

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include <lmcache/base/cuda_error.hpp>
#include <lmcache/device/ring_space.hpp>

#include "cuda_scene.hpp"

namespace lmcache::test {
namespace {

using detail::CudaLane;
using detail::CudaPiece;
using detail::LaneRoom;
using detail::RingSpace;

TEST(RingSpaceTest, PiecesGoRoundAndNeverWrap) {
  RingSpace ring{100};
  EXPECT_EQ(ring.take(60), 0U);
  EXPECT_EQ(ring.take(30), 60U);
  EXPECT_EQ(ring.take(11), std::nullopt);
  ring.give_back();
  EXPECT_EQ(ring.take(50), 0U);  // not the 10 at the end
  EXPECT_EQ(ring.take(11), std::nullopt);
  ring.untake();
  EXPECT_EQ(ring.take(60), 0U);
  EXPECT_EQ(ring.take(1), std::nullopt);
  ring.give_back();
  EXPECT_EQ(ring.take(30), 60U);
  EXPECT_EQ(ring.take(101), std::nullopt);
}

TEST(RingSpaceTest, AnEmptyRingHasRoomForAllOfIt) {
  RingSpace ring{100};
  for (int round = 0; round < 5; ++round) {
    ASSERT_EQ(ring.take(70), 0U);
    ring.give_back();
    ASSERT_EQ(ring.take(100), 0U);
    ring.untake();
    ASSERT_EQ(ring.take(100), 0U);
    ring.give_back();
  }
}

struct CudaLaneTest : ::testing::Test {
  void start(CudaSimOptions options = {}) {
    sim = std::make_unique<CudaSim>(std::move(options));
    ASSERT_EQ(sim->api().primary_context_retain(&context, 0), CudaStatus::kSuccess);
    scope = std::make_unique<CudaScope>(sim->api(), context);
    events = std::make_unique<detail::CudaEvents>(sim->api());
    pinned = must(PinnedMemory::create(sim->api(), context, {}));
    lane = must(CudaLane::create(sim->api(), {.staging_bytes = 1000, .entry_bytes = 1000}, *pinned,
                                 *events));
    block = reinterpret_cast<std::byte*>(sim->allocate_device(4000));
  }
  // A store of `bytes` from the device to `slot`, by default not pinned.
  CudaPiece store(std::size_t bytes) {
    return {.direction = CopyDirection::kEngineToSlot,
            .parts = {{.to = slot.data(), .from = block, .bytes = bytes}}};
  }

  std::vector<std::byte> slot = std::vector<std::byte>(4000);
  std::unique_ptr<CudaSim> sim;
  CudaContext context = nullptr;
  std::unique_ptr<CudaScope> scope;
  std::unique_ptr<detail::CudaEvents> events;
  std::unique_ptr<PinnedMemory> pinned;
  std::unique_ptr<CudaLane> lane;
  std::byte* block = nullptr;
};

TEST_F(CudaLaneTest, BuffersAreBoundedAndComeBack) {
  start();
  auto first = store(600);
  auto second = store(600);
  ASSERT_EQ(lane->begin(first).status, CudaStatus::kSuccess);
  EXPECT_EQ(lane->begin(second).room, LaneRoom::kFull);
  EXPECT_EQ(second.event, nullptr);
  sim->settle();
  ASSERT_EQ(sim->api().event_query(first.event), CudaStatus::kSuccess);
  lane->finish(first);
  EXPECT_EQ(lane->begin(second).room, LaneRoom::kBegun);
  sim->settle();
  lane->finish(second);
  EXPECT_TRUE(sim->violations().empty());
}

TEST_F(CudaLaneTest, ABufferedStoreArrivesWhenItIsFinished) {
  start();
  sim->write_device(reinterpret_cast<CudaAddress>(block), Bytes(600, std::byte{4}));
  auto piece = store(600);
  ASSERT_EQ(lane->begin(piece).status, CudaStatus::kSuccess);
  sim->settle();
  EXPECT_EQ(slot[599], std::byte{0});
  lane->finish(piece);
  EXPECT_EQ(slot[599], std::byte{4});
  EXPECT_EQ(slot[600], std::byte{0});
}

TEST_F(CudaLaneTest, PinnedMemoryNeedsNoBuffer) {
  start();
  pinned->offer(slot, 4000);
  (void)pinned->find(slot.data());
  pinned->settle();
  auto piece = store(3000);
  ASSERT_EQ(lane->begin(piece).status, CudaStatus::kSuccess);
  EXPECT_FALSE(piece.took_staging);
  EXPECT_TRUE(piece.staged.empty());
  sim->settle();
  lane->finish(piece);
}

TEST_F(CudaLaneTest, ARefusedCopyTakesNothing) {
  start();
  sim->fail_call(1, CudaStatus::kInvalidValue, "cuMemcpyAsync");
  auto piece = store(1000);
  EXPECT_EQ(lane->begin(piece).status, CudaStatus::kInvalidValue);
  EXPECT_EQ(piece.event, nullptr);
  auto again = store(1000);
  EXPECT_EQ(lane->begin(again).room, LaneRoom::kBegun);
  sim->settle();
  lane->finish(again);
}

TEST_F(CudaLaneTest, HalfARefusedPieceEndsWithItsEvent) {
  start({.batch_version = 0});
  sim->fail_call(2, CudaStatus::kInvalidValue, "cuMemcpyAsync");
  CudaPiece piece{.direction = CopyDirection::kEngineToSlot,
                  .parts = {{.to = slot.data(), .from = block, .bytes = 10},
                            {.to = slot.data() + 50, .from = block + 70, .bytes = 10}}};
  EXPECT_EQ(lane->begin(piece).status, CudaStatus::kInvalidValue);
  EXPECT_TRUE(piece.failed);
  ASSERT_NE(piece.event, nullptr);
  sim->settle();
  lane->finish(piece);
  EXPECT_EQ(slot[0], std::byte{0});
}

TEST_F(CudaLaneTest, WithoutAnEventTheLaneIsWaitedFor) {
  start();
  sim->fail_call(1, CudaStatus::kOutOfMemory, "cuEventRecord");
  auto piece = store(1000);
  EXPECT_EQ(lane->begin(piece).status, CudaStatus::kOutOfMemory);
  EXPECT_EQ(piece.event, nullptr);
  EXPECT_EQ(sim->calls("cuStreamSynchronize"), 1U);
  auto again = store(1000);
  EXPECT_EQ(lane->begin(again).room, LaneRoom::kBegun);
  sim->settle();
  lane->finish(again);
}

TEST_F(CudaLaneTest, WhatIsMissingIsAnError) {
  for (std::uint64_t n = 1; n <= 3; ++n) {
    lane.reset();
    pinned.reset();
    scope.reset();
    sim.reset();
    start();
    lane.reset();
    auto const before = sim->alive();
    sim->fail_call(n, CudaStatus::kOutOfMemory);
    auto const made = CudaLane::create(sim->api(), {.staging_bytes = 1000, .entry_bytes = 1000},
                                       *pinned, *events);
    ASSERT_FALSE(made) << n;
    EXPECT_EQ(made.error().code(), ErrorCode::kOutOfMemory);
    EXPECT_EQ(sim->alive(), before) << n;
  }
}

}  // namespace
}  // namespace lmcache::test
