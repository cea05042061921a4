// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/write_behind.hpp>

#include <cstdint>

#include <gtest/gtest.h>

#include "engine/shared_scene.hpp"
#include "support/disk_engine_scene.hpp"

namespace lmcache::test {
namespace {

TEST(WriteBehind, WritesEachChunkOnceWhoeverStoresIt) {
  DiskEngineScene disk;
  auto const prompt = simple_prompt(1, 96);
  disk->serve(prompt);
  ASSERT_TRUE(disk.drain());
  EXPECT_EQ(disk.clear_memory(), 3u);
  EXPECT_EQ(disk->serve(prompt).stored_chunks, 3u);  // memory forgot it, the disk did not
  ASSERT_TRUE(disk.drain());
  auto const counters = disk.counters();
  EXPECT_EQ(counters.disk_written_chunks, 3u);
  EXPECT_EQ(counters.disk_dropped_writes, 0u);
}

TEST(WriteBehind, BeyondTheBudgetItDropsAndCountsAndNeverWaits) {
  // A chunk at a time, and a disk that takes 20 ms for one.
  DiskEngineScene disk{{.options = {.capacity_bytes = 16u << 20,
                                    .copy_threads = 1,
                                    .write_behind_bytes = 1,
                                    .disk_bytes_per_second = 100'000}}};
  std::uint64_t stored = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    auto const served = disk->serve(simple_prompt(seed, 320));
    EXPECT_TRUE(served.in_time);
    stored += served.stored_chunks;
  }
  auto const counters = disk.counters();
  EXPECT_EQ(stored, 400u);
  EXPECT_GT(counters.disk_dropped_writes, 0u);
  EXPECT_LT(counters.disk_written_chunks, stored);
}

TEST(WriteBehind, TheEndOfAnEngineWritesWhatIsUnderWay) {
  DiskEngineScene disk;
  auto const prompt = simple_prompt(1, 320);
  disk->serve(prompt);
  disk.restart();  // without waiting
  EXPECT_EQ(disk.fetch(prompt), 320u);
}

TEST(WriteBehind, LeavesNoLease) {
  DiskEngineScene disk;
  for (std::uint64_t seed = 0; seed < 10; ++seed) disk->serve(simple_prompt(seed, 107));
  ASSERT_TRUE(disk.drain());
  EXPECT_EQ(must(disk->engine->status()).leased, 0u);
}

}  // namespace
}  // namespace lmcache::test
