// SPDX-License-Identifier: Apache-2.0
// What a chunk that goes leaves behind in the lists, trees and counters; and what the space lock
// does after its owner died.
#include <algorithm>
#include <chrono>
#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "support/child_process.hpp"
#include "support/segment_invariants.hpp"
#include "support/tier_scene.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint32_t kChunk = 64;
constexpr std::uint64_t kPayload = kChunk * 16;

class FreeEntry : public testing::Test {
 protected:
  // Stores it all and returns the refs of lane 0 and, where there are more, the other lanes.
  TierScene::Refs store(TestPrompt const& prompt) {
    auto refs = scene_.reserve(prompt);
    scene_.publish(prompt, refs);
    return refs;
  }
  void free_entry(ChunkRef ref) {
    auto const space = must(state().lock_space());
    auto const shard = must(state().index.lock(entry(ref).key(), kLockTimeout));
    state().free_entry(ref.index);
  }
  [[nodiscard]] std::vector<std::uint32_t> list(RecencyHead const& head) {
    std::vector<std::uint32_t> out;
    for (auto at = head.front; at != kNoNode; at = state().recency.at(at).next) out.push_back(at);
    return out;
  }
  [[nodiscard]] std::vector<std::uint32_t> leaves() {
    return list(state().space.classes[1].leaves);
  }
  [[nodiscard]] std::vector<std::uint32_t> free_list() {
    return list(state().space.classes[1].free);
  }
  [[nodiscard]] std::vector<std::uint32_t> root_children() {
    std::vector<std::uint32_t> out;
    for (auto at = record().root_children; at != kNoEntry; at = state().index.at(at).next_sibling)
      out.push_back(at);
    return out;
  }
  [[nodiscard]] std::vector<std::uint32_t> children(ChunkRef ref) {
    std::vector<std::uint32_t> out;
    for (auto at = entry(ref).first_child; at != kNoEntry; at = state().index.at(at).next_sibling)
      out.push_back(at);
    return out;
  }
  // The chunks of a prompt before the first one that is gone.
  [[nodiscard]] std::uint32_t chunks_there(TestPrompt const& prompt) {
    std::uint32_t count = 0;
    auto const chain = scene_.chain(prompt);
    for (auto const& key : chain.keys()) {
      if (state().index.find(key ^ scene_.space.lane_masks[0]) == kNoEntry) break;
      ++count;
    }
    return count;
  }
  [[nodiscard]] DramState& state() { return scene_.state(); }
  [[nodiscard]] Entry& entry(ChunkRef ref) { return state().index.at(ref.index); }
  [[nodiscard]] NamespaceRecord& record() { return scene_.tier().record(scene_.space); }

  using Indices = std::vector<std::uint32_t>;
  TierScene scene_;
};

TEST_F(FreeEntry, LeafGoesAndItsParentBecomesACandidate) {
  auto const prompt = prompt_of(1, 3 * kChunk);
  auto const refs = store(prompt)[0];
  ASSERT_EQ(leaves(), Indices{refs[2].index});
  free_entry(refs[2]);
  EXPECT_EQ(leaves(), Indices{refs[1].index});
  EXPECT_EQ(free_list(), Indices{refs[2].index});
  EXPECT_EQ(entry(refs[1]).child_count, 0u);
  EXPECT_EQ(entry(refs[2]).state.load(), EntryState::kFree);
  EXPECT_EQ(scene_.hit(prompt), 2 * kChunk);
  EXPECT_TRUE(segment_is_sound(state()));
}

TEST_F(FreeEntry, ParentBecomesACandidateWithItsLastChildOnlyAndInItsPlace) {
  auto const older = store(prompt_of(1, kChunk))[0];
  auto const prompt = prompt_of(2, 2 * kChunk);
  auto const refs = store(prompt)[0];
  auto const newer = store(prompt_of(3, kChunk))[0];
  auto const branch = store(branch_of(prompt, kChunk, 4, 2 * kChunk))[0];
  ASSERT_EQ(children(refs[0]), (Indices{branch[1].index, refs[1].index}));
  free_entry(refs[1]);
  EXPECT_EQ(children(refs[0]), Indices{branch[1].index});
  EXPECT_EQ(leaves(), (Indices{branch[1].index, newer[0].index, older[0].index}));
  EXPECT_TRUE(segment_is_sound(state()));
  free_entry(branch[1]);
  EXPECT_EQ(leaves(), (Indices{newer[0].index, refs[0].index, older[0].index}));
  EXPECT_TRUE(segment_is_sound(state()));
}

TEST_F(FreeEntry, ChildrenAreOrphanedAndFoundAgainWhenTheChunkComesBack) {
  auto const prompt = prompt_of(1, 3 * kChunk);
  auto const branch = branch_of(prompt, 2 * kChunk, 2, 3 * kChunk);
  auto const refs = store(prompt)[0];
  auto const other = store(branch)[0];
  free_entry(refs[1]);
  for (auto const orphan : {refs[2], other[2]}) {
    EXPECT_EQ(entry(orphan).parent, kNoEntry);
    EXPECT_EQ(entry(orphan).next_sibling, kNoEntry);
    EXPECT_EQ(entry(orphan).previous_sibling, kNoEntry);
    EXPECT_TRUE(scene_.tier().is_ready(orphan));
  }
  EXPECT_EQ(entry(refs[0]).child_count, 0u);
  EXPECT_EQ(leaves(), (Indices{other[2].index, refs[2].index, refs[0].index}));
  EXPECT_EQ(scene_.hit(prompt), kChunk);
  EXPECT_TRUE(segment_is_sound(state()));

  EXPECT_EQ(scene_.store(prompt), 1u);  // the middle alone
  EXPECT_EQ(scene_.hit(prompt), 3 * kChunk);
  EXPECT_EQ(scene_.hit(branch), 3 * kChunk);
  // An orphan's end is no business of whoever has its parent's entry now.
  free_entry(refs[2]);
  EXPECT_EQ(scene_.hit(prompt), 2 * kChunk);
  EXPECT_EQ(scene_.hit(branch), 3 * kChunk);
  EXPECT_TRUE(segment_is_sound(state()));
}

TEST_F(FreeEntry, FirstChunksLeaveTheRootWhereverTheyStandInIt) {
  std::vector<ChunkRef> refs;
  for (std::uint64_t seed = 0; seed < 4; ++seed)
    refs.push_back(store(prompt_of(seed, kChunk))[0][0]);
  ASSERT_EQ(root_children(), (Indices{refs[3].index, refs[2].index, refs[1].index, refs[0].index}));
  free_entry(refs[2]);  // in the middle
  EXPECT_EQ(root_children(), (Indices{refs[3].index, refs[1].index, refs[0].index}));
  free_entry(refs[3]);  // in front
  EXPECT_EQ(root_children(), (Indices{refs[1].index, refs[0].index}));
  free_entry(refs[0]);  // at the end
  EXPECT_EQ(root_children(), Indices{refs[1].index});
  EXPECT_TRUE(segment_is_sound(state()));
  free_entry(refs[1]);
  EXPECT_EQ(root_children(), Indices{});
  EXPECT_EQ(leaves(), Indices{});
  EXPECT_TRUE(segment_is_sound(state()));
}

TEST_F(FreeEntry, OnlyItsOwnFingerprintGoes) {
  // All three begin alike, so that they are in one chain; each is the longest match of one prompt.
  auto const head = prompt_of(1, 40);
  std::vector<ChunkRef> refs;
  std::vector<TestPrompt> prompts;
  for (std::uint64_t seed = 0; seed < 3; ++seed) {
    prompts.push_back(branch_of(head, 40, 10 + seed, kChunk));
    refs.push_back(store(prompts.back())[0][0]);
    ASSERT_NE(entry(refs.back()).fingerprint, 0u);
    ASSERT_EQ(entry(refs.back()).fingerprint, entry(refs[0]).fingerprint);
  }
  auto const part = [&](std::size_t i) { return scene_.hit(prompts[i].first(60)); };
  EXPECT_EQ(part(1), 60u);
  free_entry(refs[1]);
  EXPECT_EQ(entry(refs[1]).fingerprint, 0u);
  EXPECT_EQ(part(0), 60u);
  EXPECT_EQ(part(1), 40u);
  EXPECT_EQ(part(2), 60u);
  EXPECT_TRUE(segment_is_sound(state()));
  free_entry(refs[2]);
  EXPECT_EQ(part(0), 60u);
  EXPECT_EQ(part(2), 40u);
  free_entry(refs[0]);
  EXPECT_EQ(part(0), 0u);
  EXPECT_TRUE(segment_is_sound(state()));
}

TEST_F(FreeEntry, CountersOfItsNamespaceFall) {
  auto other = scene_.open_space("other");
  auto const& others = scene_.tier().record(other);
  auto const refs = store(prompt_of(1, 2 * kChunk))[0];
  scene_.store(other, prompt_of(1, 3 * kChunk));
  ASSERT_EQ(record().entries.load(), 2u);
  free_entry(refs[1]);
  EXPECT_EQ(record().entries.load(), 1u);
  EXPECT_EQ(record().bytes.load(), kPayload);
  free_entry(refs[0]);
  EXPECT_EQ(record().entries.load(), 0u);
  EXPECT_EQ(record().bytes.load(), 0u);
  EXPECT_EQ(others.entries.load(), 3u);
  EXPECT_EQ(others.bytes.load(), 3 * kPayload);
  EXPECT_EQ(scene_.hit(other, prompt_of(1, 3 * kChunk)), 3 * kChunk);
  EXPECT_TRUE(segment_is_sound(state()));
}

TEST_F(FreeEntry, ExtentIsCountedAsEmptyWithItsLastChunk) {
  auto const refs = store(prompt_of(1, 2 * kChunk))[0];
  auto const& size_class = state().space.classes[1];
  auto const extent = state().extents.extent_of(entry(refs[0]).payload_offset);
  EXPECT_EQ(state().extents.at(extent).live, 2u);
  free_entry(refs[1]);
  EXPECT_EQ(state().extents.at(extent).live, 1u);
  EXPECT_EQ(size_class.empty_extents, 0u);
  free_entry(refs[0]);
  EXPECT_EQ(state().extents.at(extent).live, 0u);
  EXPECT_EQ(size_class.empty_extents, 1u);
  scene_.store(prompt_of(2, kChunk));
  EXPECT_EQ(size_class.empty_extents, 0u);
  EXPECT_TRUE(segment_is_sound(state()));
}

TEST_F(FreeEntry, ReservationIsFreedAsWell) {
  auto const prompt = prompt_of(1, 2 * kChunk);
  auto const refs = scene_.reserve(prompt);
  free_entry(refs[0][1]);
  EXPECT_FALSE(scene_.tier().begin_write(refs[0][1]));
  EXPECT_EQ(scene_.publish(prompt, refs), 1u);
  EXPECT_EQ(scene_.hit(prompt), kChunk);
  EXPECT_TRUE(segment_is_sound(state()));
}

TEST_F(FreeEntry, NoOldRefNamesWhatComesNext) {
  auto const ref = store(prompt_of(1, kChunk))[0][0];
  free_entry(ref);
  EXPECT_EQ(entry(ref).generation.load(), ref.generation + 1);
  auto const next = store(prompt_of(2, kChunk))[0][0];
  ASSERT_EQ(next.index, ref.index);
  EXPECT_FALSE(matches(entry(ref), ref));
  EXPECT_FALSE(scene_.tier().is_ready(ref));
  EXPECT_FALSE(scene_.tier().begin_read(ref));
  EXPECT_TRUE(scene_.tier().is_ready(next));
}

TEST_F(FreeEntry, GenerationsSkipZero) {
  auto const ref = store(prompt_of(1, kChunk))[0][0];
  entry(ref).generation.store(std::numeric_limits<std::uint32_t>::max());
  free_entry(ref);
  EXPECT_EQ(entry(ref).generation.load(), 1u);
  EXPECT_TRUE(store(prompt_of(2, kChunk))[0][0]);
  EXPECT_TRUE(segment_is_sound(state()));
}

TEST(FreeEntryInLanes, EveryLaneHasItsOwnTreeAndOnlyTheFirstTheRoot) {
  TierShape shape;
  shape.lanes = 2;
  TierScene scene{shape};
  auto const prompt = prompt_of(1, 2 * kChunk);
  auto const refs = scene.reserve(prompt);
  scene.publish(prompt, refs);
  auto& state = scene.state();
  auto const free_entry = [&](ChunkRef ref) {
    auto const space = must(state.lock_space());
    auto const shard = must(state.index.lock(state.index.at(ref.index).key(), kLockTimeout));
    state.free_entry(ref.index);
  };
  free_entry(refs[1][0]);
  EXPECT_EQ(scene.tier().record(scene.space).root_children, refs[0][0].index);
  EXPECT_EQ(state.index.at(refs[0][1].index).parent, refs[0][0].index);
  EXPECT_EQ(state.index.at(refs[1][1].index).parent, kNoEntry);
  EXPECT_EQ(scene.hit(prompt), 0u);  // one lane is not enough
  EXPECT_TRUE(segment_is_sound(state));
  EXPECT_EQ(scene.store(prompt), 1u);
  EXPECT_EQ(scene.hit(prompt), 2 * kChunk);
  EXPECT_TRUE(segment_is_sound(state));
}

TEST_F(FreeEntry, InAnyOrderOutOfAnyTree) {
  std::mt19937_64 random{
      static_cast<std::uint64_t>(testing::UnitTest::GetInstance()->random_seed()) + 1};
  std::vector<TestPrompt> prompts{prompt_of(0, 5 * kChunk)};
  for (std::uint64_t seed = 1; seed < 24; ++seed) {
    auto const& from = prompts[random() % prompts.size()];
    prompts.push_back(
        branch_of(from, static_cast<std::uint32_t>(random() % (5 * kChunk)), seed, 5 * kChunk));
  }
  std::vector<ChunkRef> there;
  for (auto const& prompt : prompts) {
    auto const refs = store(prompt)[0];
    for (auto const ref : refs) {
      if (ref) there.push_back(ref);
    }
  }
  std::ranges::shuffle(there, random);
  ASSERT_TRUE(segment_is_sound(state()));
  std::size_t left = there.size();
  for (auto const ref : there) {
    free_entry(ref);
    EXPECT_EQ(record().entries.load(), --left);
    ASSERT_TRUE(segment_is_sound(state())) << left << " left";
    auto const& prompt = prompts[random() % prompts.size()];
    EXPECT_EQ(scene_.hit(prompt) / kChunk, chunks_there(prompt));
  }
  EXPECT_EQ(record().bytes.load(), 0u);
  EXPECT_TRUE(nothing_is_held(state()));
}

// Takes the space lock, damages what it guards and dies.
void die_in_the_space_lock(TierScene& scene) {
  ChildProcess child{[&] {
    auto const found = scene.state().header.space_lock.lock(std::chrono::seconds{5});
    if (!found) return 1;
    scene.state().space.classes[1].leaves.clear();
    scene.state().space.classes[1].free.count = 7;
    ::raise(SIGKILL);
    return 2;
  }};
  EXPECT_EQ(child.wait(), 256 + SIGKILL);
}

TEST(LockSpace, RepairsAfterItsOwnersDeathOnce) {
  TierScene scene;
  auto const prompt = prompt_of(1, 3 * kChunk);
  scene.store(prompt);
  ASSERT_TRUE(scene.state().lock_space());
  EXPECT_EQ(scene.state().space.repaired.load(), 0u);
  die_in_the_space_lock(scene);
  EXPECT_TRUE(scene.state().lock_space());
  EXPECT_EQ(scene.state().space.repaired.load(), 1u);
  EXPECT_TRUE(segment_is_sound(scene.state()));
  EXPECT_EQ(scene.state().space.repaired.load(), 1u);
  EXPECT_EQ(scene.hit(prompt), 3 * kChunk);
  die_in_the_space_lock(scene);
  EXPECT_TRUE(segment_is_sound(scene.state()));
  EXPECT_EQ(scene.state().space.repaired.load(), 2u);
}

TEST(LockSpace, WaitsNoLongerThanItMay) {
  TierScene scene;
  Milestone locked;
  ChildProcess child{[&] {
    auto const guard = scene.state().lock_space(std::chrono::seconds{5});
    if (!guard) return 1;
    locked.reach();
    wait_to_be_killed();
  }};
  locked.await();
  auto const refused = scene.state().lock_space(std::chrono::milliseconds{1});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kTimeout);
  EXPECT_EQ(scene.state().space.repaired.load(), 0u);
  child.kill();
  EXPECT_TRUE(scene.state().lock_space());
  EXPECT_EQ(scene.state().space.repaired.load(), 1u);
}

TEST(LockSpace, RepairThatFailedIsTriedAgainByTheNextOwner) {
  TierScene scene;
  auto const prompt = prompt_of(1, 3 * kChunk);
  scene.store(prompt);
  Milestone locked;
  ChildProcess in_a_shard{[&] {
    auto const guard = scene.state().index.lock_shard(3, std::chrono::seconds{5});
    if (!guard) return 1;
    locked.reach();
    wait_to_be_killed();
  }};
  locked.await();
  die_in_the_space_lock(scene);
  EXPECT_FALSE(scene.state().lock_space());  // the repair needs all shards
  EXPECT_EQ(scene.state().space.repaired.load(), 0u);
  in_a_shard.kill();
  EXPECT_TRUE(scene.state().lock_space());
  EXPECT_EQ(scene.state().space.repaired.load(), 1u);
  EXPECT_TRUE(segment_is_sound(scene.state()));
  EXPECT_EQ(scene.hit(prompt), 3 * kChunk);
}

}  // namespace
}  // namespace lmcache::test
