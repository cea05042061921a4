// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/cuda_copier.hpp>

#include <gtest/gtest.h>

#include <memory>

#include "copier_conformance.hpp"
#include "cuda_scene.hpp"

namespace lmcache::test {
namespace {

template <class Memory, int kBatchVersion, std::uint64_t kEngineFromBytes>
struct CudaDevice {
  using EngineMemory = Memory;
  static std::unique_ptr<DeviceCopier> make() {
    return WorldCopier::make({.batch_version = kBatchVersion,
                              .kernels = kEngineFromBytes > 0,
                              .engine_from_bytes = kEngineFromBytes});
  }
};

// Slots that the device reaches: by batches, by the kernel. Slots that it does not reach: through
// buffers, by whichever the size says. Copies one by one are in cuda_queue_test.cpp: the suite
// takes long to compile.
using ByBatch = CudaDevice<CudaPinnedMemory, 13, 0>;
using ByKernel = CudaDevice<CudaPinnedMemory, 0, 1 << 30>;
using Buffered = CudaDevice<CudaEngineMemory, 12, 3000>;

TEST(CudaCopierTest, RefusesOptionsOutOfRange) {
  CudaSim sim;
  auto refused = [&](auto change) {
    auto options = small_options();
    change(options);
    auto const copier = CudaCopier::create(sim.api(), options, {});
    return !copier && copier.error().code() == ErrorCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused([](auto& options) { options.pieces.piece_bytes = 0; }));
  EXPECT_TRUE(refused([](auto& options) { options.staging_bytes = 79'999; }));
  EXPECT_TRUE(refused([](auto& options) { options.entry_bytes = 1000; }));
  EXPECT_TRUE(refused([](auto& options) { options.kernel_blocks = 0; }));
  EXPECT_TRUE(refused([](auto& options) { options.slots_piece_bytes = 0; }));
  EXPECT_EQ(sim.calls(), 0U);
}

TEST(CudaCopierTest, LoadsHaveTheHighPriority) {
  CudaWorld world;
  EXPECT_EQ(world.sim().priority_of(world.foreground()), -5);
  EXPECT_EQ(world.sim().priority_of(world.background()), 0);
}

TEST(CudaCopierTest, DefaultOptionsMoveLargeRuns) {
  CudaWorld world{{}, CudaCopierOptions{.choice = CopyChoice{}}};
  CopyScene<CudaEngineMemory> scene{{.planes = 2, .chunks = 3, .largest_page = 900'000}, 1};
  auto const ticket = world.copier().submit(scene.batch(CopyDirection::kEngineToSlot)).value();
  EXPECT_TRUE(world.copier().wait(ticket, soon()).value());
  EXPECT_TRUE(scene.all_same());
}

// Into the pool and out of it by the kernel, to and from the host by the engine.
TEST(CudaCopierTest, CopiesInsideTheDeviceGoTheirOwnWay) {
  Bytes slot(1000);
  auto options = small_options();
  options.choice = CopyChoice{.store = {.engine_from_bytes = 0},
                              .load = {.engine_from_bytes = 0},
                              .inside = {.engine_from_bytes = 1 << 20, .fewest = 1}};
  options.pool_bytes = 4096;
  CudaWorld world{{.kernels = true}, options};
  world.copier().pinned().offer(slot, 4096);
  CudaAddress const block = world.sim().allocate_device(1000);
  auto const copy = [&](CopyDirection direction, std::byte* place) {
    CopyBatch batch{.direction = direction, .plane_count = 1, .items = {{.slot = place}}};
    batch.items[0].runs = {{.engine = reinterpret_cast<std::byte*>(block), .bytes = 1000}};
    auto const ticket = world.copier().submit(std::move(batch)).value();
    EXPECT_TRUE(world.copier().wait(ticket, soon()).value());
    EXPECT_EQ(world.copier().item_status(ticket, 0), CopyStatus::kCopied);
    return world.sim().calls("cuLaunchKernel");
  };
  auto* const pool = world.copier().pool_memory().data();
  world.sim().write_device(block, Bytes(1000, std::byte{1}));
  EXPECT_EQ(copy(CopyDirection::kEngineToSlot, pool), 1U);
  world.sim().write_device(block, Bytes(1000, std::byte{2}));
  EXPECT_EQ(copy(CopyDirection::kSlotToEngine, pool), 2U);
  EXPECT_EQ(copy(CopyDirection::kEngineToSlot, slot.data()), 2U);
  EXPECT_EQ(slot[999], std::byte{1}) << "as the pool gave it back";
}

TEST(CudaCopierTest, SlotsArePinnedOnceTheyAreCopied) {
  Bytes slots(64 * 1024);
  CudaWorld world;
  world.copier().pinned().offer(slots, 32 * 1024);
  CudaAddress const block = world.sim().allocate_device(1000);
  auto const store = [&] {
    CopyBatch batch{.plane_count = 1, .items = {{.slot = slots.data() + 40'000}}};
    batch.items[0].runs = {{.engine = reinterpret_cast<std::byte*>(block), .bytes = 1000}};
    auto const ticket = world.copier().submit(std::move(batch)).value();
    EXPECT_TRUE(world.copier().wait(ticket, soon()).value());
    EXPECT_EQ(world.copier().item_status(ticket, 0), CopyStatus::kCopied);
  };
  world.sim().write_device(block, Bytes(1000, std::byte{1}));
  store();
  EXPECT_EQ(slots[40'999], std::byte{1});
  world.copier().pinned().settle();
  EXPECT_EQ(world.copier().pinned().pinned_bytes(), 32U * 1024);
  world.sim().write_device(block, Bytes(1000, std::byte{2}));
  store();
  EXPECT_EQ(slots[40'999], std::byte{2});
  EXPECT_EQ(slots[41'000], std::byte{0});
}

TEST(CudaCopierTest, EverythingIsGivenBack) {
  CudaWorld world;
  CopyScene<CudaEngineMemory> scene{{.chunks = 3}, 2};
  auto const ticket = world.copier().submit(scene.batch(CopyDirection::kSlotToEngine)).value();
  EXPECT_TRUE(world.copier().wait(ticket, soon()).value());
  world.end_copier();
  EXPECT_EQ(world.sim().alive(), 1U);  // the scene's device memory
}

}  // namespace

INSTANTIATE_TYPED_TEST_SUITE_P(CudaByBatch, CopierConformance, ByBatch);
INSTANTIATE_TYPED_TEST_SUITE_P(CudaByKernel, CopierConformance, ByKernel);
INSTANTIATE_TYPED_TEST_SUITE_P(CudaBuffered, CopierConformance, Buffered);

}  // namespace lmcache::test
