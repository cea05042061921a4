// SPDX-License-Identifier: Apache-2.0
#include <random>

#include <gtest/gtest.h>

#include <lmcache/tier/disk/directory_state.hpp>

#include "support/directory_invariants.hpp"
#include "support/volume_scene.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint64_t kSlot = 256u << 10;

std::vector<std::uint32_t> order_of_use(DirectoryState& state, std::uint32_t disk_class) {
  std::vector<std::uint32_t> out;
  for (auto at = state.space.classes[disk_class].used.front; at != kNoNode;
       at = state.recency.at(at).next) {
    out.push_back(at);
  }
  return out;
}

class Rebuild : public testing::Test {
 protected:
  void SetUp() override { scene_.open(); }
  void rebuild() {
    rebuild_directory(scene_.state());
    EXPECT_TRUE(directory_is_sound(scene_.state()));
  }

  VolumeScene scene_{8u << 20, 2};
};

TEST_F(Rebuild, ChangesNothingOfASoundDirectory) {
  ASSERT_TRUE(scene_.put(1, kSlot) && scene_.put(3, kSlot / 2));  // classes 1 and 2
  std::mt19937 random{1};
  for (int step = 0; step < 300; ++step) {
    std::uint64_t const seed = random() % 60;
    std::uint64_t const slot = seed % 3 == 0 ? kSlot / 2 : kSlot;
    if (random() % 4 == 0) scene_.touch(seed);
    if (random() % 4 != 0) (void)scene_.put(seed, slot);
    if (step % 10 != 0) continue;
    ASSERT_TRUE(directory_is_sound(scene_.state())) << step;
    auto const first = order_of_use(scene_.state(), 1);
    auto const second = order_of_use(scene_.state(), 2);
    auto const chunks = scene_.state().space.chunks.load();
    rebuild();
    EXPECT_EQ(order_of_use(scene_.state(), 1), first);
    EXPECT_EQ(order_of_use(scene_.state(), 2), second);
    EXPECT_EQ(scene_.state().space.chunks, chunks);
  }
}

TEST_F(Rebuild, MakesGoodWhateverListsAndCountsSay) {
  for (std::uint64_t seed = 0; seed < 20; ++seed)
    (void)scene_.put(seed, seed % 2 ? kSlot : kSlot / 2);
  auto& state = scene_.state();
  auto const reading = scene_.begin_read(3);
  auto const writing = scene_.allocate(100, kSlot);
  ASSERT_TRUE(reading && writing);
  for (auto& bucket : state.buckets) bucket = 0;
  for (auto& disk_class : state.space.classes) disk_class.free = disk_class.used = {};
  for (std::uint32_t i = 0; i < state.space.entry_limit; ++i) state.entries[i].slab_next = 0;
  for (auto& slab : state.slabs) slab.live = slab.bound = slab.first_entry = 0;
  state.space.used_bytes = state.space.chunks = state.space.slab_bytes = 1;
  rebuild();
  for (std::uint64_t seed = 0; seed < 20; ++seed) EXPECT_TRUE(scene_.has(seed)) << seed;
  EXPECT_EQ(state.entries[reading->record].readers, state.own_bit());
  EXPECT_EQ(state.entries[writing->place.record].state, DiskState::kWriting);
}

// Who died while it emptied a slab had not taken it yet: its slots are not lost.
TEST_F(Rebuild, SlotsDroppedFromASlabThatWasNotTakenAreFree) {
  ASSERT_TRUE(scene_.put(1, kSlot));
  auto const grant = scene_.put(2, kSlot);
  ASSERT_TRUE(grant);
  scene_.state().entries[grant->place.record].state = DiskState::kDropped;
  rebuild();
  EXPECT_EQ(scene_.state().entries[grant->place.record].state, DiskState::kFree);
  EXPECT_TRUE(scene_.has(1));
  EXPECT_FALSE(scene_.has(2));
}

TEST_F(Rebuild, EntriesOfASlabThatIsGoneHaveNoSlot) {
  auto const grant = scene_.put(1, kSlot);
  ASSERT_TRUE(grant);
  scene_.state().slabs[grant->place.slab].state = SlabState::kNone;
  scene_.state().slabs[grant->place.slab].size_bytes = 0;
  rebuild();
  EXPECT_FALSE(scene_.has(1));
  EXPECT_EQ(scene_.state().entries[grant->place.record].state, DiskState::kNoSlot);
}

}  // namespace
}  // namespace lmcache::test
