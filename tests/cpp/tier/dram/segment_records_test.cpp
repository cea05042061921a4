// SPDX-License-Identifier: Apache-2.0
// What lies in a segment is read by processes of other builds. Whoever changes a record raises
// kSegmentLayoutVersion and these figures with it.
#include <cstddef>

#include <gtest/gtest.h>

#include <lmcache/tier/dram/space_state.hpp>

namespace lmcache::test {
namespace {

TEST(SegmentRecords, KeepTheirSizesWithinALayoutVersion) {
  ASSERT_EQ(kSegmentLayoutVersion, 6u);
  EXPECT_EQ(sizeof(SegmentHeader), 896u);
  EXPECT_EQ(sizeof(ProcessRecord), 2240u);
  EXPECT_EQ(sizeof(ExtentRecord), 32u);
  EXPECT_EQ(sizeof(NamespaceRecord), 2408u);
  EXPECT_EQ(sizeof(ShardTable), 4160u);
  EXPECT_EQ(sizeof(Entry), 128u);
  EXPECT_EQ(sizeof(RecencyNode), 16u);
  EXPECT_EQ(sizeof(SpaceState), 3424u);
  EXPECT_EQ(RequestLog::region_bytes(), 2u << 20);
  EXPECT_EQ(sizeof(RequestTrace), 248u);
  EXPECT_EQ(RemovalTable::region_bytes(), 512u << 10);
  EXPECT_EQ(kMaxProcesses, 64u);
}

TEST(SegmentRecords, KeepTheirFieldsWithinALayoutVersion) {
  EXPECT_EQ(offsetof(SegmentHeader, space_lock), 248u);
  EXPECT_EQ(offsetof(SegmentHeader, departed), 320u);
  EXPECT_EQ(offsetof(ProcessRecord, counters), 192u);
  EXPECT_EQ(offsetof(SpaceState, classes), 32u);
}

}  // namespace
}  // namespace lmcache::test
