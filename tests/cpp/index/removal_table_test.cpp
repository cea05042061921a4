// SPDX-License-Identifier: Apache-2.0
#include <lmcache/index/removal_table.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include <lmcache/base/bytes.hpp>

namespace lmcache::test {
namespace {

class RemovalTableTest : public testing::Test {
 protected:
  ChunkKey key(std::uint64_t prefix) {
    ChunkKey out;
    store_le(out.bytes.data(), prefix);
    return out;
  }

  std::vector<std::uint64_t> memory_ =
      std::vector<std::uint64_t>(RemovalTable::region_bytes() / sizeof(std::uint64_t));
  RemovalTable table_{std::as_writable_bytes(std::span{memory_})};
};

TEST_F(RemovalTableTest, KnowsWhenAndWhy) {
  EXPECT_FALSE(table_.find(key(1)));
  EXPECT_FALSE(table_.find(key(0)));  // what empty places look like
  table_.note(key(1), {.unix_s = 1000, .reason = RemovalReason::kEvicted});
  table_.note(key(2), {.unix_s = 4'000'000'000, .reason = RemovalReason::kExpired});
  EXPECT_EQ(table_.find(key(1))->unix_s, 1000u);
  EXPECT_EQ(table_.find(key(1))->reason, RemovalReason::kEvicted);
  EXPECT_EQ(table_.find(key(2))->unix_s, 4'000'000'000u);
  EXPECT_EQ(table_.find(key(2))->reason, RemovalReason::kExpired);
  EXPECT_FALSE(table_.find(key(3)));
}

TEST_F(RemovalTableTest, TheLatestRemovalOfAKeyCounts) {
  for (std::uint32_t second = 1; second < 100; ++second) {
    table_.note(key(1), {.unix_s = second, .reason = RemovalReason::kCleared});
    table_.note(key(2), {.unix_s = second, .reason = RemovalReason::kEvicted});  // same set
  }
  EXPECT_EQ(table_.find(key(1))->unix_s, 99u);
  EXPECT_EQ(table_.find(key(2))->unix_s, 99u);
}

TEST_F(RemovalTableTest, TheOldestOfASetGivesWay) {
  for (std::uint32_t i = 1; i <= 5; ++i) {
    table_.note(key(i), {.unix_s = 100 - i, .reason = RemovalReason::kEvicted});
  }
  EXPECT_FALSE(table_.find(key(4)));
  for (auto const kept : {1u, 2u, 3u, 5u}) EXPECT_TRUE(table_.find(key(kept))) << kept;
}

TEST_F(RemovalTableTest, RemembersThousands) {
  std::mt19937_64 random{1};
  std::vector<std::uint64_t> keys(20'000);
  for (std::uint32_t i = 0; i < keys.size(); ++i) {
    keys[i] = random();
    table_.note(key(keys[i]), {.unix_s = i + 1, .reason = RemovalReason::kEvicted});
  }
  std::size_t known = 0;
  for (auto const prefix : keys) known += table_.find(key(prefix)) ? 1 : 0;
  EXPECT_GT(known, keys.size() * 3 / 4);
  for (std::size_t i = keys.size() - 1000; i < keys.size(); ++i) {
    EXPECT_EQ(table_.find(key(keys[i]))->unix_s, i + 1);
  }
}

}  // namespace
}  // namespace lmcache::test
