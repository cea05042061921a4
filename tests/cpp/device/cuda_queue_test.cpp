// SPDX-License-Identifier: Apache-2.0
// The order of copies against the engine's stream, by the slowest schedules there are: a stream is
// held, everything else goes as far as it can, and then the bytes must be right. Without any one of
// the waits in the copier, one of these fails (tests/cuda_sim/remove_waits.py).
#include <lmcache/device/cuda_queue.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "cuda_scene.hpp"

namespace lmcache::test {
namespace {

constexpr std::size_t kPage = 512;
constexpr std::uint32_t kPlanes = 4;
CopyDeadline never() { return CopyDeadline::max(); }

// By batches, by the kernel, one by one; from slots that are pinned, or through buffers.
struct OrderCase {
  CudaWay way;
  bool pinned;
};

// One chunk of one block: page p of the block is plane p.
class CudaOrder : public ::testing::TestWithParam<OrderCase> {
 protected:
  CudaOrder() : world_{GetParam().way, options()} {
    block_ = reinterpret_cast<std::byte*>(sim().allocate_device(kPlanes * kPage));
    engine_ = sim().make_engine_stream();
    probe_ = sim().make_engine_stream();
    if (GetParam().pinned) {
      world_.copier().pinned().offer(slot_, slot_.size());
      (void)world_.copier().pinned().find(slot_.data());
      world_.copier().pinned().settle();
    }
  }
  static CudaCopierOptions options() {
    auto made = small_options(GetParam().way);
    made.pieces.plane_bytes = 1;  // each plane of a load is a piece
    return made;
  }

  CudaSim& sim() { return world_.sim(); }
  CudaCopier& copier() { return world_.copier(); }
  static EngineStream handle(CudaStream stream) {
    return {.handle = reinterpret_cast<std::uintptr_t>(stream)};
  }
  CopyTicket submit(CopyDirection direction, CopyPriority priority) {
    CopyBatch batch{.direction = direction,
                    .priority = priority,
                    .plane_count = kPlanes,
                    .items = {{.slot = slot_.data()}},
                    .engine_stream = handle(engine_)};
    for (std::uint32_t plane = 0; plane < kPlanes; ++plane) {
      // Two runs that do not touch on the engine's side, so that there is something to gather.
      for (std::uint64_t half = 0; half < 2; ++half) {
        std::uint64_t const bytes = kPage / 2 - 16;
        batch.items[0].runs.push_back({.engine = block_ + plane * kPage + half * kPage / 2,
                                       .slot_offset = plane * kPage + half * bytes,
                                       .bytes = bytes,
                                       .plane = plane});
      }
    }
    auto ticket = copier().submit(std::move(batch));
    EXPECT_TRUE(ticket) << ticket.error().message();
    return ticket.value();
  }
  CopyTicket store() { return submit(CopyDirection::kEngineToSlot, CopyPriority::kBackground); }
  CopyTicket load() { return submit(CopyDirection::kSlotToEngine, CopyPriority::kForeground); }
  // All copies of the ticket are on their way: everything that may happen happens.
  void go_as_far_as_possible(CopyTicket ticket) {
    ASSERT_TRUE(copier().stream_wait_plane(ticket, kPlanes - 1, handle(probe_), never()).value());
    sim().settle();
  }
  void fill_block(std::byte value) {
    sim().compute(engine_,
                  [this, value] { std::memset(block_, static_cast<int>(value), 4 * kPage); });
  }
  void fill_slot(std::byte value) {
    std::memset(slot_.data(), static_cast<int>(value), slot_.size());
  }
  // The engine reads a byte of every plane, when its stream comes to it.
  void read_block() {
    sim().compute(engine_, [this] {
      for (std::uint32_t plane = 0; plane < kPlanes; ++plane) seen_[plane] = block_[plane * kPage];
      read_ = true;
    });
  }
  void wait(CopyTicket ticket) { ASSERT_TRUE(copier().wait(ticket, never()).value()); }

  Bytes slot_ = Bytes(kPlanes * kPage);
  CudaWorld world_;
  std::byte* block_ = nullptr;
  CudaStream engine_ = nullptr;
  CudaStream probe_ = nullptr;
  Bytes seen_ = Bytes(kPlanes);
  std::atomic<bool> read_ = false;
};

TEST_P(CudaOrder, AStoreWaitsForTheComputeThatFillsItsBlocks) {
  sim().hold(engine_);
  fill_block(std::byte{7});
  auto const ticket = store();
  go_as_far_as_possible(ticket);
  EXPECT_FALSE(copier().done(ticket));
  sim().release(engine_);
  wait(ticket);
  EXPECT_EQ(slot_[0], std::byte{7});
  EXPECT_EQ(slot_[(kPlanes - 1) * kPage], std::byte{7});
}

TEST_P(CudaOrder, ComputeSubmittedAfterAStoreIsNotWaitedFor) {
  fill_block(std::byte{7});
  sim().settle();
  auto const ticket = store();
  sim().settle();  // the event of submit() is reached
  sim().hold(engine_);
  read_block();
  wait(ticket);
  EXPECT_EQ(slot_[0], std::byte{7});
  sim().release(engine_);
  sim().settle();
}

TEST_P(CudaOrder, ALoadWaitsForTheComputeThatReadsItsBlocks) {
  fill_block(std::byte{1});
  sim().settle();
  fill_slot(std::byte{2});
  sim().hold(engine_);
  read_block();
  auto const ticket = load();
  go_as_far_as_possible(ticket);
  sim().release(engine_);
  wait(ticket);
  sim().settle();
  EXPECT_EQ(seen_, Bytes(kPlanes, std::byte{1}));
  EXPECT_EQ(sim().read_device(reinterpret_cast<CudaAddress>(block_), 1)[0], std::byte{2});
}

TEST_P(CudaOrder, TheEngineWaitsForTheBytesOfALoad) {
  fill_block(std::byte{1});
  sim().settle();
  fill_slot(std::byte{2});
  sim().hold(world_.foreground());
  auto const ticket = load();
  ASSERT_TRUE(copier().stream_wait_plane(ticket, kPlanes - 1, handle(engine_), never()).value());
  read_block();
  sim().settle();
  EXPECT_FALSE(read_);
  sim().release(world_.foreground());
  sim().settle();
  EXPECT_TRUE(read_);
  EXPECT_EQ(seen_, Bytes(kPlanes, std::byte{2}));
  wait(ticket);
}

TEST_P(CudaOrder, TheEngineWaitsForAStoreThatReadsItsBlocks) {
  fill_block(std::byte{5});
  sim().settle();
  sim().hold(world_.background());
  auto const ticket = store();
  ASSERT_TRUE(copier().stream_wait_plane(ticket, kPlanes - 1, handle(engine_), never()).value());
  fill_block(std::byte{6});
  sim().settle();
  sim().release(world_.background());
  wait(ticket);
  sim().settle();
  EXPECT_EQ(slot_[0], std::byte{5});
  EXPECT_EQ(slot_[(kPlanes - 1) * kPage], std::byte{5});
}

TEST_P(CudaOrder, ALayerIsWaitedForAlone) {
  fill_slot(std::byte{2});
  CudaStream const lane = world_.foreground();
  sim().hold(lane);
  auto const ticket = load();
  go_as_far_as_possible(ticket);
  ASSERT_TRUE(copier().stream_wait_plane(ticket, 0, handle(engine_), never()).value());
  read_block();
  sim().settle();
  EXPECT_FALSE(read_);
  for (int works = 0; works < 40 && !read_; ++works) {
    sim().allow(lane, 1);
    sim().settle();
  }
  EXPECT_TRUE(read_);
  EXPECT_EQ(seen_[0], std::byte{2});
  EXPECT_EQ(seen_[1], std::byte{0});  // on its way, and nobody waited for it
  EXPECT_FALSE(copier().done(ticket));
  sim().release(lane);
  wait(ticket);
}

TEST_P(CudaOrder, TheHostIsToldOnlyOfBytesThatAreThere) {
  fill_slot(std::byte{2});
  CudaStream const lane = world_.foreground();
  sim().hold(lane);
  auto const ticket = load();
  go_as_far_as_possible(ticket);
  std::uint32_t told = 0;
  for (int works = 0; works < 60 && told < kPlanes; ++works) {
    sim().allow(lane, 1);
    sim().settle();
    // What the host is told now was so before it asked.
    auto const progress = *copier().progress(ticket);
    told = progress.planes_arrived;
    for (std::uint32_t plane = 0; plane < told; ++plane) {
      auto const bytes =
          sim().read_device(reinterpret_cast<CudaAddress>(block_ + plane * kPage), kPage);
      ASSERT_EQ(bytes[0], std::byte{2}) << plane;
      ASSERT_EQ(bytes[kPage - 17], std::byte{2}) << plane;
    }
  }
  sim().release(lane);
  wait(ticket);
}

TEST_P(CudaOrder, CancelWaitsForWhatIsOnTheDevice) {
  fill_block(std::byte{3});
  sim().settle();
  CudaStream const lane = world_.background();
  sim().hold(lane);
  auto const ticket = store();
  go_as_far_as_possible(ticket);
  std::atomic<bool> returned{false};
  std::thread other{[&] {
    copier().cancel(ticket);
    returned = true;
  }};
  // The waiter is told that the batch will not arrive once cancel() has begun.
  while (copier().stream_wait_plane(ticket, 0, handle(probe_), never())) std::this_thread::yield();
  EXPECT_FALSE(returned);
  sim().release(lane);
  other.join();
  fill_slot(std::byte{9});
  sim().settle();
  EXPECT_EQ(slot_, Bytes(kPlanes * kPage, std::byte{9}));
}

TEST_P(CudaOrder, AStreamThatCannotWaitIsTold) {
  auto const ticket = load();
  wait(ticket);
  EXPECT_EQ(copier().stream_wait_plane({987}, 0, handle(engine_), never()).error().code(),
            ErrorCode::kInvalidArgument);
  EXPECT_TRUE(copier().stream_wait_plane(ticket, 0xffffffff, handle(engine_), never()).value());
  sim().fail_call(1, CudaStatus::kOutOfMemory, "cuStreamWaitEvent");
  EXPECT_FALSE(copier().stream_wait_plane(ticket, 0, handle(engine_), never()));
  copier().retire(ticket);
}

OrderCase const kCases[] = {{.way = {.batch_version = 13, .engine_from_bytes = 0}, .pinned = true},
                            {.way = {.batch_version = 0, .kernels = false}, .pinned = true},
                            {.way = {.batch_version = 0}, .pinned = true},
                            {.way = {.batch_version = 12, .engine_from_bytes = 0}, .pinned = false},
                            {.way = {.batch_version = 13}, .pinned = false}};
INSTANTIATE_TEST_SUITE_P(EveryWay, CudaOrder, ::testing::ValuesIn(kCases));

}  // namespace
}  // namespace lmcache::test
