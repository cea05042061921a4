// SPDX-License-Identifier: Apache-2.0
// The short steps that change a segment, each killed after its first store to it, after its second,
// and so on to its last. (Longer acts, killed at random: death_test.cpp.)
#include <cstring>
#include <map>
#include <memory>
#include <utility>

#include <gtest/gtest.h>

#include "support/segment_invariants.hpp"
#include "support/stepped_child.hpp"
#include "support/tier_scene.hpp"

namespace lmcache::test {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t kStride = 29;  // ten times as many instructions: a few of the stores
#else
constexpr std::uint64_t kStride = 1;
#endif
#if defined(__SANITIZE_THREAD__)
constexpr bool kStepsTooMany = true;
#else
constexpr bool kStepsTooMany = false;
#endif
constexpr std::uint32_t kChunk = 64;

// What processes share but for the chunks' bytes and who is attached, as it was when looked at
// last.
class SharedImage {
 public:
  explicit SharedImage(DramState& state) {
    parts_.push_back(std::as_bytes(std::span{&state.header, 1}));
    for (auto const id :
         {Region::kExtents, Region::kShards, Region::kBuckets, Region::kFingerprints,
          Region::kEntries, Region::kRecency, Region::kSpace}) {
      parts_.push_back(state.segment.region(id));
    }
    parts_.push_back(state.segment.region(Region::kNamespaces).first(2 * sizeof(NamespaceRecord)));
    for (auto const part : parts_) seen_.emplace_back(part.begin(), part.end());
  }
  [[nodiscard]] bool has_changed() {
    bool changed = false;
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      if (std::memcmp(seen_[i].data(), parts_[i].data(), parts_[i].size()) == 0) continue;
      std::ranges::copy(parts_[i], seen_[i].begin());
      changed = true;
    }
    return changed;
  }

 private:
  std::vector<std::span<std::byte const>> parts_;
  std::vector<std::vector<std::byte>> seen_;
};

// What every ref that was ever given named. It must name the same for ever, or nothing.
class RefHistory {
 public:
  [[nodiscard]] testing::AssertionResult is_kept(DramState& state) {
    for (std::uint32_t index = 0; index < state.index.entry_limit(); ++index) {
      auto const& entry = state.index.at(index);
      if (entry.state.load() == EntryState::kFree) continue;
      auto const [known, fresh] = names_.try_emplace({index, entry.generation.load()}, entry.key());
      if (fresh || known->second == entry.key()) continue;
      return testing::AssertionFailure()
             << "a ref to entry " << index << " names another chunk now";
    }
    return testing::AssertionSuccess();
  }

 private:
  std::map<std::pair<std::uint32_t, std::uint32_t>, ChunkKey> names_;
};

// One child per death. It inherits the tier, so that it acts as a thread of ours; the locks that it
// holds when it dies are its own all the same.
class StepDeath : public testing::Test {
 protected:
  void SetUp() override {
    if (kStepsTooMany) GTEST_SKIP() << "single steps through ThreadSanitizer's code take minutes";
    TierShape shape;
    shape.lanes = 1;
    shape.token_bytes = 4096;
    shape.options.capacity_bytes = 6u << 20;  // 21 slots of full chunks
    shape.options.max_entries = 128;
    scene_ = std::make_unique<TierScene>(shape);
    for (auto const& prompt : prompts_) scene_->store(prompt);
  }

  Entry& entry(std::uint32_t index) { return state().index.at(index); }
  std::uint32_t find(TestPrompt const& prompt, std::uint32_t chunk) {
    return state().index.find(scene_->chain(prompt).keys()[chunk] ^ scene_->space.lane_masks[0]);
  }
  DramState& state() { return scene_->state(); }

  // What a dead process would have had: it was us, so the reaper leaves it.
  void give_back_reservations() {
    for (std::uint32_t index = 0; index < state().index.entry_limit(); ++index) {
      auto const generation = entry(index).generation.load();
      if (entry(index).state.load() == EntryState::kWriting) {
        scene_->tier().cancel({.index = index, .generation = generation});
      }
    }
  }

  // Whoever is not free is complete: its key is that of the tokens in its slot, after its parent.
  [[nodiscard]] testing::AssertionResult entries_are_complete() {
    for (std::uint32_t index = 0; index < state().index.entry_limit(); ++index) {
      auto const& it = entry(index);
      bool const at_root = (it.flags & kAtRoot) != 0;
      if (it.state.load() == EntryState::kFree || (it.parent == kNoEntry && !at_root)) continue;
      auto const mask = scene_->space.lane_masks[0];
      auto const before = at_root ? scene_->space.opened.root : entry(it.parent).key() ^ mask;
      auto const tokens = slot_tokens(scene_->tier().segment(), it);
      TestPrompt const chunk{.tokens = {tokens.begin(), tokens.end()}, .items = {}};
      auto const key = must(chunk.chain(before, kChunk).tail_key(0, chunk.size()));
      if (it.key() != (key ^ mask)) {
        return testing::AssertionFailure() << "entry " << index << " has not the key of its tokens";
      }
    }
    return testing::AssertionSuccess();
  }

  // What was done, or half done, is whole again, and the segment is as it was before.
  void expect_all_is_well() {
    for (auto const& prompt : prompts_) scene_->hit(prompt);  // every byte of it is right
    EXPECT_TRUE(state().lock_space());
    ASSERT_TRUE(segment_is_sound(state()));
    ASSERT_TRUE(entries_are_complete());
    give_back_reservations();
    ASSERT_TRUE(nothing_is_held(state()));
    // Another one gets what was being freed, not the same again.
    scene_->store(prompt_of(1'000'000 + ++others_, kChunk));
    for (auto const& prompt : prompts_) scene_->store(prompt);
    ASSERT_TRUE(segment_is_sound(state()));
    ASSERT_TRUE(history_.is_kept(state()));
  }

  template <class Prepare, class Act>
  void kill_at_every_store(Prepare prepare, Act act) {
    // Once in this process: what is called for the first time costs thousands of instructions.
    auto rehearsal = prepare();
    act(rehearsal);
    ASSERT_NO_FATAL_FAILURE(expect_all_is_well());
    std::uint64_t deaths = 0;
    bool ended = false;
    for (std::uint64_t stores = 1; !ended; stores += kStride) {
      auto prepared = prepare();
      ASSERT_TRUE(history_.is_kept(state()));
      {
        SteppedChild child{[&] { return prepared; }, [&](auto& it) { act(it); }};
        if (!child.is_traced()) GTEST_SKIP() << "this system lets no process trace another";
        SharedImage image{state()};
        std::uint64_t seen = 0;
        while (seen < stores && child.step(1) == 1) seen += image.has_changed() ? 1 : 0;
        ended = !child.running();
      }
      SCOPED_TRACE("killed after store " + std::to_string(stores));
      ASSERT_NO_FATAL_FAILURE(expect_all_is_well());
      ++deaths;
    }
    EXPECT_GT(deaths * kStride, 20u);
    RecordProperty("deaths", std::to_string(deaths));
  }

  std::unique_ptr<TierScene> scene_;
  RefHistory history_;
  std::uint64_t others_ = 0;
  std::vector<TestPrompt> prompts_{prompt_of(1, 4 * kChunk),
                                   branch_of(prompt_of(1, 4 * kChunk), kChunk, 1, 3 * kChunk),
                                   branch_of(prompt_of(1, 4 * kChunk), kChunk, 2, 3 * kChunk)};
};

TEST_F(StepDeath, WhileAnEntryIsFreed) {
  kill_at_every_store(
      [&] {
        auto const index = find(prompts_[1], 1);  // it has a parent, siblings and a child
        EXPECT_NE(index, kNoEntry);
        return index;
      },
      [&](std::uint32_t index) {
        auto const guard = state().lock_space();
        (void)SlotAllocator{state()}.remove(index, RemovalReason::kCleared);
      });
}

TEST_F(StepDeath, WhileAnEntryIsFilled) {
  std::uint64_t seed = 100;
  kill_at_every_store(
      [&] {
        auto const prompt = branch_of(prompts_[0], 2 * kChunk, ++seed, 3 * kChunk);
        return std::make_shared<KeyChain>(scene_->chain(prompt));
      },
      [&](std::shared_ptr<KeyChain> const& chain) {
        (void)scene_->tier().reserve(scene_->space, *chain,
                                     {.first_chunk = 2, .end_token = kNoLimit});
      });
}

TEST_F(StepDeath, WhileAChunkMakesRoomForAnother) {
  for (std::uint64_t seed = 10; scene_->counters().evicted_chunks == 0; ++seed)
    scene_->store(prompt_of(seed, kChunk));
  std::uint64_t seed = 100;
  kill_at_every_store(
      [&] { return std::make_shared<KeyChain>(scene_->chain(prompt_of(++seed, kChunk))); },
      [&](std::shared_ptr<KeyChain> const& chain) {
        (void)scene_->tier().reserve(scene_->space, *chain,
                                     {.first_chunk = 0, .end_token = kNoLimit});
      });
}

TEST_F(StepDeath, WhileAnExtentChangesItsSize) {
  for (std::uint64_t seed = 10; scene_->counters().evicted_chunks == 0; ++seed)
    scene_->store(prompt_of(seed, kChunk));
  std::uint64_t seed = 100;
  kill_at_every_store(
      [&] {
        // The small ones have an extent, in which nothing lies: the next large one takes it.
        scene_->tier().cancel(scene_->reserve(prompt_of(++seed, 5))[0][0]);
        while (state().space.classes[1].free.count != 0) scene_->store(prompt_of(++seed, kChunk));
        EXPECT_EQ(state().space.classes[2].empty_extents, 1u);
        return std::make_shared<KeyChain>(scene_->chain(prompt_of(++seed, kChunk)));
      },
      [&](std::shared_ptr<KeyChain> const& chain) {
        (void)scene_->tier().reserve(scene_->space, *chain,
                                     {.first_chunk = 0, .end_token = kNoLimit});
      });
}

}  // namespace
}  // namespace lmcache::test
