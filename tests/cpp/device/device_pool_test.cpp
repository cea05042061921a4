// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/device_pool.hpp>

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <random>
#include <set>
#include <thread>
#include <vector>

namespace lmcache::test {
namespace {

constexpr std::uint64_t kSlot = 1024;
using Written = DevicePool::Written;

ChunkRef chunk(std::uint32_t index) { return {.index = index, .generation = 1}; }

// The addresses are handed out and never read: any will do.
std::span<std::byte> memory(std::uint64_t size_bytes) {
  return {reinterpret_cast<std::byte*>(0x7000'0000), size_bytes};
}

struct Pool : ::testing::Test {
  void open(std::uint64_t slots) {
    pool = std::make_unique<DevicePool>(memory(slots * kSlot),
                                        DevicePool::Report{.gauges = gauges, .counters = counters});
  }
  std::byte* add(ChunkRef ref, std::uint64_t bytes = kSlot) {
    auto* const room = pool->begin_write(ref, bytes);
    if (room != nullptr) pool->end_write(ref, Written::kWhole);
    return room;
  }
  bool resident(ChunkRef ref, std::uint64_t bytes = kSlot) {
    if (pool->begin_read(ref, bytes) == nullptr) return false;
    pool->end_read(ref);
    return true;
  }

  DeviceGauges gauges{};
  Counters counters{};
  std::unique_ptr<DevicePool> pool;
};

TEST_F(Pool, AChunkIsReadWhereItWasWrittenOnceThatEndedWell) {
  open(4);
  auto* const room = pool->begin_write(chunk(1), kSlot);
  ASSERT_NE(room, nullptr);
  EXPECT_EQ(pool->begin_read(chunk(1), kSlot), nullptr) << "not written yet";
  EXPECT_EQ(pool->begin_write(chunk(1), kSlot), nullptr) << "it comes";
  EXPECT_EQ(gauges.chunks, 0u);
  pool->end_write(chunk(1), Written::kWhole);
  EXPECT_EQ(pool->begin_read(chunk(1), kSlot), room);
  EXPECT_EQ(pool->begin_write(chunk(1), kSlot), nullptr) << "it is here";
  EXPECT_EQ(gauges.chunks, 1u);
  EXPECT_EQ(gauges.used_bytes, kSlot);
  EXPECT_EQ(gauges.capacity_bytes, 4 * kSlot);
}

TEST_F(Pool, ACopyThatFailedIsNeverResidentAndItsRoomIsFree) {
  open(1);
  auto* const room = pool->begin_write(chunk(1), kSlot);
  pool->end_write(chunk(1), Written::kNot);
  EXPECT_FALSE(resident(chunk(1)));
  EXPECT_EQ(pool->begin_write(chunk(2), kSlot), room);
  EXPECT_EQ(counters.device_evicted_chunks, 0u);
}

TEST_F(Pool, WhatTheEntryHeldBeforeOrWithAnotherSizeIsNotFound) {
  open(4);
  add(chunk(1));
  EXPECT_FALSE(resident({.index = 1, .generation = 2}));
  EXPECT_FALSE(resident(chunk(1), kSlot / 2));
  EXPECT_TRUE(resident(chunk(1)));
}

TEST_F(Pool, WhatWasNotReadForLongestMakesRoom) {
  open(3);
  for (std::uint32_t i = 1; i <= 3; ++i) add(chunk(i));
  EXPECT_TRUE(resident(chunk(1)));
  ASSERT_NE(add(chunk(4)), nullptr);
  EXPECT_TRUE(resident(chunk(1)));
  EXPECT_FALSE(resident(chunk(2)));
  EXPECT_TRUE(resident(chunk(3)));
  EXPECT_EQ(counters.device_evicted_chunks, 1u);
  EXPECT_EQ(gauges.chunks, 3u);
}

TEST_F(Pool, WhatIsInUseIsNeitherEvictedNorOverwritten) {
  open(2);
  auto* const read = add(chunk(1));
  ASSERT_EQ(pool->begin_read(chunk(1), kSlot), read);
  ASSERT_EQ(pool->begin_read(chunk(1), kSlot), read);
  auto* const written = pool->begin_write(chunk(2), kSlot);
  ASSERT_NE(written, nullptr);
  EXPECT_EQ(pool->begin_write(chunk(3), kSlot), nullptr);
  pool->end_read(chunk(1));
  EXPECT_EQ(pool->begin_write(chunk(3), kSlot), nullptr) << "there is a second reader";
  pool->end_read(chunk(1));
  EXPECT_EQ(pool->begin_write(chunk(3), kSlot), read);
  EXPECT_EQ(counters.device_evicted_chunks, 1u);
}

TEST_F(Pool, ManySmallOnesMakeRoomForALargeOneWithinABound) {
  open(100);
  for (std::uint32_t i = 0; i < 100; ++i) ASSERT_NE(add(chunk(i)), nullptr);
  EXPECT_NE(add(chunk(200), 10 * kSlot), nullptr);
  EXPECT_EQ(counters.device_evicted_chunks, 10u);
  EXPECT_EQ(pool->begin_write(chunk(201), 100 * kSlot), nullptr);
  EXPECT_LE(counters.device_evicted_chunks, 10u + DevicePool::kMostEvicted);
  EXPECT_EQ(pool->begin_write(chunk(202), 101 * kSlot), nullptr) << "more than there ever is";
}

TEST_F(Pool, ALostDeviceHoldsNothing) {
  open(4);
  add(chunk(1));
  add(chunk(2));
  ASSERT_NE(pool->begin_read(chunk(2), kSlot), nullptr);
  ASSERT_NE(pool->begin_write(chunk(3), kSlot), nullptr);
  pool->close();
  EXPECT_FALSE(resident(chunk(1)));
  EXPECT_EQ(gauges.chunks, 1u) << "the one that is read";
  pool->end_read(chunk(2));
  pool->end_write(chunk(3), Written::kWhole);
  EXPECT_EQ(gauges.chunks, 0u);
  EXPECT_EQ(gauges.used_bytes, 0u);
  EXPECT_EQ(pool->begin_write(chunk(4), kSlot), nullptr);
}

TEST_F(Pool, PoolsOfOneProcessAddUpAndLeaveNothingBehind) {
  open(4);
  DevicePool other{memory(8 * kSlot), {.gauges = gauges, .counters = counters}};
  add(chunk(1));
  EXPECT_EQ(gauges.capacity_bytes, 12 * kSlot);
  pool.reset();
  EXPECT_EQ(gauges.capacity_bytes, 8 * kSlot);
  EXPECT_EQ(gauges.chunks, 0u);
}

TEST_F(Pool, ThreadsNeverGetRoomThatIsInUse) {
  open(8);
  std::mutex mutex;
  std::set<std::byte*> written;
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (std::uint32_t seed = 1; seed <= 3; ++seed) {
    threads.emplace_back([&, seed] {
      std::mt19937 random{seed};
      for (int i = 0; i < 3000; ++i) {
        auto const ref = chunk(random() % 20);
        if (auto* const room = pool->begin_write(ref, kSlot)) {
          {
            std::lock_guard const lock{mutex};
            wrong += written.insert(room).second ? 0 : 1;
          }
          std::this_thread::yield();
          {
            std::lock_guard const lock{mutex};
            written.erase(room);
          }
          pool->end_write(ref, random() % 4 == 0 ? Written::kNot : Written::kWhole);
        } else if (auto* const copy = pool->begin_read(ref, kSlot)) {
          {
            std::lock_guard const lock{mutex};
            wrong += written.contains(copy) ? 1 : 0;
          }
          pool->end_read(ref);
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(counters.device_evicted_chunks, 100u);
}

}  // namespace
}  // namespace lmcache::test
