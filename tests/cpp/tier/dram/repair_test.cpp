// SPDX-License-Identifier: Apache-2.0
// Everything that can be worked out of the entries is worked out again, however wrong it is. (What
// a death at any instruction leaves behind: death_test.cpp.)
#include <chrono>
#include <random>

#include <gtest/gtest.h>

#include "support/child_process.hpp"
#include "support/scratch_folder.hpp"
#include "support/segment_invariants.hpp"
#include "support/tier_scene.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint32_t kChunk = 64;

class RepairTest : public testing::Test {
 protected:
  RepairTest() {
    for (std::uint64_t seed = 0; seed < 6; ++seed) scene_.store(prompt_of(seed, 2 * kChunk + 20));
    scene_.store(branch_of(prompt_of(0, 2 * kChunk), kChunk + 30, 1, 3 * kChunk));
    reserved_ = scene_.reserve(prompt_of(100, kChunk));
    (void)clear_one(prompt_of(3, 2 * kChunk + 20));
  }
  TierShape shape() const {
    TierShape out;
    out.lanes = 2;
    out.token_bytes = 4096;
    out.options.name = "repair";
    out.options.directory = folder_.path();
    out.options.capacity_bytes = 12u << 20;
    return out;
  }
  bool clear_one(TestPrompt const& prompt) {
    auto const guard = must(scene_.state().lock_space());
    auto const index =
        scene_.state().index.find(scene_.chain(prompt).keys()[1] ^ scene_.space.lane_masks[0]);
    return SlotAllocator{scene_.state()}.remove(index, RemovalReason::kCleared);
  }
  // Another process takes these locks and is killed.
  template <class Lock>
  void die_holding(Lock lock) {
    ChildProcess child{[&] {
      TierScene scene{shape()};
      lock(scene.state());
      ::raise(SIGKILL);
      return 0;
    }};
    EXPECT_EQ(child.wait(), 256 + SIGKILL);
  }
  void expect_all_is_well() {
    EXPECT_TRUE(segment_is_sound(scene_.state()));
    EXPECT_EQ(scene_.hit(prompt_of(1, 2 * kChunk + 20)), 2 * kChunk + 20);
    EXPECT_EQ(scene_.hit(branch_of(prompt_of(2, 3 * kChunk), kChunk + 40, 7, 3 * kChunk)),
              kChunk + 40);
    EXPECT_EQ(scene_.publish(prompt_of(100, kChunk), reserved_), 2u) << "a reservation survives";
    EXPECT_EQ(scene_.hit(prompt_of(100, kChunk)), kChunk);
    EXPECT_GT(scene_.store(prompt_of(200, 3 * kChunk)), 0u);
    scene_.tier().reap();
    EXPECT_TRUE(segment_is_sound(scene_.state()));
    EXPECT_TRUE(nothing_is_held(scene_.state()));
  }

  ScratchFolder folder_;
  TierScene scene_{shape()};
  TierScene::Refs reserved_;
};

TEST_F(RepairTest, ChangesNothingThatIsRight) {
  auto const before = scene_.use();
  {
    auto const guard = must(scene_.state().lock_space());
    must(repair_space(scene_.state()));
  }
  auto const after = scene_.use();
  EXPECT_EQ(after.ready, before.ready);
  EXPECT_EQ(after.writing, before.writing);
  EXPECT_EQ(after.used_bytes, before.used_bytes);
  expect_all_is_well();
}

TEST_F(RepairTest, KeepsTheOrderOfEviction) {
  auto const order = [&] {
    std::vector<std::uint32_t> out;
    for (std::uint32_t id = 1; id <= scene_.state().space.class_count; ++id) {
      auto const& leaves = scene_.state().space.classes[id].leaves;
      for (std::uint32_t at = leaves.back; at != kNoNode;
           at = scene_.state().recency.at(at).previous)
        out.push_back(at);
    }
    return out;
  };
  auto const before = order();
  {
    auto const guard = must(scene_.state().lock_space());
    must(repair_space(scene_.state()));
  }
  EXPECT_EQ(order(), before);
}

TEST_F(RepairTest, TheDeathOfAnOwnerOfTheSpaceLockIsNoticed) {
  die_holding(
      [](DramState& state) { (void)state.header.space_lock.lock(std::chrono::seconds{1}); });
  auto const repaired = scene_.state().space.repaired.load();
  scene_.tier().reap();
  EXPECT_EQ(scene_.state().space.repaired.load(), repaired + 1);
  expect_all_is_well();
  EXPECT_EQ(scene_.state().space.repaired.load(), repaired + 1);
}

TEST_F(RepairTest, TheDeathOfAnOwnerOfShardLocksIsNoticed) {
  die_holding([](DramState& state) {
    for (std::uint32_t shard = 0; shard < kShardCount; ++shard) {
      (void)new RobustGuard{must(state.index.lock_shard(shard, std::chrono::seconds{1}))};
    }
  });
  expect_all_is_well();
  EXPECT_GT(scene_.state().index.repaired_shards(), 0u);
}

TEST_F(RepairTest, TheDeathOfAnOwnerOfAllLocksIsNoticed) {
  die_holding([](DramState& state) {
    (void)state.header.space_lock.lock(std::chrono::seconds{1});
    for (std::uint32_t shard = 0; shard < kShardCount; ++shard) {
      (void)new RobustGuard{must(state.index.lock_shard(shard, std::chrono::seconds{1}))};
    }
  });
  expect_all_is_well();
}

TEST_F(RepairTest, ARepairThatCannotHaveAllLocksIsMadeLater) {
  die_holding(
      [](DramState& state) { (void)state.header.space_lock.lock(std::chrono::seconds{1}); });
  {
    auto const stuck = must(scene_.state().index.lock_shard(7, std::chrono::seconds{1}));
    auto const refused = scene_.state().lock_space();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), ErrorCode::kTimeout);
  }
  EXPECT_TRUE(scene_.state().lock_space());
  expect_all_is_well();
}

// Whatever is derived is overwritten with garbage.
TEST_F(RepairTest, RestoresAllThatIsDerived) {
  std::mt19937 random{1};
  for (int round = 0; round < 20; ++round) {
    {
      auto& state = scene_.state();
      auto const guard = must(state.lock_space());
      auto const garbage = [&] { return static_cast<std::uint32_t>(random()); };
      auto const limit = state.index.entry_limit();
      for (std::uint32_t index = 0; index < limit; ++index) {
        auto& entry = state.index.at(index);
        entry.first_child = garbage();
        entry.next_sibling = garbage();
        entry.previous_sibling = garbage();
        entry.child_count = garbage();
        entry.extent_next = garbage();
        entry.fingerprint_next = garbage();
        entry.fingerprint_previous = garbage();
        entry.hash_next = garbage();
        state.recency.at(index).next = garbage();
        state.recency.at(index).previous = garbage();
      }
      for (auto& head : state.segment.region_of<std::uint32_t>(Region::kBuckets)) head = garbage();
      for (auto& head : state.segment.region_of<std::uint32_t>(Region::kFingerprints))
        head = garbage();
      for (std::uint32_t id = 1; id <= state.space.class_count; ++id) {
        auto& size_class = state.space.classes[id];
        size_class.free = {garbage(), garbage(), garbage(), 0};
        size_class.leaves = {garbage(), garbage(), garbage(), 0};
        size_class.open_extent = garbage();
        size_class.empty_extents = garbage();
      }
      for (std::uint32_t extent = 0; extent < state.extents.count(); ++extent) {
        state.extents.at(extent).bound = garbage();
        state.extents.at(extent).live = garbage();
        state.extents.at(extent).first_entry = garbage();
      }
      for (auto& record : state.namespaces.records()) {
        record.root_children = garbage();
        record.entries = garbage();
        record.bytes = garbage();
      }
      must(repair_space(state));
    }
    ASSERT_TRUE(segment_is_sound(scene_.state()));
  }
  expect_all_is_well();
}

TEST_F(RepairTest, AParentThatIsAnothersIsNotBelieved) {
  auto& state = scene_.state();
  auto const child = state.index.find(scene_.chain(prompt_of(1, 2 * kChunk)).keys()[1] ^
                                      scene_.space.lane_masks[0]);
  auto const stranger =
      state.index.find(scene_.chain(prompt_of(2, kChunk)).keys()[0] ^ scene_.space.lane_masks[1]);
  {
    auto const guard = must(state.lock_space());
    state.index.at(child).parent = stranger;  // of another lane
    must(repair_space(state));
  }
  EXPECT_EQ(state.index.at(child).parent, kNoEntry);
  expect_all_is_well();
}

TEST_F(RepairTest, AnEntryInAnExtentOfAnotherSizeLosesItsSlot) {
  auto& state = scene_.state();
  auto const index =
      state.index.find(scene_.chain(prompt_of(5, kChunk)).keys()[0] ^ scene_.space.lane_masks[1]);
  ChunkRef const ref{.index = index, .generation = state.index.at(index).generation};
  ASSERT_TRUE(scene_.tier().is_ready(ref));
  {
    auto const guard = must(state.lock_space());
    state.index.at(index).size_class =
        static_cast<std::uint16_t>(state.index.at(index).size_class % 2 + 1);
    must(repair_space(state));
  }
  EXPECT_FALSE(scene_.tier().is_ready(ref));
  EXPECT_FALSE(scene_.tier().begin_read(ref));
  EXPECT_NE(state.index.at(index).generation, ref.generation);
}

}  // namespace
}  // namespace lmcache::test
