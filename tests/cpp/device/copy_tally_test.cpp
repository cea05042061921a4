// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/copy_tally.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace lmcache::detail {
namespace {

using Items = std::vector<std::uint32_t>;

// Item 0: 10 bytes in planes 0 and 2. Item 1: 5 bytes in plane 2. Item 2: none. Plane 1: none.
std::vector<CopyItem> three_items() {
  return {{.runs = {{.bytes = 10, .plane = 0}, {.bytes = 10, .plane = 2}}},
          {.runs = {{.bytes = 5, .plane = 2}, {.bytes = 0, .plane = 0}}},
          {}};
}

CopyPart part(std::uint32_t item, std::uint32_t plane, std::size_t bytes) {
  return {.bytes = bytes, .item = item, .plane = plane};
}

TEST(CopyTallyTest, PlanesArriveAsAPrefixAndItemsOnce) {
  CopyTally tally{3, three_items()};
  EXPECT_EQ(tally.total_bytes(), 25U);
  EXPECT_EQ(tally.progress().planes_arrived, 0U);
  Items whole;
  EXPECT_FALSE(tally.arrived(std::vector{part(1, 2, 5)}, whole));
  EXPECT_EQ(whole, Items{1});
  EXPECT_FALSE(tally.arrived(std::vector{part(0, 0, 4), part(0, 2, 10)}, whole));
  EXPECT_EQ(tally.progress().planes_arrived, 0U);  // planes 1 and 2 are there, 0 is not
  EXPECT_TRUE(tally.arrived(std::vector{part(0, 0, 6)}, whole));
  EXPECT_EQ(tally.progress().planes_arrived, 3U);
  EXPECT_EQ(whole, (Items{1, 0}));
}

TEST(CopyTallyTest, PlaneWithoutBytesHasArrivedOnceThoseBeforeItHave) {
  CopyTally tally{3, three_items()};
  Items whole;
  EXPECT_TRUE(tally.arrived(std::vector{part(0, 0, 10)}, whole));
  EXPECT_EQ(tally.progress().planes_arrived, 2U);
  EXPECT_TRUE(whole.empty());
}

TEST(CopyTallyTest, OverWhenEveryItemIsSettled) {
  CopyTally tally{3, three_items()};
  EXPECT_EQ(tally.empty_items(), Items{2});
  EXPECT_EQ(tally.pending_items(), (Items{0, 1, 2}));
  tally.settle(1, CopyStatus::kCopied);
  tally.settle(2, CopyStatus::kCopied);
  EXPECT_FALSE(tally.over());
  EXPECT_EQ(tally.pending_items(), Items{0});
  tally.settle(0, CopyStatus::kCancelled);
  EXPECT_TRUE(tally.over());
  EXPECT_TRUE(tally.progress().over);
  EXPECT_EQ(tally.status(0), CopyStatus::kCancelled);
  EXPECT_EQ(tally.status(1), CopyStatus::kCopied);
  EXPECT_EQ(tally.status(3), CopyStatus::kCancelled);  // no such item
}

TEST(CopyTallyTest, NothingToCopyIsOverAtOnce) {
  CopyTally const tally{4, {}};
  EXPECT_TRUE(tally.over());
  EXPECT_EQ(tally.progress().planes_arrived, 4U);
  EXPECT_EQ(tally.progress().plane_count, 4U);
}

}  // namespace
}  // namespace lmcache::detail
