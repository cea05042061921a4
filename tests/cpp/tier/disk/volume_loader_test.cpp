// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <unistd.h>

#include <filesystem>

#include <gtest/gtest.h>

#include <lmcache/tier/disk/volume.hpp>

#include "support/directory_invariants.hpp"
#include "support/volume_scene.hpp"

namespace lmcache::test {
namespace {

namespace fs = std::filesystem;
constexpr std::uint64_t kSlot = 256u << 10;

class Loader : public testing::Test {
 protected:
  void SetUp() override { scene_.make_files = true; }
  void reopen() {
    scene_.close();
    scene_.open();
    ASSERT_TRUE(scene_.volume().loaded);
    ASSERT_TRUE(directory_is_sound(scene_.state()));
    ASSERT_TRUE(directory_is_at_rest(scene_.state()));
  }
  [[nodiscard]] std::uint64_t damaged() { return scene_.directory().use().damaged_records; }

  VolumeScene scene_{8u << 20};
};

TEST_F(Loader, FindsEachChunkInItsPlace) {
  scene_.open();
  std::vector<DiskPlace> before;
  for (std::uint64_t seed = 0; seed < 15; ++seed) {
    before.push_back(scene_.put(seed, seed % 2 ? kSlot : kSlot / 4)->place);
  }
  reopen();
  EXPECT_EQ(damaged(), 0u);
  for (std::uint64_t seed = 0; seed < 15; ++seed) {
    auto const place = scene_.find(seed);
    ASSERT_TRUE(place) << seed;
    EXPECT_EQ(place->record, before[seed].record);
    EXPECT_EQ(place->slab, before[seed].slab);
    EXPECT_EQ(place->offset, before[seed].offset);
    EXPECT_EQ(place->sequence, before[seed].sequence);
    EXPECT_EQ(place->payload_bytes, place->slot_bytes / 2);
  }
}

TEST_F(Loader, SequencesGoOnFarAboveWhatWasLost) {
  scene_.open();
  auto const last = scene_.put(1, kSlot)->place.sequence;
  reopen();
  EXPECT_GE(scene_.put(2, kSlot)->place.sequence, last + (1u << 20));
}

TEST_F(Loader, OfTwoThatClaimOnePlaceTheNewerIsRight) {
  scene_.open();
  auto const place = scene_.put(1, kSlot)->place;
  auto newer = place;
  newer.sequence += 5;
  must(scene_.files().write_record(500, VolumeScene::record_of(2, newer, 1)));
  reopen();
  EXPECT_FALSE(scene_.has(1));
  EXPECT_EQ(scene_.find(2)->record, 500u);
  EXPECT_EQ(damaged(), 1u);
}

TEST_F(Loader, OfTwoThatClaimOneKeyTheNewerIsRight) {
  scene_.open();
  auto const first = scene_.put(1, kSlot)->place;
  auto second = scene_.put(2, kSlot)->place;
  ASSERT_GT(second.sequence, first.sequence);
  must(scene_.files().write_record(second.record, VolumeScene::record_of(1, second, 2)));
  reopen();
  EXPECT_EQ(scene_.find(1)->record, second.record);
  EXPECT_EQ(scene_.directory().use().chunks, 1u);
  // The other place is used again.
  EXPECT_EQ(scene_.put(3, kSlot)->place.offset, first.offset);
}

TEST_F(Loader, RecordsOfSlotsThatCannotBeThereAreDamaged) {
  scene_.open();
  auto const place = scene_.put(1, kSlot)->place;
  auto const claim = [&](std::uint32_t number, auto&& change) {
    auto record = VolumeScene::record_of(100 + number, place, 1);
    record.sequence = place.sequence - 1;
    change(record);
    must(scene_.files().write_record(number, record));
  };
  claim(500, [](IndexRecord& it) { it.slab = 77; });
  claim(501, [](IndexRecord& it) { it.offset = 100 * it.slot_bytes; });
  claim(502, [](IndexRecord& it) { it.slot_bytes *= 2, it.offset = 0; });
  reopen();
  EXPECT_EQ(damaged(), 3u);
  EXPECT_EQ(scene_.directory().use().chunks, 1u);
  EXPECT_TRUE(scene_.has(1));
}

TEST_F(Loader, ASlabThatWasCutLosesItsTail) {
  scene_.open();
  for (std::uint64_t seed = 0; seed < 4; ++seed) ASSERT_TRUE(scene_.put(seed, kSlot));
  auto const place = *scene_.find(2);
  fs::resize_file(scene_.path() + "/slab-" + std::to_string(place.slab), place.offset + kSlot);
  reopen();
  EXPECT_TRUE(scene_.has(0) && scene_.has(1) && scene_.has(2));
  EXPECT_FALSE(scene_.has(3));
}

TEST_F(Loader, SlabsThatNothingLiesInAreRemoved) {
  scene_.open();
  ASSERT_TRUE(scene_.put(1, kSlot));
  must(scene_.files().make_slab(0, 9, 1u << 20));
  auto const gone = scene_.put(2, 2 * kSlot)->place;
  must(scene_.files().free_record(gone.record));
  reopen();
  EXPECT_EQ(scene_.directory().use().slabs, 1u);
  EXPECT_FALSE(fs::exists(scene_.path() + "/slab-9"));
  EXPECT_FALSE(fs::exists(scene_.path() + "/slab-" + std::to_string(gone.slab)));
}

TEST_F(Loader, HolesBetweenChunksAreFilledAgain) {
  scene_.open();
  std::vector<DiskPlace> places;
  for (std::uint64_t seed = 0; seed < 8; ++seed) places.push_back(scene_.put(seed, kSlot)->place);
  for (std::size_t const hole : {1u, 2u, 4u}) must(scene_.files().free_record(places[hole].record));
  reopen();
  EXPECT_EQ(scene_.directory().use().chunks, 5u);
  auto const before = scene_.directory().use().file_bytes;
  for (std::uint64_t seed = 100; seed < 103; ++seed) ASSERT_TRUE(scene_.put(seed, kSlot));
  EXPECT_EQ(scene_.directory().use().file_bytes, before) << "no slab was made for them";
  EXPECT_EQ(scene_.directory().use().chunks, 8u);
}

TEST_F(Loader, TheOrderOfUseComesFromTheCheckpointOrTheRecords) {
  scene_.open();
  for (std::uint64_t seed = 0; seed < 30; ++seed) ASSERT_TRUE(scene_.put(seed, kSlot));
  scene_.touch(12);
  must(scene_.files().write_order(scene_.directory().order(), VolumeFiles::Sync::kNo));
  reopen();
  auto const first = scene_.put(100, kSlot)->evicted;
  ASSERT_TRUE(first);
  fs::remove(scene_.path() + "/order");
  reopen();
  std::vector<ChunkKey> evicted;
  for (std::uint64_t seed = 101; seed < 115; ++seed) {
    if (auto const grant = scene_.put(seed, kSlot); grant && grant->evicted) {
      evicted.push_back(*grant->evicted);
    }
  }
  EXPECT_EQ(std::ranges::count(evicted, disk_key(12)), 1) << "without the order: by its writing";
}

TEST_F(Loader, SlabsAreSpreadOverTheFoldersAgain) {
  VolumeScene scene{12u << 20, 3};
  scene.make_files = true;
  scene.open();
  for (std::uint64_t seed = 0; seed < 40; ++seed) ASSERT_TRUE(scene.put(seed, kSlot));
  auto const last = scene.find(39);
  for (std::uint32_t number = 0; number < 40; ++number) {
    if (number != last->record) must(scene.files().free_record(number));
  }
  scene.close();
  scene.open();
  ASSERT_EQ(scene.directory().use().slabs, 1u);
  std::vector<int> count(3);
  for (std::uint64_t seed = 100; seed < 136; ++seed) ++count[scene.put(seed, kSlot)->place.folder];
  for (int const chunks : count) EXPECT_GE(chunks, 8);
}

// One index of many chunks; the slabs are sparse.
TEST_F(Loader, TwentyThousandChunksAreAllFound) {
  constexpr std::uint32_t kChunks = 20'000;
  constexpr std::uint32_t kPerSlab = 256;
  VolumeScene scene{4ull << 30};
  scene.open();
  ASSERT_GE(scene.directory().use().record_capacity, kChunks);
  for (std::uint32_t i = 0; i < kChunks; ++i) {
    DiskPlace place{.slab = i / kPerSlab, .offset = i % kPerSlab * (64u << 10)};
    place.slot_bytes = 64u << 10;
    place.sequence = i + 1;
    if (i % kPerSlab == 0) {
      auto const path = scene.path() + "/slab-" + std::to_string(place.slab);
      UniqueFd const slab{::open(path.c_str(), O_CREAT | O_WRONLY, 0600)};
      ASSERT_EQ(::ftruncate(slab.get(), kPerSlab * (64u << 10)), 0);
    }
    must(scene.files().write_record(i, VolumeScene::record_of(i, place, i)));
  }
  scene.close();
  scene.open();
  auto const use = scene.directory().use();
  EXPECT_EQ(use.chunks, kChunks);
  EXPECT_EQ(use.damaged_records, 0u);
  for (std::uint32_t i = 0; i < kChunks; ++i) ASSERT_TRUE(scene.has(i)) << i;
  EXPECT_TRUE(directory_is_sound(scene.state()));
}

}  // namespace
}  // namespace lmcache::test
