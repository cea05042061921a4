// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/fetch_planner.hpp>

#include <limits>
#include <optional>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "engine/shared_scene.hpp"
#include "support/disk_engine_scene.hpp"

namespace lmcache::test {
namespace {

SystemClock const kClock;

constexpr std::uint32_t kNoLimit = std::numeric_limits<std::uint32_t>::max();

class FetchPlanning : public testing::Test {
 protected:
  FetchPlanning() {
    disk->serve(prompt);
    EXPECT_TRUE(disk.drain());
    disk.restart();
  }
  [[nodiscard]] std::optional<Fetch> start(std::uint32_t hit, std::uint32_t limit = kNoLimit) {
    return disk->engine->fetch(disk->space, disk->chain(prompt),
                               {.hit_tokens = hit, .limit_tokens = limit});
  }

  DiskEngineScene disk;
  TestPrompt prompt = simple_prompt(1, 107);
};

TEST_F(FetchPlanning, ReachesToTheEndOfWhatIsThere) { EXPECT_EQ(start(0)->prefix_tokens(), 107u); }

TEST_F(FetchPlanning, StopsAtTheLimit) {
  auto const fetch = start(0, 40);
  ASSERT_TRUE(fetch.has_value());
  EXPECT_EQ(fetch->prefix_tokens(), 40u);
  EXPECT_EQ(disk->engine->reach(disk->space, disk->chain(prompt), 0, 40), 40u);
}

TEST_F(FetchPlanning, LooksOnlyBeyondTheHit) {
  ASSERT_EQ(disk.fetch(prompt, 64), 64u);
  EXPECT_EQ(disk.counters().disk_read_chunks, 2u);
  EXPECT_EQ(disk.fetch(prompt), 107u);
  EXPECT_EQ(disk.counters().disk_read_chunks, 4u);
  EXPECT_FALSE(start(107).has_value());
}

TEST_F(FetchPlanning, WhatTheServingEngineHasIsNotWorthAFetch) {
  auto const fetch = [&](std::uint32_t computed) {
    return disk->engine->fetch(disk->space, disk->chain(prompt),
                               {.computed_tokens = computed, .limit_tokens = 96});
  };
  EXPECT_FALSE(fetch(96).has_value());
  auto some = fetch(64);
  ASSERT_TRUE(some.has_value());
  ASSERT_TRUE(some->wait(EngineScene::kPatience));
  EXPECT_EQ(disk.in_memory(prompt), 96u);  // a prefix has no holes
}

TEST_F(FetchPlanning, NothingForAPromptThatNobodyStored) {
  auto const other = simple_prompt(2, 107);
  EXPECT_FALSE(
      disk->engine->fetch(disk->space, disk->chain(other), {.limit_tokens = kNoLimit}).has_value());
  EXPECT_EQ(disk->engine->reach(disk->space, disk->chain(other), 0, kNoLimit), 0u);
}

TEST_F(FetchPlanning, TwoThatWantTheSameReadItOnce) {
  auto first = start(0);
  auto second = start(0);
  ASSERT_TRUE(first.has_value());
  EXPECT_TRUE(!second || second->wait(EngineScene::kPatience));
  EXPECT_TRUE(first->wait(EngineScene::kPatience));
  EXPECT_EQ(disk.in_memory(prompt), 107u);
  EXPECT_EQ(disk.counters().disk_read_chunks, 4u);
}

TEST_F(FetchPlanning, WhatArrivedStaysUntilItIsReleased) {
  auto fetch = start(0);
  ASSERT_TRUE(fetch.has_value());
  ASSERT_TRUE(fetch->wait(EngineScene::kPatience));
  EXPECT_EQ(must(disk->engine->status()).leased, 4u);
  EXPECT_EQ(disk.clear_memory(), 0u);
  fetch->release();
  EXPECT_EQ(must(disk->engine->status()).leased, 0u);
  EXPECT_EQ(disk.clear_memory(), 4u);
}

TEST_F(FetchPlanning, OneThatIsDroppedAtOnceLeavesNothingBehind) {
  {
    auto const dropped = start(0);
  }
  for (int i = 0; i < 1000 && must(disk->engine->status()).writing != 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  auto const status = must(disk->engine->status());
  EXPECT_EQ(status.leased, 0u);
  EXPECT_EQ(status.ready, 4u);
}

TEST_F(FetchPlanning, AMissingLaneEndsThePrefix) {
  DiskEngineScene two{{.lanes = 2}};
  two->serve(prompt);
  ASSERT_TRUE(two.drain());
  two.restart();
  {
    auto const tier = must(DiskTier::open({.volume = {.folders = two.shape().options.disk_folders,
                                                      .memory_folder = two.folder.path()}},
                                          kClock, {}));
    // One lane of the second chunk.
    auto const listed = tier->directory().list();
    ASSERT_EQ(listed.size(), 8u);
    auto const chain = two->chain(prompt);
    bool removed = false;
    for (auto const& it : listed) {
      for (std::uint32_t lane = 0; lane < 2 && !removed; ++lane) {
        auto const mask = must(lane_mask(two->space.root, {.rank = lane, .world_size = 2}));
        if (it.key == (chain.keys()[1] ^ mask)) removed = tier->directory().remove(it.place);
      }
    }
    ASSERT_TRUE(removed);
  }
  EXPECT_EQ(two.fetch(prompt), 32u);
}

// Of a lane with a window only what the window covers is read.
TEST(FetchPlanningWithWindows, ReadsWhatEachLaneNeeds) {
  DiskEngineScene disk{{.windows = {0, 40}}};
  auto const prompt = simple_prompt(1, 107);
  disk->serve(prompt);
  ASSERT_TRUE(disk.drain());
  EXPECT_EQ(disk.counters().disk_written_chunks, 8u);
  disk.restart();
  EXPECT_EQ(disk.fetch(prompt, 64), 64u);
  EXPECT_EQ(disk.counters().disk_read_chunks, 4u);
  disk.restart();
  EXPECT_EQ(disk.fetch(prompt), 107u);
  EXPECT_EQ(disk.counters().disk_read_chunks, 6u);
  auto const served = disk->serve(prompt);
  EXPECT_EQ(served.hit_tokens, 107u);
  EXPECT_TRUE(served.right);
}

TEST(FetchPlanningWithLittleMemory, TakesWhatThereIsRoomFor) {
  DiskEngineScene disk{{.options = {.capacity_bytes = 2u << 20, .copy_threads = 1}}};
  auto const shape = disk.shape();
  std::vector<TestPrompt> prompts;
  for (std::uint64_t seed = 0; seed < 300; ++seed) prompts.push_back(simple_prompt(seed, 96));
  for (auto const& prompt : prompts) {
    disk->serve(prompt);
    ASSERT_TRUE(disk.drain());
  }
  EXPECT_GT(disk.counters().evicted_chunks, 0u);
  for (auto const& prompt : prompts) {
    ASSERT_EQ(disk.fetch(prompt), 96u);
    auto const served = disk->serve(prompt);
    EXPECT_TRUE(served.right);
  }
  ASSERT_TRUE(disk.drain());
  auto const status = must(disk->engine->status());
  EXPECT_EQ(status.leased, 0u);
  EXPECT_EQ(status.writing, 0u);
}

}  // namespace
}  // namespace lmcache::test
