// SPDX-License-Identifier: Apache-2.0
// A serving engine's loop on the simulated device: prefill writes blocks, stores take them, the
// blocks are given to somebody else at once, loads bring slots back and attention reads them layer
// by layer. The host waits for nothing in between, so only events keep this right.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <deque>
#include <random>
#include <vector>

#include "cuda_scene.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint32_t kPlanes = 3;
constexpr std::uint32_t kBlocks = 5;
constexpr std::uint32_t kSlots = 8;
constexpr std::size_t kPage = 700;  // not a multiple of 16: the kernel's slow path, too

struct Prefill : ::testing::TestWithParam<CudaWay> {
  explicit Prefill() : world{GetParam()} {
    kv = reinterpret_cast<std::byte*>(world.sim().allocate_device(kPlanes * kBlocks * kPage));
    engine = world.sim().make_engine_stream();
    world.copier().pinned().offer(slots, kSlots / 2 * kPlanes * kPage);
  }

  [[nodiscard]] EngineStream stream() const {
    return {.handle = reinterpret_cast<std::uintptr_t>(engine)};
  }
  // The KV is [plane][block][page].
  [[nodiscard]] std::byte* page(std::uint32_t plane, std::uint32_t block) const {
    return kv + (std::size_t{plane} * kBlocks + block) * kPage;
  }
  std::byte* slot(std::uint32_t index) { return slots.data() + index * kPlanes * kPage; }
  static int content(std::uint32_t value, std::uint32_t plane) {
    return static_cast<int>((value * 7 + plane * 3) % 251 + 1);
  }

  // Puts work on the engine's stream: every page of the block holds `value`.
  void compute(std::uint32_t block, std::uint32_t value) {
    world.sim().compute(engine, [this, block, value] {
      for (std::uint32_t plane = 0; plane < kPlanes; ++plane) {
        std::memset(page(plane, block), content(value, plane), kPage);
      }
    });
  }
  void attend(std::uint32_t block, std::uint32_t plane, std::uint32_t value) {
    world.sim().compute(engine, [this, block, plane, value] {
      auto const expected = static_cast<std::byte>(content(value, plane));
      for (std::size_t i = 0; i < kPage; ++i) wrong += page(plane, block)[i] != expected ? 1 : 0;
    });
  }
  CopyTicket submit(CopyDirection direction, std::uint32_t block, std::uint32_t index) {
    bool const store = direction == CopyDirection::kEngineToSlot;
    CopyBatch batch{.direction = direction,
                    .priority = store ? CopyPriority::kBackground : CopyPriority::kForeground,
                    .plane_count = kPlanes,
                    .items = {{.slot = slot(index)}},
                    .engine_stream = stream()};
    for (std::uint32_t plane = 0; plane < kPlanes; ++plane) {
      batch.items[0].runs.push_back({.engine = page(plane, block),
                                     .slot_offset = plane * kPage,
                                     .bytes = kPage,
                                     .plane = plane});
    }
    return must(world.copier().submit(std::move(batch)));
  }
  void engine_waits(CopyTicket ticket, std::uint32_t plane) {
    ASSERT_TRUE(
        must(world.copier().stream_wait_plane(ticket, plane, stream(), CopyDeadline::max())));
  }

  void store_and_reuse(std::uint32_t block, std::uint32_t index, std::uint32_t value) {
    compute(block, value);
    auto const ticket = submit(CopyDirection::kEngineToSlot, block, index);
    engine_waits(ticket, kPlanes - 1);
    compute(block, value + 1);  // somebody else's
    // Published only when the host knows that it is whole.
    ASSERT_TRUE(must(world.copier().wait(ticket, CopyDeadline::max())));
    ASSERT_EQ(world.copier().item_status(ticket, 0), CopyStatus::kCopied);
    world.copier().retire(ticket);
    for (std::uint32_t plane = 0; plane < kPlanes; ++plane) {
      auto const expected = static_cast<std::byte>(content(value, plane));
      for (std::size_t i = 0; i < kPage; ++i) {
        ASSERT_EQ(slot(index)[plane * kPage + i], expected) << "plane " << plane << " byte " << i;
      }
    }
  }
  void load_and_attend(std::uint32_t block, std::uint32_t index, std::uint32_t value) {
    auto const ticket = submit(CopyDirection::kSlotToEngine, block, index);
    for (std::uint32_t plane = 0; plane < kPlanes; ++plane) {
      engine_waits(ticket, plane);
      attend(block, plane, value);
    }
    loads.push_back(ticket);
    if (loads.size() > 3) {  // slots are leased until their loads are over
      ASSERT_TRUE(must(world.copier().wait(loads.front(), CopyDeadline::max())));
      world.copier().retire(loads.front());
      loads.pop_front();
    }
  }

  std::vector<std::byte> slots = std::vector<std::byte>(kSlots * kPlanes * kPage);
  std::atomic<int> wrong{0};
  CudaWorld world;
  std::byte* kv = nullptr;
  CudaStream engine = nullptr;
  std::deque<CopyTicket> loads;
};

TEST_P(Prefill, EveryTokenReadsItsOwnKv) {
  std::mt19937_64 random{GetParam().seed};
  std::vector<std::uint32_t> held(kSlots, 0);  // 0: nothing yet
  for (std::uint32_t step = 1; step <= 60; ++step) {
    auto const block = static_cast<std::uint32_t>(random() % kBlocks);
    auto const index = static_cast<std::uint32_t>(random() % kSlots);
    if (held[index] == 0) {
      held[index] = 2 * step;
      store_and_reuse(block, index, held[index]);
    } else {
      load_and_attend(block, index, held[index]);
    }
    if (HasFatalFailure()) return;
  }
  for (CopyTicket const ticket : loads) (void)world.copier().wait(ticket, CopyDeadline::max());
  world.sim().settle();
  EXPECT_EQ(wrong, 0);
  EXPECT_TRUE(world.lines().empty());
}

std::vector<CudaWay> ways() {
  std::vector<CudaWay> made;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    made.push_back({.batch_version = 13, .engine_from_bytes = 0, .seed = seed});
    made.push_back({.batch_version = 0, .engine_from_bytes = 1 << 20, .seed = seed});
    made.push_back({.batch_version = 0, .kernels = false, .seed = seed});
  }
  return made;
}
INSTANTIATE_TEST_SUITE_P(Seeds, Prefill, ::testing::ValuesIn(ways()));

}  // namespace
}  // namespace lmcache::test
