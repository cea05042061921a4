// SPDX-License-Identifier: Apache-2.0
#include <lmcache/policy/eviction_policy.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <random>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace lmcache {
namespace {

using Indices = std::vector<std::uint32_t>;

class Candidates {
 public:
  Candidates(EvictionKind kind, std::size_t count)
      : memory_(count), nodes{std::as_writable_bytes(std::span{memory_})} {
    policy = make_eviction_policy(kind, nodes);
    list.clear();
  }

  // Chunks 0, 1, … are stored at the times 1, 2, …
  void store(std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) policy->on_insert(list, i, ++now);
  }
  void hit(std::uint32_t index) { policy->on_hit(list, index, ++now, true); }
  std::uint32_t evict() {
    std::uint32_t const victim = policy->victim(list);
    if (victim != kNoNode) nodes.remove(list, victim);
    return victim;
  }
  Indices evict_all() {
    Indices out;
    while (list.count > 0) out.push_back(evict());
    return out;
  }

 private:
  std::vector<RecencyNode> memory_;

 public:
  RecencyNodes nodes;
  std::unique_ptr<EvictionPolicy> policy;
  RecencyHead list{};
  std::uint64_t now = 0;
};

TEST(ParseEviction, KnowsThreePoliciesInAnyCase) {
  for (auto const& [text, kind] :
       {std::pair{"lru", EvictionKind::kLru}, std::pair{"LRU", EvictionKind::kLru},
        std::pair{"Fifo", EvictionKind::kFifo}, std::pair{"mRu", EvictionKind::kMru}}) {
    auto const parsed = parse_eviction(text);
    ASSERT_TRUE(parsed) << text;
    EXPECT_EQ(parsed.value(), kind) << text;
  }
}

TEST(ParseEviction, RefusesOthersAndSaysWhatThereIs) {
  for (std::string const text : {"", "lr", "lru ", "lfu", "lru\xff"}) {
    auto const parsed = parse_eviction(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().code(), ErrorCode::kInvalidArgument);
    for (auto const& part : {"'" + text + "'", std::string{"lru, fifo and mru"}}) {
      EXPECT_NE(parsed.error().message().find(part), std::string::npos) << part;
    }
  }
}

TEST(EvictionPolicy, NoCandidatesNoVictim) {
  for (auto const kind : {EvictionKind::kLru, EvictionKind::kFifo, EvictionKind::kMru}) {
    Candidates c{kind, 1};
    EXPECT_EQ(c.evict(), kNoNode);
    c.store(1);
    EXPECT_EQ(c.evict(), 0U);
    EXPECT_EQ(c.evict(), kNoNode);
  }
}

TEST(EvictionPolicy, EachHasItsOrder) {
  auto const order = [](EvictionKind kind) {
    Candidates c{kind, 4};
    c.store(4);
    c.hit(1);
    c.hit(0);
    return c.evict_all();
  };
  EXPECT_EQ(order(EvictionKind::kLru), (Indices{2, 3, 1, 0}));
  EXPECT_EQ(order(EvictionKind::kFifo), (Indices{0, 1, 2, 3}));
  EXPECT_EQ(order(EvictionKind::kMru), (Indices{0, 1, 3, 2}));
}

TEST(EvictionPolicy, AHitOnAParentCountsWhenItBecomesALeaf) {
  for (auto const kind : {EvictionKind::kLru, EvictionKind::kFifo}) {
    Candidates c{kind, 4};
    c.store(4);
    c.nodes.remove(c.list, 0);  // has a child now
    c.policy->on_hit(c.list, 0, ++c.now, false);
    EXPECT_EQ(c.list.count, 3U) << "a hit made a candidate of a parent";
    c.policy->on_leaf(c.list, 0);
    EXPECT_EQ(c.evict_all(),
              kind == EvictionKind::kLru ? (Indices{1, 2, 3, 0}) : (Indices{0, 1, 2, 3}));
  }
}

// More chunks are older than a new leaf than an insertion looks at.
TEST(EvictionPolicy, ALeafWaitsForAllThatAreOlder) {
  for (std::uint32_t older = 0; older <= 200; ++older) {
    Candidates c{EvictionKind::kLru, 202};
    c.store(202);
    c.nodes.remove(c.list, older);
    c.policy->on_leaf(c.list, older);
    for (std::uint32_t i = 0; i < 202; ++i) ASSERT_EQ(c.evict(), i) << older << " are older";
  }
}

// A chain of chunks that was stored last goes from its end to its beginning.
TEST(EvictionPolicy, MostRecentFirstTakesAChainWhole) {
  constexpr std::uint32_t kOld = 100;
  constexpr std::uint32_t kChain = 5;
  Candidates c{EvictionKind::kMru, kOld + kChain};
  c.store(kOld);
  for (std::uint32_t i = kOld; i < kOld + kChain; ++i) {
    if (i > kOld) c.nodes.remove(c.list, i - 1);  // has a child from now on
    c.policy->on_insert(c.list, i, ++c.now);
  }
  for (std::uint32_t i = kOld + kChain; i-- > kOld;) {
    ASSERT_EQ(c.evict(), i);
    if (i > kOld) c.policy->on_leaf(c.list, i - 1);
  }
  EXPECT_EQ(c.evict(), kOld - 1);
}

// Asked for a victim as often as there are candidates, all refused: each comes once, in order.
TEST(EvictionPolicy, ARefusedOneComesAgainAfterAllOthers) {
  for (std::uint32_t const count : {2U, 3U, 9U, 10U, 33U, 100U}) {
    for (auto const kind : {EvictionKind::kLru, EvictionKind::kFifo, EvictionKind::kMru}) {
      SCOPED_TRACE(testing::Message() << count << " candidates, policy " << int(kind));
      Candidates c{kind, count};
      c.store(count);
      for (std::uint32_t i = 0; i < 2 * count; ++i) {
        std::uint32_t const turn = i % count;
        std::uint32_t const victim = c.policy->victim(c.list);
        ASSERT_EQ(victim, kind == EvictionKind::kMru ? count - 1 - turn : turn) << "try " << i;
        c.policy->on_refused(c.list, victim);
        ASSERT_EQ(c.list.count, count);
      }
    }
  }
}

TEST(EvictionPolicy, TheChoicesAfterTheFirstComeInOrder) {
  for (auto const kind : {EvictionKind::kLru, EvictionKind::kFifo, EvictionKind::kMru}) {
    Candidates c{kind, 5};
    c.store(5);
    c.hit(1);
    Indices choices;
    for (auto at = c.policy->victim(c.list); at != kNoNode; at = c.policy->next_victim(at)) {
      choices.push_back(at);
    }
    EXPECT_EQ(choices, c.evict_all());
  }
}

TEST(EvictionPolicy, TheOnlyOneStaysWhenRefused) {
  for (auto const kind : {EvictionKind::kLru, EvictionKind::kFifo, EvictionKind::kMru}) {
    Candidates c{kind, 1};
    c.store(1);
    c.policy->on_refused(c.list, 0);
    EXPECT_EQ(c.list.count, 1U);
    EXPECT_EQ(c.evict(), 0U);
  }
}

class EvictionOrder : public testing::TestWithParam<EvictionKind> {};

// As few candidates as an insertion looks at: the order is exact.
TEST_P(EvictionOrder, IsThatOfASortedSet) {
  constexpr unsigned kSeed = 20240711;
  constexpr std::uint32_t kNodes = 32;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  std::mt19937 random{kSeed};
  Candidates c{GetParam(), kNodes};
  enum class State { kGone, kLeaf, kParent };
  std::vector<State> state(kNodes, State::kGone);
  std::vector<std::uint64_t> stamp(kNodes);
  std::set<std::pair<std::uint64_t, std::uint32_t>> oracle;
  int evicted = 0;
  for (int step = 0; step < 50'000; ++step) {
    auto const index = static_cast<std::uint32_t>(random() % kNodes);
    auto const choice = random() % 10;
    bool const leaf = state[index] == State::kLeaf;
    if (choice == 0) {
      std::uint32_t const victim = c.evict();
      if (oracle.empty()) {
        ASSERT_EQ(victim, kNoNode);
        continue;
      }
      auto const expected =
          GetParam() == EvictionKind::kMru ? std::prev(oracle.end()) : oracle.begin();
      ASSERT_EQ(victim, expected->second) << "step " << step;
      oracle.erase(expected);
      state[victim] = State::kGone;
      ++evicted;
    } else if (state[index] == State::kGone) {
      c.policy->on_insert(c.list, index, stamp[index] = ++c.now);
      oracle.emplace(stamp[index], index);
      state[index] = State::kLeaf;
    } else if (choice < 4 && leaf) {
      c.nodes.remove(c.list, index);
      oracle.erase({stamp[index], index});
      state[index] = State::kParent;
    } else if (choice < 7 && !leaf) {
      c.policy->on_leaf(c.list, index);
      oracle.emplace(stamp[index], index);
      state[index] = State::kLeaf;
    } else {
      c.policy->on_hit(c.list, index, ++c.now, leaf);
      if (GetParam() == EvictionKind::kFifo) continue;
      if (leaf) oracle.erase({stamp[index], index});
      stamp[index] = c.now;
      if (leaf) oracle.emplace(stamp[index], index);
    }
    ASSERT_EQ(c.list.count, oracle.size()) << "step " << step;
  }
  EXPECT_GT(evicted, 1000);
}

INSTANTIATE_TEST_SUITE_P(EvictionPolicy, EvictionOrder,
                         testing::Values(EvictionKind::kLru, EvictionKind::kFifo,
                                         EvictionKind::kMru));

}  // namespace
}  // namespace lmcache
