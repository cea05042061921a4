// SPDX-License-Identifier: Apache-2.0
#include <lmcache/memory/extent_table.hpp>

#include <gtest/gtest.h>

#include <random>
#include <span>
#include <vector>

namespace lmcache {
namespace {

constexpr std::uint32_t kExtents = 8;
constexpr std::uint64_t kExtentBytes = 2u << 20;
constexpr std::uint32_t kNoEntryAtAll = 0xffff'ffff;

class ExtentTableTest : public testing::Test {
 protected:
  std::vector<ExtentRecord> memory_ = std::vector<ExtentRecord>(kExtents);
  ExtentTable table_{std::as_writable_bytes(std::span{memory_}), kExtents, kExtentBytes};
};

TEST_F(ExtentTableTest, ZeroedMemoryIsATableOfFreeExtents) {
  EXPECT_EQ(table_.count(), kExtents);
  EXPECT_EQ(ExtentTable::region_bytes(kExtents), memory_.size() * sizeof(ExtentRecord));
  for (std::uint32_t extent = 0; extent < kExtents; ++extent) {
    EXPECT_EQ(table_.at(extent).size_class, 0);
    EXPECT_EQ(table_.at(extent).reserved, 0);
  }
  EXPECT_EQ(table_.find_free(kExtents), 0U);
}

TEST_F(ExtentTableTest, FreeOnesThatHaveMemoryComeFirst) {
  table_.at(5).reserved = 1;
  table_.at(3).reserved = 1;
  EXPECT_EQ(table_.find_free(kExtents), 3U);
  table_.assign(3, 1, 4096, kNoEntryAtAll);
  EXPECT_EQ(table_.find_free(kExtents), 5U);
  table_.assign(5, 1, 4096, kNoEntryAtAll);
  EXPECT_EQ(table_.find_free(kExtents), 0U);
  table_.release(3);
  EXPECT_EQ(table_.at(3).reserved, 1) << "its memory stays";
  EXPECT_EQ(table_.find_free(kExtents), 3U);
}

TEST_F(ExtentTableTest, BeyondTheUsableOnesOnlyThoseThatHaveMemory) {
  EXPECT_EQ(table_.find_free(0), kNoExtent);
  table_.assign(0, 1, 4096, kNoEntryAtAll);
  EXPECT_EQ(table_.find_free(1), kNoExtent);
  EXPECT_EQ(table_.find_free(2), 1U);
  table_.at(7).reserved = 1;
  EXPECT_EQ(table_.find_free(1), 7U);
}

TEST_F(ExtentTableTest, NoneIsFreeWhenAllAreGiven) {
  for (std::uint32_t extent = 0; extent < kExtents; ++extent) {
    ASSERT_EQ(table_.find_free(kExtents), extent);
    table_.assign(extent, 1, 4096, kNoEntryAtAll);
  }
  EXPECT_EQ(table_.find_free(kExtents), kNoExtent);
}

TEST_F(ExtentTableTest, AnAssignedOneHasAsManySlotsAsFit) {
  struct Case {
    std::uint64_t slot_bytes;
    std::uint32_t slots;
  };
  for (auto const [slot_bytes, slots] : {Case{64, 32768}, Case{4096, 512}, Case{4160, 504},
                                         Case{kExtentBytes / 2 + 64, 1}, Case{kExtentBytes, 1}}) {
    auto& record = table_.at(2);
    record.bound = record.live = 77;  // of another time
    record.first_entry = 5;
    table_.assign(2, 9, slot_bytes, kNoEntryAtAll);
    EXPECT_EQ(record.size_class, 9);
    EXPECT_EQ(record.slot_bytes, slot_bytes);
    EXPECT_EQ(record.slots, slots);
    EXPECT_EQ(record.bound, 0U);
    EXPECT_EQ(record.live, 0U);
    EXPECT_EQ(record.first_entry, kNoEntryAtAll);
    table_.release(2);
    EXPECT_EQ(record.size_class, 0);
    EXPECT_EQ(record.slots, 0U);
  }
}

TEST_F(ExtentTableTest, SlotsLieApartInsideTheirExtentAndAreFoundAgain) {
  constexpr unsigned kSeed = 20240601;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  std::mt19937 random{kSeed};
  for (int round = 0; round < 20; ++round) {
    std::uint64_t end = 0;
    for (std::uint32_t extent = 0; extent < kExtents; ++extent) {
      std::uint64_t const slot_bytes = 64 * (1 + random() % 5000);
      table_.assign(extent, 1, slot_bytes, kNoEntryAtAll);
      auto const& record = table_.at(extent);
      ASSERT_GT(record.slots, 0U);
      for (std::uint32_t slot = 0; slot < record.slots; ++slot) {
        std::uint64_t const offset = table_.slot_offset(extent, slot);
        ASSERT_GE(offset, end);
        end = offset + slot_bytes;
        ASSERT_LE(end, (extent + 1) * kExtentBytes);
        ASSERT_EQ(table_.extent_of(offset), extent);
        ASSERT_EQ(table_.slot_of(offset), slot);
        ASSERT_EQ(table_.slot_of(offset + slot_bytes - 1), slot);
      }
    }
  }
}

TEST(ExtentTable, OffsetsBeyondFourGigabytes) {
  constexpr std::uint32_t kMany = 2000;
  constexpr std::uint64_t kLarge = 256u << 20;
  std::vector<ExtentRecord> memory(kMany);
  ExtentTable const table{std::as_writable_bytes(std::span{memory}), kMany, kLarge};
  table.assign(kMany - 1, 1, kLarge / 4, kNoEntryAtAll);
  std::uint64_t const offset = table.slot_offset(kMany - 1, 3);
  EXPECT_EQ(offset, (kMany - 1) * kLarge + 3 * kLarge / 4);
  EXPECT_EQ(table.extent_of(offset), kMany - 1);
  EXPECT_EQ(table.slot_of(offset), 3U);
}

}  // namespace
}  // namespace lmcache
