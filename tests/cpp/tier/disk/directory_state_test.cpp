// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/disk/directory_state.hpp>

#include <gtest/gtest.h>

#include "support/child_process.hpp"
#include "support/directory_invariants.hpp"
#include "support/volume_scene.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint64_t kSlot = 256u << 10;

// Other processes of this node run the same build, but a directory outlives an upgrade.
TEST(DirectoryRecords, KeepTheirSizesWithinALayoutVersion) {
  ASSERT_EQ(kSegmentLayoutVersion, 6u);
  EXPECT_EQ(sizeof(DiskEntry), 128u);
  EXPECT_EQ(sizeof(SlabRecord), 48u);
  EXPECT_EQ(sizeof(DiskClass), 176u);
  EXPECT_EQ(sizeof(DirectorySpace), 13'680u);
}

TEST(DirectoryState, EachSizeHasItsClassUpTo64) {
  VolumeScene scene;
  auto& state = scene.open().state();
  for (std::uint32_t id = 1; id <= kMaxDiskClasses; ++id) {
    ASSERT_EQ(must(state.class_for(id * kDiskPageBytes)), id);
  }
  EXPECT_EQ(must(state.class_for(5 * kDiskPageBytes)), 5u);
  auto const refused = state.class_for(65 * kDiskPageBytes);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(state.space.class_count, kMaxDiskClasses);
}

TEST(DirectoryState, EntriesOfOneChainAreFoundAndTakenOut) {
  VolumeScene scene;
  auto& state = scene.open().state();
  // Same first bytes, so the same bucket.
  for (std::uint32_t i = 0; i < 5; ++i) {
    state.entries[i].key = {};
    state.entries[i].key.bytes[31] = static_cast<std::uint8_t>(i + 1);
    state.link(i);
  }
  auto const key = [&](std::uint32_t i) { return state.entries[i].key; };
  for (std::uint32_t i = 0; i < 5; ++i) EXPECT_EQ(state.find(key(i)), i);
  for (std::uint32_t const out : {2u, 4u, 0u}) {
    state.unlink(out);
    EXPECT_EQ(state.find(key(out)), kNoRecord);
    state.unlink(out);  // once more does no harm
  }
  EXPECT_EQ(state.find(key(1)), 1u);
  EXPECT_EQ(state.find(key(3)), 3u);
}

TEST(DirectoryState, ARetiredChunkIsNeitherFoundNorOverwrittenUntilItIsFree) {
  VolumeScene scene;
  auto& directory = scene.open();
  auto const grant = scene.put(1, kSlot);
  ASSERT_TRUE(grant);
  ASSERT_EQ(scene.state().space.chunks, 1u);
  scene.state().retire_entry(grant->place.record);
  EXPECT_FALSE(scene.has(1));
  EXPECT_EQ(scene.state().space.chunks, 0u);
  EXPECT_EQ(scene.state().space.used_bytes, 0u);
  EXPECT_TRUE(directory_is_sound(scene.state()));
  for (std::uint64_t seed = 10; seed < 40; ++seed) (void)scene.put(seed, kSlot);
  EXPECT_EQ(scene.state().entries[grant->place.record].key, disk_key(1));
  directory.abandon(grant->place);
  EXPECT_TRUE(directory_is_sound(scene.state()));
  auto const next = scene.put(100, kSlot);
  ASSERT_TRUE(next);
  EXPECT_EQ(next->place.record, grant->place.record);
}

TEST(DirectoryState, ALockWhoseOwnerDiedIsRepairedByTheNext) {
  VolumeScene scene;
  scene.open();
  for (std::uint64_t seed = 0; seed < 5; ++seed) ASSERT_TRUE(scene.put(seed, kSlot));
  ChildProcess child{[&] {
    auto const guard = scene.state().lock(std::chrono::seconds{5});
    scene.state().space.classes[1].used.clear();  // half of a change
    scene.state().space.chunks = 99;
    ::_exit(guard ? 0 : 1);
    return 1;
  }};
  ASSERT_EQ(child.wait(), 0);
  EXPECT_TRUE(scene.has(3));
  EXPECT_EQ(scene.state().space.repaired, 1u);
  EXPECT_TRUE(directory_is_sound(scene.state()));
}

}  // namespace
}  // namespace lmcache::test
