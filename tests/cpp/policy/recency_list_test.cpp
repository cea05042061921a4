// SPDX-License-Identifier: Apache-2.0
#include <lmcache/policy/recency_list.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <random>
#include <span>
#include <vector>

namespace lmcache {
namespace {

constexpr std::uint32_t kWindow = 32;
using Order = std::deque<std::uint32_t>;

class RecencyListTest : public testing::Test {
 protected:
  RecencyListTest() {
    for (auto& list : lists_) list.clear();
  }

  // Front to back, the back links checked on the way.
  [[nodiscard]] Order order(RecencyHead const& list) const {
    Order out;
    std::uint32_t previous = kNoNode;
    for (std::uint32_t at = list.front; at != kNoNode && out.size() <= kNodes;
         at = nodes_.at(at).next) {
      EXPECT_EQ(nodes_.at(at).previous, previous) << "of node " << at;
      previous = at;
      out.push_back(at);
    }
    EXPECT_EQ(list.back, previous);
    EXPECT_EQ(list.count, out.size());
    return out;
  }
  [[nodiscard]] Order order() const { return order(lists_[0]); }

  // Nodes with these stamps, the first at the front: nodes 0, 1, …
  void fill(std::vector<std::uint64_t> const& stamps) {
    for (std::uint32_t i = 0; i < stamps.size(); ++i) {
      nodes_.at(i).stamp = stamps[i];
      nodes_.push_back(lists_[0], i);
    }
  }
  // Nodes 0, 1, … with stamps that fall by 10, the last has 10.
  void fill(std::uint32_t count) {
    std::vector<std::uint64_t> stamps;
    for (std::uint32_t i = 0; i < count; ++i) stamps.push_back(10 * (count - i));
    fill(stamps);
  }
  // How many are behind a node of this stamp once it is inserted into what is there.
  std::uint32_t behind(std::uint64_t stamp) {
    constexpr std::uint32_t kNew = kNodes - 1;
    nodes_.at(kNew).stamp = stamp;
    nodes_.insert_by_stamp(lists_[0], kNew);
    auto const all = order();
    auto const count = static_cast<std::uint32_t>(all.end() - std::ranges::find(all, kNew) - 1);
    nodes_.remove(lists_[0], kNew);
    return count;
  }

  static constexpr std::uint32_t kNodes = 256;
  std::vector<RecencyNode> memory_{kNodes};
  RecencyNodes nodes_{std::as_writable_bytes(std::span{memory_})};
  std::array<RecencyHead, 2> lists_{};
};

TEST_F(RecencyListTest, AClearedListIsEmpty) {
  EXPECT_EQ(order(), Order{});
  nodes_.push_front(lists_[0], 7);
  EXPECT_EQ(order(), Order{7});
  lists_[0].clear();
  EXPECT_EQ(order(), Order{});
}

TEST_F(RecencyListTest, TheLastNodeLeavesAnEmptyList) {
  nodes_.push_back(lists_[0], 3);
  nodes_.move_to_front(lists_[0], 3);
  EXPECT_EQ(order(), Order{3});
  nodes_.remove(lists_[0], 3);
  EXPECT_EQ(order(), Order{});
}

TEST_F(RecencyListTest, InsertionGoesInFrontOfTheOlder) {
  fill(8);  // 80 70 … 10
  EXPECT_EQ(behind(5), 0U);
  EXPECT_EQ(behind(15), 1U);
  EXPECT_EQ(behind(45), 4U);
  EXPECT_EQ(behind(75), 7U);
  EXPECT_EQ(behind(85), 8U);
}

TEST_F(RecencyListTest, OfTheSameAgeTheOneThatWasThereIsMoreRecent) {
  fill(8);
  EXPECT_EQ(behind(10), 0U);
  EXPECT_EQ(behind(40), 3U);
}

TEST_F(RecencyListTest, InsertionIntoAnEmptyList) { EXPECT_EQ(behind(1), 0U); }

TEST_F(RecencyListTest, InsertionLooksAtTheLast32) {
  fill(40);
  for (std::uint32_t older = 0; older <= 40; ++older) {
    EXPECT_EQ(behind(10 * older + 5), std::min(older, kWindow)) << older << " are older";
  }
}

TEST_F(RecencyListTest, InsertionAtTheFrontGoesBehindTheMoreRecent) {
  constexpr std::uint32_t kNew = kNodes - 1;
  for (std::uint32_t const count : {0U, 8U, 40U}) {
    for (std::uint32_t younger = 0; younger <= count; ++younger) {
      lists_[0].clear();
      fill(count);
      nodes_.at(kNew).stamp = 10 * (count - younger) + 5;
      nodes_.insert_by_stamp_at_front(lists_[0], kNew);
      auto const all = order();
      ASSERT_EQ(all.size(), count + 1);
      EXPECT_EQ(all[std::min(younger, kWindow)], kNew) << younger << " are more recent";
    }
  }
}

// A younger one at the back, as an earlier insertion left it, hides none of the older.
TEST_F(RecencyListTest, InsertionSeesPastOneOutOfPlace) {
  fill({50, 40, 20, 10, 99});
  EXPECT_EQ(behind(30), 3U);
  EXPECT_EQ(behind(5), 0U);
}

TEST_F(RecencyListTest, AListInOrderIsSettled) {
  EXPECT_TRUE(nodes_.settle_back(lists_[0]));
  EXPECT_EQ(order(), Order{});
  fill(40);
  auto const before = order();
  EXPECT_TRUE(nodes_.settle_back(lists_[0]));
  EXPECT_EQ(order(), before);
}

TEST_F(RecencyListTest, SameAgesAreSettled) {
  fill({7, 7, 7});
  EXPECT_TRUE(nodes_.settle_back(lists_[0]));
  EXPECT_EQ(order(), (Order{0, 1, 2}));
}

TEST_F(RecencyListTest, SettlingMovesTheLastInFrontOfTheOlder) {
  fill({50, 40, 20, 10, 30});
  EXPECT_FALSE(nodes_.settle_back(lists_[0]));
  EXPECT_EQ(order(), (Order{0, 1, 4, 2, 3}));
  EXPECT_TRUE(nodes_.settle_back(lists_[0]));
  EXPECT_EQ(order(), (Order{0, 1, 4, 2, 3}));
}

TEST_F(RecencyListTest, SettlingLooksAt32) {
  // One older, so many places in front of the last.
  for (std::uint32_t const places : {1U, 31U, 32U, 33U}) {
    for (auto& list : lists_) list.clear();
    std::vector<std::uint64_t> stamps(places + 1, 100);
    stamps.front() = 1;
    fill(stamps);
    bool const seen = places <= kWindow;
    EXPECT_EQ(nodes_.settle_back(lists_[0]), !seen) << places << " places";
    EXPECT_EQ(order().front(), seen ? places : 0U) << places << " places";
  }
}

TEST_F(RecencyListTest, SettlingTakesOneFarBackByStepsOf32) {
  fill(100);
  nodes_.at(100).stamp = 10 * 100 + 5;
  nodes_.push_back(lists_[0], 100);
  EXPECT_FALSE(nodes_.settle_back(lists_[0]));
  auto const all = order();
  EXPECT_EQ(all[100 - kWindow], 100U);
  EXPECT_EQ(lists_[0].back, 99U);
}

// The same on deques of indices.
class Oracle {
 public:
  explicit Oracle(RecencyNodes nodes) : nodes_{nodes} {}

  static void remove(Order& list, std::uint32_t index) { std::erase(list, index); }
  void insert(Order& list, std::uint32_t index) const { insert_older(list, list.size(), index); }
  bool settle(Order& list) const {
    if (list.empty()) return true;
    std::uint32_t const last = list.back();
    list.pop_back();
    return !insert_older(list, list.size(), last);
  }

 private:
  // Whether it went in front of an older one.
  bool insert_older(Order& list, std::size_t end, std::uint32_t index) const {
    std::size_t target = end;
    for (std::size_t i = end - std::min<std::size_t>(end, kWindow); i < end && target == end; ++i) {
      if (nodes_.at(list[i]).stamp < nodes_.at(index).stamp) target = i;
    }
    list.insert(list.begin() + static_cast<std::ptrdiff_t>(target), index);
    return target != end;
  }

  RecencyNodes nodes_;
};

TEST_F(RecencyListTest, RandomOperationsOnTwoListsAgreeWithDeques) {
  constexpr unsigned kSeed = 20240712;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  std::mt19937 random{kSeed};
  Oracle const oracle{nodes_};
  std::array<Order, 2> expected;
  std::vector<int> where(kNodes, -1);
  int unsettled = 0;
  for (int step = 0; step < 30'000; ++step) {
    auto const index = static_cast<std::uint32_t>(random() % kNodes);
    auto const choice = random() % 8;
    if (where[index] < 0) {
      where[index] = static_cast<int>(random() % 2);
      auto const list = static_cast<std::size_t>(where[index]);
      nodes_.at(index).stamp = random() % 1000;
      if (choice < 2) {
        nodes_.push_front(lists_[list], index);
        expected[list].push_front(index);
      } else if (choice < 4) {
        nodes_.push_back(lists_[list], index);
        expected[list].push_back(index);
      } else {
        nodes_.insert_by_stamp(lists_[list], index);
        oracle.insert(expected[list], index);
      }
    } else {
      auto const list = static_cast<std::size_t>(where[index]);
      if (choice < 4) {
        nodes_.remove(lists_[list], index);
        Oracle::remove(expected[list], index);
        where[index] = -1;
      } else if (choice < 6) {
        nodes_.move_to_front(lists_[list], index);
        Oracle::remove(expected[list], index);
        expected[list].push_front(index);
      } else {
        bool const settled = nodes_.settle_back(lists_[list]);
        ASSERT_EQ(settled, oracle.settle(expected[list])) << "step " << step;
        unsettled += settled ? 0 : 1;
      }
    }
    for (std::size_t list = 0; list < 2; ++list) {
      ASSERT_EQ(order(lists_[list]), expected[list]) << "step " << step;
    }
    ASSERT_FALSE(HasFailure()) << "step " << step;
  }
  EXPECT_GT(unsettled, 100);
}

}  // namespace
}  // namespace lmcache
