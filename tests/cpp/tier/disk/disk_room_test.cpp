// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <list>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include <lmcache/tier/disk/disk_directory.hpp>

#include "support/directory_invariants.hpp"
#include "support/volume_scene.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint64_t kSlot = 256u << 10;
using Outcome = DiskDirectory::SlabOutcome;

std::uint64_t limit_for(std::uint64_t slab_bytes, std::uint32_t folders = 1) {
  return fixed_file_bytes(folders, 1024) + slab_bytes;
}

// The first task that allocate() asks for.
SlabTask first_task(VolumeScene& scene, std::uint64_t seed, std::uint64_t slot_bytes) {
  auto allocation = must(scene.directory().allocate(disk_key(seed), slot_bytes));
  return std::get<SlabTask>(allocation);
}

TEST(DiskRoom, EverySlotIsUsedBeforeAnythingIsEvicted) {
  VolumeScene scene{limit_for(16 * kSlot)};
  scene.open();
  for (std::uint64_t seed = 0; seed < 16; ++seed) {
    auto const grant = scene.put(seed, kSlot);
    ASSERT_TRUE(grant);
    EXPECT_FALSE(grant->evicted) << seed;
  }
  auto const next = scene.put(100, kSlot);
  ASSERT_TRUE(next && next->evicted);
  EXPECT_EQ(*next->evicted, disk_key(0));
  EXPECT_EQ(scene.directory().use().file_bytes, scene.directory().use().limit_bytes);
}

TEST(DiskRoom, EvictsWhatWasUsedLongestAgoByAnOracle) {
  constexpr std::size_t kSlots = 24;
  VolumeScene scene{limit_for(kSlots * kSlot)};
  scene.open();
  std::list<std::uint64_t> oracle;  // latest first
  std::mt19937 random{7};
  for (int step = 0; step < 3000; ++step) {
    std::uint64_t const seed = random() % 60;
    auto const known = std::ranges::find(oracle, seed);
    ASSERT_EQ(scene.has(seed), known != oracle.end()) << step;
    if (known != oracle.end()) {
      scene.touch(seed);
      oracle.erase(known);
    } else {
      auto const grant = scene.put(seed, kSlot);
      ASSERT_TRUE(grant);
      if (oracle.size() == kSlots) {
        ASSERT_EQ(grant->evicted, disk_key(oracle.back())) << step;
        oracle.pop_back();
      }
    }
    oracle.push_front(seed);
  }
  EXPECT_TRUE(directory_is_sound(scene.state()));
}

TEST(DiskRoom, MixedSizesStayWithinTheLimitAndSound) {
  VolumeScene scene{limit_for(9u << 20, 3), 3};
  scene.open();
  std::mt19937 random{3};
  std::vector<DiskPlace> leases;
  for (int step = 0; step < 4000; ++step) {
    std::uint64_t const seed = random() % 300;
    std::uint64_t const phase = static_cast<std::uint64_t>(step) / 500;
    std::uint64_t const slot = (1 + (seed + phase) % 7) * 37 * kDiskPageBytes;
    if (auto const place = scene.find(seed); place && random() % 8 == 0) {
      leases.push_back(*scene.begin_read(seed));
    }
    (void)scene.put(seed, slot);
    if (leases.size() > 6 || (step % 500 == 499)) {
      for (auto const& lease : leases) scene.directory().end_read(lease);
      leases.clear();
    }
    auto const use = scene.directory().use();
    ASSERT_LE(use.file_bytes, use.limit_bytes) << step;
    ASSERT_TRUE(step % 50 != 0 || directory_is_sound(scene.state())) << step;
  }
  EXPECT_TRUE(directory_is_at_rest(scene.state()));
}

TEST(DiskRoom, WhatIsReadIsPassedOver) {
  VolumeScene scene{limit_for(4 * kSlot)};
  scene.open();
  for (std::uint64_t seed = 0; seed < 4; ++seed) ASSERT_TRUE(scene.put(seed, kSlot));
  std::vector<DiskPlace> leases;
  for (std::uint64_t seed = 0; seed < 3; ++seed) leases.push_back(*scene.begin_read(seed));
  EXPECT_EQ(scene.put(10, kSlot)->evicted, disk_key(3));
  EXPECT_EQ(scene.put(11, kSlot)->evicted, disk_key(10));
  leases.push_back(*scene.begin_read(11));
  EXPECT_FALSE(scene.put(12, kSlot));
  EXPECT_EQ(scene.refused, ErrorCode::kOutOfMemory);
  for (std::uint64_t seed = 0; seed < 3; ++seed) EXPECT_TRUE(scene.has(seed));
  for (auto const& lease : leases) scene.directory().end_read(lease);
  EXPECT_TRUE(scene.put(12, kSlot));
}

TEST(DiskRoom, NeighboursLieInDifferentFolders) {
  VolumeScene scene{limit_for(12u << 20, 3), 3};
  scene.open();
  std::vector<int> count(3);
  std::optional<std::uint32_t> before;
  int same = 0;
  for (std::uint64_t seed = 0; seed < 48; ++seed) {
    auto const grant = scene.put(seed, kSlot);
    ASSERT_TRUE(grant);
    ++count[grant->place.folder];
    if (seed >= 12 && before == grant->place.folder) ++same;
    before = grant->place.folder;
  }
  EXPECT_EQ(count, (std::vector<int>{16, 16, 16}));
  EXPECT_LE(same, 12) << "about one in a slab";
}

TEST(DiskRoom, AnEmptySlabOfAnotherSizeIsTakenFirst) {
  VolumeScene scene{limit_for(4u << 20)};
  scene.open();
  for (std::uint64_t seed = 0; seed < 16; ++seed) ASSERT_TRUE(scene.put(seed, kSlot));
  auto const freed = scene.find(5);
  for (std::uint64_t seed = 4; seed < 8; ++seed) {
    auto const lease = scene.begin_read(seed);
    ASSERT_TRUE(scene.directory().remove(*lease));
    scene.directory().abandon(*lease);
  }
  scene.tasks.clear();
  auto const grant = scene.put(100, kSlot / 2);
  ASSERT_TRUE(grant);
  ASSERT_EQ(scene.tasks.size(), 1u);
  ASSERT_EQ(scene.tasks[0].emptied.size(), 1u);
  EXPECT_EQ(scene.tasks[0].emptied[0].slab, freed->slab);
  EXPECT_TRUE(scene.tasks[0].evicted.empty());
  EXPECT_TRUE(directory_is_sound(scene.state()));
}

TEST(DiskRoom, ASlabOfAnotherSizeIsTakenBackWhenItIsMuchOlder) {
  VolumeScene scene{limit_for(4u << 20)};
  scene.open();
  for (std::uint64_t seed = 0; seed < 16; ++seed) ASSERT_TRUE(scene.put(seed, kSlot));
  // No chunk of this size yet: something must go.
  ASSERT_TRUE(scene.put(100, kSlot / 2));
  EXPECT_EQ(scene.directory().use().chunks, 13u);
  std::set<std::uint32_t> slabs;
  for (std::uint64_t seed = 101; seed < 200; ++seed) {
    auto const grant = scene.put(seed, kSlot / 2);
    ASSERT_TRUE(grant);
    slabs.insert(grant->place.slab);
  }
  EXPECT_EQ(slabs.size(), 4u) << "the old ones gave way one after the other";
  EXPECT_TRUE(directory_is_sound(scene.state()));
}

TEST(DiskRoom, ASlabInUseIsNotTaken) {
  VolumeScene scene{limit_for(1u << 20)};
  scene.open();
  for (std::uint64_t seed = 0; seed < 4; ++seed) ASSERT_TRUE(scene.put(seed, kSlot));
  auto const lease = scene.begin_read(2);
  EXPECT_FALSE(scene.put(100, kSlot / 2));
  EXPECT_EQ(scene.refused, ErrorCode::kOutOfMemory);
  EXPECT_TRUE(scene.has(0));
  scene.directory().end_read(*lease);
  EXPECT_TRUE(scene.put(100, kSlot / 2));
}

// The room of emptied slabs counts until their files are gone.
TEST(DiskRoom, RoomPassesFromTheEmptiedToTheNewSlab) {
  VolumeScene scene{limit_for(4u << 20)};
  scene.open();
  for (std::uint64_t seed = 0; seed < 16; ++seed) ASSERT_TRUE(scene.put(seed, kSlot));
  auto const task = first_task(scene, 100, 3u << 20);
  EXPECT_EQ(task.emptied.size(), 3u);
  EXPECT_EQ(task.size_bytes, 3u << 20);
  EXPECT_EQ(task.evicted.size(), 12u);
  auto const use = scene.directory().use();
  EXPECT_EQ(use.file_bytes, use.limit_bytes);
  auto other = must(scene.try_open());
  auto const elsewhere = other.directory->allocate(disk_key(200), 1u << 20);
  if (elsewhere) {
    auto const& theirs = std::get<SlabTask>(elsewhere.value());
    EXPECT_EQ(theirs.emptied.size(), 1u) << "nothing is free meanwhile but what it empties";
    other.directory->finish_slab(theirs, Outcome::kMade);
  }
  EXPECT_LE(scene.directory().use().file_bytes, use.limit_bytes);
  scene.directory().finish_slab(task, Outcome::kMade);
  EXPECT_TRUE(directory_is_sound(scene.state()));
  ASSERT_TRUE(scene.put(100, 3u << 20));
}

TEST(DiskRoom, AFullFileSystemLowersTheLimit) {
  VolumeScene scene{limit_for(8u << 20)};
  scene.open();
  ASSERT_TRUE(scene.put(0, kSlot));
  for (std::uint64_t seed = 1; seed < 4; ++seed) ASSERT_TRUE(scene.put(seed, kSlot));
  auto const task = first_task(scene, 4, kSlot);
  scene.directory().finish_slab(task, Outcome::kNoSpace);
  EXPECT_EQ(scene.directory().use().limit_bytes, limit_for(1u << 20));
  auto const grant = scene.put(4, kSlot);
  ASSERT_TRUE(grant && grant->evicted) << "it goes on with the room that it has";
  EXPECT_TRUE(directory_is_sound(scene.state()));
}

TEST(DiskRoom, AnErrorOfTheMomentDoesNot) {
  VolumeScene scene{limit_for(8u << 20)};
  scene.open();
  auto const task = first_task(scene, 4, kSlot);
  scene.directory().finish_slab(task, Outcome::kFailed);
  EXPECT_EQ(scene.directory().use().limit_bytes, limit_for(8u << 20));
  EXPECT_EQ(scene.directory().use().file_bytes, limit_for(0));
  EXPECT_TRUE(scene.put(4, kSlot));
  EXPECT_TRUE(directory_is_sound(scene.state()));
}

TEST(DiskRoom, TwoSlabsMadeAtOnceAreBothFilled) {
  VolumeScene scene{limit_for(2u << 20)};
  scene.open();
  auto other = must(scene.try_open());
  auto const ours = first_task(scene, 0, kSlot);
  auto const theirs = std::get<SlabTask>(must(other.directory->allocate(disk_key(1), kSlot)));
  scene.directory().finish_slab(ours, Outcome::kMade);
  other.directory->finish_slab(theirs, Outcome::kMade);
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    auto const grant = scene.put(seed, kSlot);
    ASSERT_TRUE(grant);
    EXPECT_FALSE(grant->evicted) << seed;
  }
  EXPECT_TRUE(directory_is_sound(scene.state()));
}

TEST(DiskRoom, AFullIndexIsNoEnd) {
  VolumeScene scene{64u << 20};
  scene.open();
  auto const capacity = scene.directory().use().record_capacity;
  ASSERT_EQ(capacity, 1024u);
  for (std::uint64_t seed = 0; seed < capacity; ++seed) {
    auto const grant = scene.put(seed, kDiskPageBytes);
    ASSERT_TRUE(grant);
    ASSERT_FALSE(grant->evicted);
  }
  auto const next = scene.put(5000, kDiskPageBytes);
  ASSERT_TRUE(next);
  EXPECT_EQ(next->evicted, disk_key(0)) << "though there is room for the bytes";
  // Another size finds entries too.
  ASSERT_TRUE(scene.put(6000, 2 * kDiskPageBytes));
  EXPECT_TRUE(directory_is_sound(scene.state()));
}

TEST(DiskRoom, NoMoreThan64Sizes) {
  VolumeScene scene{200u << 20};
  scene.open();
  for (std::uint64_t i = 1; i <= 64; ++i) ASSERT_TRUE(scene.put(i, i * kDiskPageBytes)) << i;
  EXPECT_FALSE(scene.put(65, 65 * kDiskPageBytes));
  EXPECT_EQ(scene.refused, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(scene.put(66, 3 * kDiskPageBytes));
  EXPECT_TRUE(directory_is_sound(scene.state()));
}

TEST(DiskRoom, AChunkLargerThanTheVolumeIsRefused) {
  VolumeScene scene{limit_for(4u << 20)};
  scene.open();
  EXPECT_FALSE(scene.put(1, (4u << 20) + kDiskPageBytes));
  EXPECT_EQ(scene.refused, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(scene.put(1, 4u << 20)) << "as large as all of it";
}

}  // namespace
}  // namespace lmcache::test
