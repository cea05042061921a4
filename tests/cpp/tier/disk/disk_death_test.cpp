// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <lmcache/tier/disk/disk_directory.hpp>

#include "support/child_process.hpp"
#include "support/directory_invariants.hpp"
#include "support/stepped_child.hpp"
#include "support/volume_scene.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint64_t kSlot = 256u << 10;
using Outcome = DiskDirectory::SlabOutcome;

// What a tier does with what reap() returns.
void bury(DiskDirectory& directory) { directory.finish_slab(directory.reap(), Outcome::kMade); }

class DiskDeath : public testing::Test {
 protected:
  void SetUp() override {
    scene_.open();
    for (std::uint64_t seed = 0; seed < 16; ++seed) ASSERT_TRUE(scene_.put(seed, kSlot));
  }
  // Another process of the node, killed after `act`.
  template <class Act>
  void die_after(Act&& act) {
    Milestone done;
    ChildProcess child{[&] {
      auto other = must(scene_.try_open());
      act(*other.directory);
      done.reach();
      wait_to_be_killed();
      return 0;
    }};
    done.await();
    child.kill();
  }
  void expect_at_rest() {
    EXPECT_TRUE(directory_is_sound(scene_.state()));
    EXPECT_TRUE(directory_is_at_rest(scene_.state()));
    EXPECT_EQ(scene_.state().processes.attached_count(), 1u);
  }

  VolumeScene scene_{fixed_file_bytes(1, 1024) + (4u << 20)};
};

TEST_F(DiskDeath, LeasesAndWritesOfTheDeadAreTakenBack) {
  die_after([&](DiskDirectory& directory) {
    ChunkKey const key = disk_key(3);
    std::optional<DiskPlace> place;
    directory.begin_reads({&key, 1}, {&place, 1});
    (void)scene_.allocate(directory, 100, kSlot);
  });
  EXPECT_FALSE(directory_is_at_rest(scene_.state()));
  EXPECT_FALSE(scene_.allocate(100, kSlot)) << "being written, for all that we know";
  bury(scene_.directory());
  expect_at_rest();
  EXPECT_TRUE(scene_.has(3));
  EXPECT_TRUE(scene_.put(100, kSlot));
}

TEST_F(DiskDeath, ASlabThatTheDeadWereMakingIsMadeByOthers) {
  die_after([&](DiskDirectory& directory) {
    (void)directory.allocate(disk_key(100), 2u << 20);  // empties two, begins one
  });
  EXPECT_EQ(scene_.directory().use().chunks, 8u);
  auto const orphans = scene_.directory().reap();
  EXPECT_EQ(orphans.dropped.size(), 8u);
  EXPECT_EQ(orphans.emptied.size(), 3u);
  EXPECT_EQ(scene_.directory().use().file_bytes, scene_.directory().use().limit_bytes)
      << "their files may still be there";
  scene_.directory().finish_slab(orphans, Outcome::kMade);
  EXPECT_EQ(scene_.directory().use().file_bytes, fixed_file_bytes(1, 1024) + (2u << 20));
  expect_at_rest();
  for (std::uint64_t seed = 200; seed < 208; ++seed) {
    auto const grant = scene_.put(seed, kSlot);
    ASSERT_TRUE(grant);
    EXPECT_FALSE(grant->evicted);
  }
}

TEST_F(DiskDeath, WhoBuriesTheDeadMayDieToo) {
  die_after([&](DiskDirectory& directory) { (void)directory.allocate(disk_key(100), 2u << 20); });
  die_after([&](DiskDirectory& directory) { (void)directory.reap(); });
  EXPECT_EQ(scene_.state().processes.attached_count(), 2u);
  bury(scene_.directory());
  expect_at_rest();
}

TEST_F(DiskDeath, ANewProcessFindsAPlaceAmongTheDead) {
  std::vector<std::unique_ptr<ChildProcess>> others;
  Milestone there;
  for (int i = 1; i < 64; ++i) {
    others.push_back(std::make_unique<ChildProcess>([&] {
      auto other = must(scene_.try_open());
      (void)other.directory->allocate(disk_key(100), 2u << 20);
      there.reach();
      wait_to_be_killed();
      return 0;
    }));
    there.await();
  }
  for (auto& other : others) other->kill();
  auto joined = must(scene_.try_open());
  EXPECT_EQ(scene_.state().processes.attached_count(), 64u);
  bury(*joined.directory);
  EXPECT_EQ(scene_.state().processes.attached_count(), 2u);
  EXPECT_TRUE(directory_is_at_rest(scene_.state()));
}

TEST_F(DiskDeath, TheLastOfTheLivingTakesTheDirectoryWithIt) {
  die_after([](DiskDirectory&) {});
  auto const path = scene_.directory().segment().path();
  scene_.close();
  EXPECT_FALSE(std::filesystem::exists(path));
}

// Keys are made before a process is stepped: each takes 5,000 instructions.
struct ActScene {
  VolumeScene scene{fixed_file_bytes(1, 1024) + (2u << 20)};
  std::vector<ChunkKey> keys;  // of chunks that are there
  ChunkKey fresh = disk_key(100);
};

struct Act {
  char const* name;
  void (*run)(ActScene&, DiskDirectory&);
};

class DiskDeathAtAnyInstruction : public testing::TestWithParam<Act> {};

TEST_P(DiskDeathAtAnyInstruction, LeavesADirectoryThatIsMended) {
  ActScene act;
  auto& scene = act.scene;
  scene.open();
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    act.keys.push_back(disk_key(seed));
    ASSERT_TRUE(scene.put(seed, kSlot));
  }
  constexpr std::uint64_t kPoints = 40;
  std::uint64_t all = 0;  // instructions; known once it was let through
  for (std::uint64_t point = 0; point <= kPoints; ++point) {
    SteppedChild child{[&] { return must(scene.try_open()); },
                       [&](OpenVolume& other) { GetParam().run(act, *other.directory); }};
    if (!child.is_traced()) GTEST_SKIP() << "this system lets no process trace another";
    std::uint64_t const budget = point == 0 ? 10'000'000 : all * point / (kPoints + 1);
    auto const steps = child.step(budget);
    if (point == 0) all = steps;
    child.kill();
    bury(scene.directory());
    ASSERT_TRUE(directory_is_sound(scene.state())) << budget;
    ASSERT_TRUE(directory_is_at_rest(scene.state())) << budget;
    for (std::uint64_t seed = 0; seed < 8; ++seed) {
      ASSERT_TRUE(scene.has(seed) || scene.put(seed, kSlot)) << budget;
    }
  }
}

void commit_a_chunk(ActScene& act, DiskDirectory& directory) {
  auto allocation = directory.allocate(act.fresh, kSlot);
  if (!allocation) return;
  if (auto const* const grant = std::get_if<WriteGrant>(&allocation.value())) {
    directory.commit(grant->place, VolumeScene::facts(1), directory.now());
  }
}

void remove_a_chunk(ActScene& act, DiskDirectory& directory) {
  std::optional<DiskPlace> place;
  directory.begin_reads({&act.keys[3], 1}, {&place, 1});
  if (place && directory.remove(*place)) directory.abandon(*place);
}

void take_slabs(ActScene& act, DiskDirectory& directory) {
  auto allocation = directory.allocate(act.fresh, 2u << 20);
  if (!allocation) return;
  if (auto const* const task = std::get_if<SlabTask>(&allocation.value())) {
    directory.finish_slab(*task, Outcome::kMade);
  }
}

void use_chunks(ActScene& act, DiskDirectory& directory) { directory.touch(act.keys); }

INSTANTIATE_TEST_SUITE_P(Acts, DiskDeathAtAnyInstruction,
                         testing::Values(Act{"Commit", commit_a_chunk},
                                         Act{"Remove", remove_a_chunk},
                                         Act{"TakeSlabs", take_slabs}, Act{"Touch", use_chunks}),
                         [](auto const& act) { return std::string{act.param.name}; });

}  // namespace
}  // namespace lmcache::test
