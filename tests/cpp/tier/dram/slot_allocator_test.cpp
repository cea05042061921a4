// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>
#include <random>

#include <gtest/gtest.h>

#include "support/segment_invariants.hpp"
#include "support/tier_scene.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint32_t kChunk = 64;
constexpr std::uint32_t kSlotsPerExtent = 7;  // of 266,240 bytes in 2 MiB

TierShape shape_of(std::uint64_t extents, EvictionKind eviction = EvictionKind::kLru) {
  TierShape shape;
  shape.token_bytes = 4096;
  shape.options.capacity_bytes = extents << 21;
  shape.options.eviction = eviction;
  return shape;
}

// A tree of chunks, and which of them must go next: of those without children the one used longest
// ago.
class LruOracle {
 public:
  void store(ChunkKey const& key, ChunkKey const& parent) { nodes_[key] = {parent, ++now_}; }
  void use(ChunkKey const& key) { nodes_[key].stamp = ++now_; }
  ChunkKey evict() {
    auto victim = nodes_.end();
    for (auto at = nodes_.begin(); at != nodes_.end(); ++at) {
      bool const leaf = std::ranges::none_of(
          nodes_, [&](auto const& node) { return node.second.parent == at->first; });
      if (leaf && (victim == nodes_.end() || at->second.stamp < victim->second.stamp)) victim = at;
    }
    auto const key = victim->first;
    nodes_.erase(victim);
    return key;
  }
  [[nodiscard]] std::size_t size() const { return nodes_.size(); }
  [[nodiscard]] bool has(ChunkKey const& key) const { return nodes_.contains(key); }

 private:
  struct Node {
    ChunkKey parent;
    std::uint64_t stamp;
  };
  std::map<ChunkKey, Node> nodes_;
  std::uint64_t now_ = 0;
};

TEST(SlotAllocator, SlotSizes) {
  EXPECT_EQ(SlotAllocator::slot_bytes(1), 64u);
  EXPECT_EQ(SlotAllocator::slot_bytes(64), 64u);
  EXPECT_EQ(SlotAllocator::slot_bytes(65), 128u);
  EXPECT_EQ(SlotAllocator::slot_bytes(65'535), 65'536u);
  EXPECT_EQ(SlotAllocator::slot_bytes(65'536), 65'536u);
  EXPECT_EQ(SlotAllocator::slot_bytes(65'537), 69'632u);
}

TEST(SlotAllocator, EverySlotIsUsedBeforeAnythingIsEvicted) {
  TierScene scene{shape_of(3)};
  for (std::uint64_t seed = 0; seed < 3 * kSlotsPerExtent; ++seed)
    scene.store(prompt_of(seed, kChunk));
  EXPECT_EQ(scene.counters().evicted_chunks, 0u);
  EXPECT_EQ(scene.use().bound_slots, 3 * kSlotsPerExtent);
  scene.store(prompt_of(100, kChunk));
  EXPECT_EQ(scene.counters().evicted_chunks, 1u);
  EXPECT_EQ(scene.counters().evicted_bytes, kChunk * 4096u);
  EXPECT_TRUE(segment_is_sound(scene.state()));
}

struct LruCase {
  std::uint64_t seed;
  std::uint64_t token_bytes;
  std::uint32_t slots;
  int prompts;
  int steps;
};

class LeastRecentlyUsed : public testing::TestWithParam<LruCase> {};

TEST_P(LeastRecentlyUsed, GoesFirstLeavesBeforeParents) {
  auto const& c = GetParam();
  std::mt19937_64 random{c.seed};
  auto shape = shape_of(4);
  shape.token_bytes = c.token_bytes;
  TierScene scene{shape};
  LruOracle oracle;
  std::vector<TestPrompt> prompts{prompt_of(c.seed * 1000, 3 * kChunk)};
  while (static_cast<int>(prompts.size()) < c.prompts) {
    auto const& parent = prompts[random() % prompts.size()];
    auto const shared =
        kChunk * static_cast<std::uint32_t>(random() % (parent.size() / kChunk + 1));
    auto const more = kChunk * (1 + static_cast<std::uint32_t>(random() % 3));
    prompts.push_back(branch_of(parent, shared, random(), shared + more));
  }
  for (int step = 0; step < c.steps; ++step) {
    auto prompt = prompts[random() % prompts.size()];
    if (random() % 2 == 0) prompt = prompt.first(kChunk);  // hot parents
    auto const chain = scene.chain(prompt);
    // As an engine does: look up, hold what is there, store the rest.
    auto const found = scene.tier().lookup(scene.space, chain, kNoLimit);
    std::uint32_t const whole = found.prefix_tokens / kChunk;
    for (std::uint32_t i = whole; i > 0; --i) {
      ASSERT_TRUE(oracle.has(chain.keys()[i - 1]));
      oracle.use(chain.keys()[i - 1]);
    }
    scene.tier().flush_touches();
    auto const refs = scene.reserve(prompt, whole);
    scene.publish(prompt, refs, whole);
    for (std::uint32_t i = whole; i < chain.chunk_count(); ++i) {
      if (!refs[0][i - whole]) continue;  // there, though its parent had gone
      if (oracle.size() == c.slots) {
        auto const victim = oracle.evict();
        ASSERT_EQ(scene.state().index.find(victim ^ scene.space.lane_masks[0]), kNoEntry)
            << "step " << step;
      }
      oracle.store(chain.keys()[i], chain.parent_of(i));
    }
    scene.tier().release(found.lanes[0]);
    ASSERT_EQ(scene.use().ready, oracle.size()) << "step " << step;
  }
  EXPECT_GT(scene.counters().evicted_chunks, c.slots);
  EXPECT_TRUE(segment_is_sound(scene.state()));
}

INSTANTIATE_TEST_SUITE_P(SlotAllocator, LeastRecentlyUsed,
                         testing::Values(LruCase{1, 4096, 28, 25, 400},
                                         LruCase{2, 4096, 28, 40, 400},
                                         LruCase{3, 4096, 28, 40, 400},
                                         LruCase{4, 512, 252, 400, 1500},
                                         LruCase{5, 512, 252, 400, 1500}));

TEST(SlotAllocator, AParentOutlivesItsChildren) {
  TierScene scene{shape_of(1)};
  auto const prompt = prompt_of(1, 4 * kChunk);
  scene.store(prompt);
  auto const chain = scene.chain(prompt);
  auto const there = [&](std::uint32_t chunk) {
    return scene.state().index.find(chain.keys()[chunk] ^ scene.space.lane_masks[0]) != kNoEntry;
  };
  // The first has been used longest ago of all, but its children go before it.
  std::uint32_t left = 4;
  for (std::uint64_t other = 10; left > 0; ++other) {
    ASSERT_LT(other, 30u);
    scene.store(prompt_of(other, kChunk));
    if (!there(left - 1)) --left;
    for (std::uint32_t chunk = 0; chunk < 4; ++chunk) EXPECT_EQ(there(chunk), chunk < left);
  }
}

TEST(SlotAllocator, WhatIsLeasedIsPassedOver) {
  TierScene scene{shape_of(1)};
  std::vector<ChunkRef> refs;
  for (std::uint64_t seed = 0; seed < kSlotsPerExtent; ++seed) {
    auto const reserved = scene.reserve(prompt_of(seed, kChunk));
    scene.publish(prompt_of(seed, kChunk), reserved);
    refs.push_back(reserved[0][0]);
  }
  for (std::size_t i = 0; i < 3; ++i) ASSERT_TRUE(scene.tier().begin_read(refs[i]));
  for (std::uint64_t seed = 100; seed < 104; ++seed)
    EXPECT_EQ(scene.store(prompt_of(seed, kChunk)), 1u);
  for (std::size_t i = 0; i < kSlotsPerExtent; ++i)
    EXPECT_EQ(scene.tier().is_ready(refs[i]), i < 3);
  scene.tier().release(std::span{refs}.first(3));
  EXPECT_TRUE(segment_is_sound(scene.state()));
}

// What a tier below holds is not lost, so it goes before what is used longer ago.
TEST(SlotAllocator, WhatLiesOnDiskTooGoesFirst) {
  TierScene scene{shape_of(1)};
  std::vector<ChunkRef> refs;
  for (std::uint64_t seed = 0; seed < kSlotsPerExtent; ++seed) {
    auto const reserved = scene.reserve(prompt_of(seed, kChunk));
    scene.publish(prompt_of(seed, kChunk), reserved);
    refs.push_back(reserved[0][0]);
  }
  scene.tier().note_on_disk(refs[2]);
  scene.tier().note_on_disk(refs[4]);
  EXPECT_EQ(scene.store(prompt_of(100, kChunk)), 1u);
  EXPECT_FALSE(scene.tier().is_ready(refs[0])) << "without a disk tier nothing is preferred";
  scene.state().space.disk_directory[0] = '/';
  ASSERT_TRUE(scene.tier().begin_read(refs[2]));
  EXPECT_EQ(scene.store(prompt_of(101, kChunk)), 1u);
  EXPECT_FALSE(scene.tier().is_ready(refs[4])) << "the one below 4 is leased";
  EXPECT_EQ(scene.store(prompt_of(102, kChunk)), 1u);
  EXPECT_FALSE(scene.tier().is_ready(refs[1])) << "no other lies below: by time of use";
  EXPECT_TRUE(scene.tier().is_ready(refs[2]));
  scene.tier().release(std::span{refs}.subspan(2, 1));
  EXPECT_TRUE(segment_is_sound(scene.state()));
}

TEST(SlotAllocator, OnlyTheFirst16ChoicesAreAskedWhetherTheyLieOnDisk) {
  TierScene scene{shape_of(3)};
  std::vector<ChunkRef> refs;
  for (std::uint64_t seed = 0; seed < 3 * kSlotsPerExtent; ++seed) {
    auto const reserved = scene.reserve(prompt_of(seed, kChunk));
    scene.publish(prompt_of(seed, kChunk), reserved);
    refs.push_back(reserved[0][0]);
  }
  scene.state().space.disk_directory[0] = '/';
  scene.tier().note_on_disk(refs[16]);
  EXPECT_EQ(scene.store(prompt_of(100, kChunk)), 1u);
  EXPECT_TRUE(scene.tier().is_ready(refs[16]));
  EXPECT_FALSE(scene.tier().is_ready(refs[0]));
  EXPECT_EQ(scene.store(prompt_of(101, kChunk)), 1u);
  EXPECT_FALSE(scene.tier().is_ready(refs[16])) << "by now one of the first 16";
  EXPECT_TRUE(scene.tier().is_ready(refs[1]));
}

TEST(SlotAllocator, FirstInFirstOutForgetsUses) {
  TierScene scene{shape_of(1, EvictionKind::kFifo)};
  for (std::uint64_t seed = 0; seed < kSlotsPerExtent; ++seed) scene.store(prompt_of(seed, kChunk));
  scene.hit(prompt_of(0, kChunk));
  scene.store(prompt_of(100, kChunk));
  EXPECT_EQ(scene.hit(prompt_of(0, kChunk)), 0u);
  EXPECT_EQ(scene.hit(prompt_of(1, kChunk)), kChunk);
}

TEST(SlotAllocator, MostRecentlyUsedGoesFirstIfAsked) {
  TierScene scene{shape_of(1, EvictionKind::kMru)};
  for (std::uint64_t seed = 0; seed < kSlotsPerExtent; ++seed) scene.store(prompt_of(seed, kChunk));
  scene.hit(prompt_of(2, kChunk));
  scene.store(prompt_of(100, kChunk));
  EXPECT_EQ(scene.hit(prompt_of(2, kChunk)), 0u);
  EXPECT_EQ(scene.hit(prompt_of(0, kChunk)), kChunk);
}

TEST(SlotAllocator, SizesExchangeExtents) {
  TierScene scene{shape_of(4)};
  for (std::uint64_t seed = 0; seed < 4 * kSlotsPerExtent; ++seed)
    scene.store(prompt_of(seed, kChunk));
  EXPECT_EQ(scene.store(prompt_of(100, 5)), 1u) << "the first of its size takes an extent";
  EXPECT_EQ(scene.hit(prompt_of(100, 5)), 5u);
  EXPECT_EQ(scene.counters().evicted_chunks, kSlotsPerExtent);
  EXPECT_TRUE(segment_is_sound(scene.state()));
  // Small ones only from now on: they replace each other, then, when the large have not been used
  // for a turn over all entries, take their extents too.
  for (std::uint64_t seed = 200; seed < 1200; ++seed)
    EXPECT_EQ(scene.store(prompt_of(seed, 5)), 1u);
  EXPECT_TRUE(segment_is_sound(scene.state()));
  std::uint32_t large = 0;
  for (std::uint64_t seed = 0; seed < 4 * kSlotsPerExtent; ++seed)
    large += scene.hit(prompt_of(seed, kChunk)) != 0 ? 1 : 0;
  EXPECT_EQ(large, 0u);
  // And back.
  for (std::uint64_t seed = 5000; seed < 5100; ++seed)
    EXPECT_EQ(scene.store(prompt_of(seed, kChunk)), 1u);
  EXPECT_TRUE(segment_is_sound(scene.state()));
  large = 0;
  for (std::uint64_t seed = 5000; seed < 5100; ++seed)
    large += scene.hit(prompt_of(seed, kChunk)) != 0 ? 1 : 0;
  EXPECT_GE(large, 3 * kSlotsPerExtent);
}

TEST(SlotAllocator, AnEmptyExtentIsTakenBeforeAnythingIsEvicted) {
  TierScene scene{shape_of(2)};
  auto other = scene.open_space("other");
  for (std::uint64_t seed = 0; seed < kSlotsPerExtent; ++seed) scene.store(prompt_of(seed, kChunk));
  EXPECT_EQ(scene.store(other, prompt_of(0, 5)), 1u);
  EXPECT_EQ(clear_chunks(scene.state(), other.place.id()), 1u);
  for (std::uint64_t seed = 10; seed < 10 + kSlotsPerExtent; ++seed)
    scene.store(prompt_of(seed, kChunk));
  EXPECT_EQ(scene.counters().evicted_chunks, 0u);
  EXPECT_EQ(scene.use().ready, 2 * kSlotsPerExtent);
  EXPECT_TRUE(segment_is_sound(scene.state()));
}

TEST(SlotAllocator, AnExtentInUseIsNotTaken) {
  TierScene scene{shape_of(2)};
  std::vector<LeasedPrefix> held;
  for (std::uint64_t seed = 0; seed < 2 * kSlotsPerExtent; ++seed)
    scene.store(prompt_of(seed, kChunk));
  for (std::uint64_t const seed : {0, 10}) {
    held.push_back(
        scene.tier().lookup(scene.space, scene.chain(prompt_of(seed, kChunk)), kNoLimit));
  }
  EXPECT_EQ(scene.store(prompt_of(100, 5)), 0u) << "one chunk of either is leased";
  EXPECT_TRUE(scene.holds(prompt_of(0, kChunk), held[0]));
  EXPECT_TRUE(scene.holds(prompt_of(10, kChunk), held[1]));
  scene.tier().release(held[0].lanes[0]);
  EXPECT_EQ(scene.store(prompt_of(100, 5)), 1u);
  EXPECT_TRUE(scene.holds(prompt_of(10, kChunk), held[1]));
  scene.tier().release(held[1].lanes[0]);
  EXPECT_TRUE(segment_is_sound(scene.state()));
}

TEST(SlotAllocator, NoMoreThan64Sizes) {
  TierScene scene;
  SlotAllocator allocator{scene.state()};
  auto const guard = must(scene.state().lock_space());
  for (std::uint64_t size = 1; size <= kMaxSizeClasses; ++size) {
    auto const entry = allocator.allocate(size * 64);
    if (entry) allocator.put_back(entry.value());
  }
  auto const one_more = allocator.allocate((kMaxSizeClasses + 1) * 64);
  ASSERT_FALSE(one_more);
  EXPECT_EQ(one_more.error().code(), ErrorCode::kInvalidArgument);
  EXPECT_TRUE(allocator.allocate(64));
}

TEST(SlotAllocator, WhatIsPutBackIsGivenOutNext) {
  TierScene scene;
  SlotAllocator allocator{scene.state()};
  {
    auto const guard = must(scene.state().lock_space());
    auto const first = must(allocator.allocate(1000));
    allocator.put_back(first);
    EXPECT_EQ(must(allocator.allocate(1000)), first);
    allocator.put_back(first);
  }
  EXPECT_TRUE(segment_is_sound(scene.state()));
}

}  // namespace
}  // namespace lmcache::test
