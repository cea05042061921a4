// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/disk_side.hpp>

#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "engine/shared_scene.hpp"
#include "support/disk_engine_scene.hpp"
#include "support/log_lines.hpp"

namespace lmcache::test {
namespace {

SystemClock const kClock;

TEST(DiskSide, BringsBackWhatMemoryLost) {
  DiskEngineScene disk{{.lanes = 2}};
  auto const prompt = simple_prompt(1, 107);
  EXPECT_EQ(disk->serve(prompt).stored_chunks, 8u);
  ASSERT_TRUE(disk.drain());
  EXPECT_EQ(disk.counters().disk_written_chunks, 8u);
  disk.restart();
  EXPECT_EQ(disk.in_memory(prompt), 0u);
  EXPECT_EQ(disk.fetch(prompt), 107u);
  auto const again = disk->serve(prompt);
  EXPECT_EQ(again.hit_tokens, 107u);
  EXPECT_TRUE(again.right && again.in_time);
  auto const counters = disk.counters();
  EXPECT_EQ(counters.disk_read_chunks, 8u);
  EXPECT_EQ(counters.disk_hit_tokens, 107u);
  // What came from there is not written again.
  ASSERT_TRUE(disk.drain());
  EXPECT_EQ(disk.counters().disk_written_chunks, 0u);
}

TEST(DiskSide, ANewTokenAfterARestartIsComputedAndTheRestFetched) {
  DiskEngineScene disk;
  auto const prompt = simple_prompt(1, 96);
  disk->serve(prompt);
  ASSERT_TRUE(disk.drain());
  disk.restart();
  auto longer = prompt;
  auto const rest = simple_prompt(2, 64);
  longer.tokens.insert(longer.tokens.end(), rest.tokens.begin(), rest.tokens.end());
  EXPECT_EQ(disk.fetch(longer), 96u);
  EXPECT_EQ(disk.fetch(prompt, 70), 70u);
}

TEST(DiskSide, WhatIsUsedInMemoryStaysOnDisk) {
  DiskEngineScene disk{
      {.options = {.capacity_bytes = 16u << 20, .copy_threads = 1, .disk_bytes = 4u << 20}}};
  auto const kept = simple_prompt(1, 96);
  disk->serve(kept);
  ASSERT_TRUE(disk.drain());
  for (std::uint64_t seed = 10; disk.counters().disk_evicted_chunks < 200 && seed < 5000; ++seed) {
    disk->serve(simple_prompt(seed, 96));
    ASSERT_TRUE(disk.drain());
    // The housekeeper tells the disk ten times a second what was used; here it is asked at once.
    if (seed % 50 == 0) {
      EXPECT_EQ(disk.in_memory(kept), 96u) << seed;
      std::this_thread::sleep_for(std::chrono::milliseconds{250});
    }
  }
  EXPECT_GE(disk.counters().disk_evicted_chunks, 200u);
  disk.restart();
  EXPECT_EQ(disk.fetch(kept), 96u);
}

TEST(DiskSide, RemembersHowLongComputingTakes) {
  DiskEngineScene disk;
  disk->engine->count_prefill(1000, 2'000'000'000);
  disk->serve(simple_prompt(1, 96));
  ASSERT_TRUE(disk.drain());
  disk.restart();
  auto const volume = must(DiskTier::open({.volume = {.folders = disk.shape().options.disk_folders,
                                                      .purpose = VolumeOptions::Purpose::kLook,
                                                      .memory_folder = disk.folder.path()}},
                                          kClock, {}));
  ASSERT_EQ(volume->models().size(), 1u);
  EXPECT_EQ(volume->models()[0].prefill_ps_per_token, 2'000'000'000u);
}

TEST(DiskSide, AFasterModelComputesInstead) {
  DiskEngineScene disk;
  auto const prompt = simple_prompt(1, 96);
  disk->serve(prompt);
  ASSERT_TRUE(disk.drain());
  disk.restart();
  ASSERT_EQ(disk.fetch(prompt.first(32)), 32u);  // now the disk's speed is known
  disk->engine->count_prefill(1'000'000, 1000);
  EXPECT_EQ(disk.fetch(prompt), 32u);
  EXPECT_EQ(disk.counters().loads_declined, 1u);
}

TEST(DiskSide, ItsSegmentTellsOfIt) {
  DiskEngineScene disk;
  disk->serve(simple_prompt(1, 96));
  ASSERT_TRUE(disk.drain());
  auto const status = must(disk->engine->status());
  ASSERT_TRUE(status.disk.has_value());
  EXPECT_EQ(status.disk->folders, disk.shape().options.disk_folders);
  EXPECT_EQ(status.disk->chunks, 3u);
  EXPECT_EQ(status.disk->processes, 1u);
  EXPECT_EQ(status.disk->limit_bytes, disk.shape().options.disk_bytes);
  EXPECT_LE(status.disk->file_bytes, status.disk->limit_bytes);
}

TEST(DiskSide, ClearForgetsWhatLiesOnDiskToo) {
  DiskEngineScene disk;
  auto const prompt = simple_prompt(1, 96);
  disk->serve(prompt);
  ASSERT_TRUE(disk.drain());
  auto const other = must(disk->engine->open_namespace(
      {.model = "other", .chunk_tokens = disk.shape().chunk_tokens},
      {.dtype = "bfloat16", .layout = "test", .groups = {disk.shape().kv.group()}}));
  EXPECT_EQ(disk->engine->clear(other), 0u);
  EXPECT_EQ(disk.in_memory(prompt), 96u);
  EXPECT_EQ(disk->engine->clear(disk->space), 3u);
  EXPECT_EQ(disk.fetch(prompt), 0u);
  ASSERT_TRUE(disk.drain());
  disk.restart();
  EXPECT_EQ(disk.fetch(prompt), 0u);
}

TEST(DiskSide, AFolderThatCannotBeUsedIsToldAndTheEngineGoesOn) {
  DiskEngineScene disk;
  disk.scene.reset();
  auto const file = disk.shape().options.disk_folders[0] + "/volume";
  std::ofstream{file} << "somebody else's";
  LogLines log;
  disk.open(log.hook());
  EXPECT_FALSE(disk->engine->has_lower_tier());
  ASSERT_EQ(log.lines().size(), 1u);
  EXPECT_NE(log.lines()[0].find("going on without the disk tier"), std::string::npos)
      << log.lines()[0];
  auto const prompt = simple_prompt(1, 96);
  EXPECT_EQ(disk->serve(prompt).stored_chunks, 3u);
  EXPECT_EQ(disk.fetch(prompt), 96u);
}

TEST(DiskSide, UnknownWordsAreRefused) {
  DiskEngineScene disk;
  disk.scene.reset();
  disk.shape().options.disk_durability = "perhaps";
  LogLines log;
  disk.open(log.hook());
  ASSERT_EQ(log.lines().size(), 1u);
  EXPECT_NE(log.lines()[0].find("'perhaps': none and data"), std::string::npos) << log.lines()[0];
}

}  // namespace
}  // namespace lmcache::test
