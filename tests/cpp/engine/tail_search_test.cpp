// SPDX-License-Identifier: Apache-2.0
// Tails of prompts that others continue (engine/tail_search.cpp).
#include <lmcache/engine/fetch_planner.hpp>

#include <limits>

#include <gtest/gtest.h>

#include "support/disk_engine_scene.hpp"
#include "support/remote_engine_scene.hpp"

namespace lmcache::test {
namespace {

SystemClock const kClock;

constexpr std::uint32_t kNoLimit = std::numeric_limits<std::uint32_t>::max();

// A prompt of three chunks and a tail of 11 tokens, that only the disk remembers.
class TailSearch : public testing::Test {
 protected:
  TailSearch() {
    disk->serve(prompt);
    EXPECT_TRUE(disk.drain());
    disk.restart();
  }

  DiskEngineScene disk;
  TestPrompt prompt = simple_prompt(1, 107);
};

// As the next turn of a conversation does.
TEST_F(TailSearch, APromptThatGoesOnFindsTheTailOfTheOneBefore) {
  auto const longer = simple_prompt(1, 300);
  EXPECT_EQ(disk->engine->reach(disk->space, disk->chain(longer), 0, kNoLimit), 107u);
  EXPECT_EQ(disk.fetch(longer, 100), 96u) << "a tail is not there in part";
  EXPECT_EQ(disk.fetch(longer), 107u);
  EXPECT_EQ(disk.counters().disk_read_chunks, 4u);
  // A longer one, that is there too.
  disk->serve(simple_prompt(1, 120));
  ASSERT_TRUE(disk.drain());
  disk.restart();
  EXPECT_EQ(disk.fetch(simple_prompt(1, 110)), 107u);
  EXPECT_EQ(disk.fetch(longer), 120u);
  EXPECT_EQ(disk.counters().disk_read_chunks, 5u);
}

TEST_F(TailSearch, ATailThatGoesOnOtherwiseIsNotTaken) {
  auto other = simple_prompt(1, 300);
  other.tokens[106] ^= 1;
  EXPECT_EQ(disk.fetch(other), 96u);
  EXPECT_EQ(disk.counters().disk_read_chunks, 3u);
}

TEST_F(TailSearch, ATailWithoutOneOfItsLanesIsNotTaken) {
  for (bool const whole : {true, false}) {
    DiskEngineScene two{{.lanes = 2}};
    two->serve(prompt);
    ASSERT_TRUE(two.drain());
    two.restart();
    if (!whole) {
      auto const tier = must(DiskTier::open({.volume = {.folders = two.shape().options.disk_folders,
                                                        .memory_folder = two.folder.path()}},
                                            kClock, {}));
      auto const mask = must(lane_mask(two->space.root, {.rank = 1, .world_size = 2}));
      auto const key = must(two->chain(prompt).tail_key(3, 107)) ^ mask;
      bool removed = false;
      for (auto const& it : tier->directory().list()) {
        if (it.key == key) removed = tier->directory().remove(it.place);
      }
      ASSERT_TRUE(removed);
    }
    EXPECT_EQ(two.fetch(simple_prompt(1, 300)), whole ? 107u : 96u);
  }
}

TEST(TailSearchWithWindows, ATailNeedsWhatItsWindowsCover) {
  DiskEngineScene disk{{.windows = {0, 40}}};
  disk->serve(simple_prompt(1, 107));
  ASSERT_TRUE(disk.drain());
  disk.restart();
  auto const longer = simple_prompt(1, 300);
  EXPECT_EQ(disk.fetch(longer), 107u);
  auto const served = disk->serve(longer);
  EXPECT_EQ(served.hit_tokens, 107u);
  EXPECT_TRUE(served.right);
}

TEST(TailSearchWithWindows, AStateIsNotThatOfATail) {
  DiskEngineScene disk{{.windows = {0, kStateWindow}}};
  disk->serve(simple_prompt(1, 107));
  ASSERT_TRUE(disk.drain());
  disk.restart();
  EXPECT_EQ(disk.fetch(simple_prompt(1, 300)), 96u);
}

// As the next turn of a conversation, on another node.
TEST(TailSearchInRedis, APromptThatGoesOnFindsTheTailOfTheOneBefore) {
  LMC_NEEDS_REDIS();
  for (std::uint32_t const lanes : {1u, 2u}) {
    RemoteEngineScene nodes{{.lanes = lanes}};
    nodes.one->serve(simple_prompt(1, 107));
    ASSERT_TRUE(RemoteEngineScene::drain(*nodes.one));
    auto const longer = simple_prompt(1, 300);
    EXPECT_EQ(RemoteEngineScene::fetch(*nodes.two, longer), 107u);
    auto const counters = nodes.two->engine->counters();
    EXPECT_EQ(counters.remote_lookups, 1u);
    EXPECT_EQ(counters.remote_found_chunks, 4u * lanes);
    // 10 of the prompt and the tail; the guesses that were wrong are not counted.
    EXPECT_EQ(counters.remote_lookup_chunks, 11u * lanes);
    auto const three = nodes.open();
    EXPECT_EQ(three->engine->reach(three->space, three->chain(longer), 0, 300), 107u);
    auto const served = nodes.two->serve(longer);
    EXPECT_TRUE(served.right);
    EXPECT_EQ(served.hit_tokens, 107u);
  }
}

}  // namespace
}  // namespace lmcache::test
