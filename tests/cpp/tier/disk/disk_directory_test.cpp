// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/disk/disk_directory.hpp>

#include <gtest/gtest.h>

#include "support/child_process.hpp"
#include "support/directory_invariants.hpp"
#include "support/volume_scene.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint64_t kSlot = 256u << 10;

class Directory : public testing::Test {
 protected:
  void SetUp() override { directory_ = &scene_.open(); }
  void TearDown() override { EXPECT_TRUE(directory_is_sound(scene_.state())); }
  [[nodiscard]] std::uint64_t readers(DiskPlace const& place) {
    return scene_.state().entries[place.record].readers;
  }

  VolumeScene scene_;
  DiskDirectory* directory_ = nullptr;
};

TEST_F(Directory, AChunkIsFoundWhenItWasCommittedNotBefore) {
  auto const grant = scene_.allocate(1, kSlot);
  ASSERT_TRUE(grant);
  EXPECT_FALSE(scene_.has(1));
  EXPECT_FALSE(scene_.begin_read(1));
  directory_->commit(grant->place, VolumeScene::facts(1000), directory_->now());
  auto const found = scene_.find(1);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->record, grant->place.record);
  EXPECT_EQ(found->offset, grant->place.offset);
  EXPECT_EQ(found->slot_bytes, kSlot);
  EXPECT_EQ(found->payload_bytes, 1000u);
  EXPECT_EQ(found->valid_tokens, 7u);
  EXPECT_EQ(found->sequence, grant->place.sequence);
  EXPECT_EQ(directory_->use().chunks, 1u);
  EXPECT_EQ(directory_->use().used_bytes, 1000u);
}

TEST_F(Directory, AnAbandonedSlotIsGivenOutAgain) {
  auto const grant = scene_.allocate(1, kSlot);
  directory_->abandon(grant->place);
  EXPECT_FALSE(scene_.has(1));
  auto const again = scene_.allocate(1, kSlot);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->place.record, grant->place.record);
  EXPECT_GT(again->place.sequence, grant->place.sequence);
  // What was abandoned is not ours any more.
  directory_->commit(grant->place, VolumeScene::facts(1), 1);
  EXPECT_FALSE(scene_.has(1));
  directory_->abandon(grant->place);
  EXPECT_EQ(scene_.state().entries[again->place.record].state, DiskState::kWriting);
}

TEST_F(Directory, ChunkThatIsThereOrComingIsNotWrittenTwice) {
  ASSERT_TRUE(scene_.put(1, kSlot));
  EXPECT_FALSE(scene_.allocate(1, kSlot));
  EXPECT_EQ(scene_.refused, ErrorCode::kCancelled);
  ASSERT_TRUE(scene_.allocate(2, kSlot));
  EXPECT_FALSE(scene_.allocate(2, kSlot));
  EXPECT_EQ(scene_.refused, ErrorCode::kCancelled);
}

TEST_F(Directory, ALeaseIsHeldUntilTheLastReaderOfTheProcessEnds) {
  ASSERT_TRUE(scene_.put(1, kSlot));
  auto const first = scene_.begin_read(1);
  auto const second = scene_.begin_read(1);
  ASSERT_TRUE(first && second);
  directory_->end_read(*first);
  EXPECT_NE(readers(*first), 0u);
  directory_->end_read(*second);
  EXPECT_EQ(readers(*first), 0u);
  directory_->end_read(*second);  // one too many does no harm
}

TEST_F(Directory, ALeaseThatALockRefusesIsGivenBackLater) {
  ASSERT_TRUE(scene_.put(1, kSlot));
  auto const lease = scene_.begin_read(1);
  ASSERT_TRUE(lease);
  {
    auto const held = must(scene_.state().lock(std::chrono::seconds{1}));
    ChunkKey const key = disk_key(1);
    std::optional<DiskPlace> place;
    directory_->find({&key, 1}, {&place, 1});
    EXPECT_FALSE(place) << "a miss after 50 ms";
    directory_->end_read(*lease);
    EXPECT_NE(readers(*lease), 0u);
  }
  directory_->settle_debts();
  EXPECT_EQ(readers(*lease), 0u);
}

TEST_F(Directory, AnExpiredChunkIsNotThereAndGivesWay) {
  auto const grant = scene_.allocate(1, kSlot);
  auto facts = VolumeScene::facts(1000);
  facts.expires_unix_s = static_cast<std::uint32_t>(scene_.clock.unix_seconds() + 10);
  directory_->commit(grant->place, facts, directory_->now());
  EXPECT_TRUE(scene_.has(1));
  EXPECT_FALSE(scene_.allocate(1, kSlot));
  scene_.clock.advance_seconds(10);
  EXPECT_FALSE(scene_.has(1));
  EXPECT_FALSE(scene_.begin_read(1));
  EXPECT_TRUE(scene_.put(1, kSlot));
  EXPECT_TRUE(scene_.has(1));
}

TEST_F(Directory, ADamagedChunkIsForgottenByItsOnlyReader) {
  ASSERT_TRUE(scene_.put(1, kSlot));
  auto const one = scene_.begin_read(1);
  auto const two = scene_.begin_read(1);
  EXPECT_FALSE(directory_->remove(*one)) << "another thread reads it";
  directory_->end_read(*one);
  EXPECT_TRUE(directory_->remove(*two));
  EXPECT_FALSE(scene_.has(1));
  EXPECT_FALSE(directory_->remove(*two)) << "gone";
  EXPECT_EQ(scene_.state().entries[two->record].state, DiskState::kWriting)
      << "until its record is free";
  directory_->abandon(*two);
  EXPECT_EQ(scene_.state().entries[two->record].state, DiskState::kFree);
}

TEST_F(Directory, ClearSparesWhatIsReadOrWritten) {
  for (std::uint64_t seed = 0; seed < 5; ++seed) ASSERT_TRUE(scene_.put(seed, kSlot));
  auto const lease = scene_.begin_read(2);
  auto const writing = scene_.allocate(9, kSlot);
  auto const cleared = directory_->clear();
  EXPECT_EQ(cleared.size(), 4u);
  for (auto const& place : cleared) directory_->abandon(place);
  EXPECT_EQ(directory_->use().chunks, 1u);
  EXPECT_TRUE(scene_.has(2));
  directory_->commit(writing->place, VolumeScene::facts(1), directory_->now());
  EXPECT_TRUE(scene_.has(9));
  directory_->end_read(*lease);
}

TEST_F(Directory, ListsWhatIsThereAsItLies) {
  for (std::uint64_t seed = 0; seed < 6; ++seed) ASSERT_TRUE(scene_.put(seed, kSlot));
  ASSERT_TRUE(scene_.allocate(9, kSlot));
  auto const list = directory_->list();
  ASSERT_EQ(list.size(), 6u);
  for (std::size_t i = 1; i < list.size(); ++i) {
    EXPECT_LT((std::pair{list[i - 1].place.slab, list[i - 1].place.offset}),
              (std::pair{list[i].place.slab, list[i].place.offset}));
  }
}

TEST_F(Directory, TheOrderNamesTheLastUseOfEachRecord) {
  auto const first = scene_.put(1, kSlot);
  auto const second = scene_.put(2, kSlot);
  scene_.touch(1);
  auto const order = directory_->order();
  EXPECT_GT(order.last_use[first->place.record], order.last_use[second->place.record]);
  EXPECT_EQ(order.now, order.last_use[first->place.record]);
}

TEST_F(Directory, TouchedTogetherAPrefixIsYoungerThanWhatFollowsIt) {
  for (std::uint64_t seed = 0; seed < 3; ++seed) ASSERT_TRUE(scene_.put(seed, kSlot));
  std::vector<ChunkKey> const keys{disk_key(0), disk_key(1), disk_key(77), disk_key(2)};
  directory_->touch(keys);
  auto const use = [&](std::uint64_t seed) {
    return scene_.state().entries[scene_.find(seed)->record].last_use;
  };
  EXPECT_GT(use(0), use(1));
  EXPECT_GT(use(1), use(2));
}

TEST_F(Directory, SpeedsAreSmoothed) {
  directory_->record_speed(&DirectorySpace::read_bytes_per_s, 1000);
  EXPECT_EQ(directory_->use().read_bytes_per_s, 1000u);
  directory_->record_speed(&DirectorySpace::read_bytes_per_s, 2000);
  EXPECT_EQ(directory_->use().read_bytes_per_s, 1300u);
  EXPECT_EQ(directory_->use().write_bytes_per_s, 0u);
}

TEST_F(Directory, TheLastToLeaveRemovesTheSegment) {
  auto const path = directory_->segment().path();
  {
    auto const other = must(scene_.try_open());
    EXPECT_FALSE(other.loaded);
    EXPECT_EQ(other.directory->use().processes, 2u);
  }
  EXPECT_TRUE(std::filesystem::exists(path));
  EXPECT_EQ(directory_->use().processes, 1u);
  scene_.close();
  EXPECT_FALSE(std::filesystem::exists(path));
  scene_.open();
}

TEST_F(Directory, AForkLeavesWhatItsParentHoldsAlone) {
  ASSERT_TRUE(scene_.put(1, kSlot));
  auto const lease = scene_.begin_read(1);
  ChildProcess child{[&] {
    scene_.close();
    return 0;
  }};
  EXPECT_EQ(child.wait(), 0);
  EXPECT_TRUE(std::filesystem::exists(directory_->segment().path()));
  EXPECT_NE(readers(*lease), 0u);
  EXPECT_EQ(directory_->use().processes, 1u);
  directory_->end_read(*lease);
}

TEST_F(Directory, HasRoomFor64Processes) {
  std::vector<OpenVolume> others;
  for (int i = 1; i < 64; ++i) others.push_back(must(scene_.try_open()));
  auto const refused = scene_.try_open();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace lmcache::test
