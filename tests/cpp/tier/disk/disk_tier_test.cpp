// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/disk/disk_tier.hpp>

#include <algorithm>

#include <gtest/gtest.h>

#include "support/disk_scene.hpp"

namespace lmcache::test {
namespace {

class DiskTierBy : public testing::TestWithParam<IoKind> {};

TEST_P(DiskTierBy, ReadsWhatWasWritten) {
  DiskScene scene{{.io = GetParam()}};
  scene.open();
  auto const outcomes = scene.write(seeds(0, 50));
  EXPECT_EQ(std::ranges::count(outcomes, DiskOutcome::kDone), 50);
  EXPECT_EQ(scene.count_there(seeds(0, 50)), 50u);
  EXPECT_EQ(scene.read({99})[0], DiskOutcome::kMissing);
}

TEST_P(DiskTierBy, FindsEverythingAfterARestart) {
  DiskScene scene{{.io = GetParam()}};
  scene.open();
  ASSERT_EQ(std::ranges::count(scene.write(seeds(0, 50)), DiskOutcome::kDone), 50);
  scene.close();
  scene.open();
  EXPECT_TRUE(scene.tier().loaded());
  EXPECT_EQ(scene.count_there(seeds(0, 50)), 50u);
}

TEST_P(DiskTierBy, EvictsLeastRecentlyUsedWithinTheLimit) {
  DiskScene scene{{.payload_bytes = 200'000, .limit_bytes = 8u << 20, .io = GetParam()}};
  scene.open();
  for (std::uint64_t i = 0; i < 100; ++i) {
    ASSERT_EQ(scene.write({i})[0], DiskOutcome::kDone) << i;
    std::vector<ChunkKey> const first{disk_key(0)};
    scene.tier().touch(first);
    auto const use = scene.tier().status().use;
    EXPECT_LE(use.file_bytes, use.limit_bytes);
  }
  EXPECT_GT(scene.evicted(), 50);
  EXPECT_EQ(scene.count_there({0}), 1u);
  EXPECT_EQ(scene.count_there({1}), 0u);
  EXPECT_EQ(scene.count_there({99}), 1u);
}

TEST_P(DiskTierBy, KeepsTheOrderOfUseOverARestart) {
  DiskScene scene{{.payload_bytes = 200'000, .limit_bytes = 8u << 20, .io = GetParam()}};
  scene.open();
  for (std::uint64_t i = 0; i < 20; ++i) ASSERT_EQ(scene.write({i})[0], DiskOutcome::kDone);
  std::vector<ChunkKey> const first{disk_key(0)};
  scene.tier().touch(first);
  scene.close();
  scene.open();
  for (std::uint64_t i = 20; i < 50; ++i) ASSERT_EQ(scene.write({i})[0], DiskOutcome::kDone);
  EXPECT_EQ(scene.count_there({0}), 1u);
  EXPECT_EQ(scene.count_there({1}), 0u);
}

TEST_P(DiskTierBy, SmallRecordsGoThroughThePageCache) {
  DiskScene scene{{.payload_bytes = 3'001, .io = GetParam()}};
  scene.open();
  ASSERT_EQ(std::ranges::count(scene.write(seeds(0, 50)), DiskOutcome::kDone), 50);
  scene.close();
  scene.open();
  EXPECT_EQ(scene.count_there(seeds(0, 50)), 50u);
}

INSTANTIATE_TEST_SUITE_P(Engines, DiskTierBy, testing::Values(IoKind::kUring, IoKind::kThreads),
                         [](auto const& kind) {
                           return kind.param == IoKind::kUring ? "Uring" : "Threads";
                         });

}  // namespace
}  // namespace lmcache::test
