// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <type_traits>
#include <unordered_set>

#include <lmcache/key/chunk_key.hpp>

namespace lmcache {
namespace {

static_assert(std::is_trivially_copyable_v<ChunkKey>);
static_assert(std::is_standard_layout_v<ChunkKey>);

ChunkKey key_of(std::uint8_t first, std::uint8_t last) {
  ChunkKey key;
  key.bytes.front() = first;
  key.bytes.back() = last;
  return key;
}

TEST(ChunkKey, ComparesAllBytes) {
  EXPECT_EQ(key_of(1, 2), key_of(1, 2));
  EXPECT_NE(key_of(1, 2), key_of(1, 3));
  EXPECT_NE(key_of(1, 2), key_of(0, 2));
  EXPECT_LT(key_of(1, 9), key_of(2, 0));
}

TEST(ChunkKey, XorIsItsOwnInverse) {
  ChunkKey const a = key_of(0xF0, 0x0F);
  ChunkKey const mask = key_of(0xFF, 0x01);
  EXPECT_EQ(a ^ mask, key_of(0x0F, 0x0E));
  EXPECT_EQ((a ^ mask) ^ mask, a);
  EXPECT_EQ(a ^ a, ChunkKey{});
}

TEST(ChunkKey, HexShowsAllBytesInOrder) {
  EXPECT_EQ(to_hex(key_of(0xAB, 0x01)), "ab" + std::string(60, '0') + "01");
}

TEST(ChunkKey, HashIsTheFirstEightBytes) {
  ChunkKey key;
  for (std::size_t i = 0; i < 9; ++i) key.bytes[i] = static_cast<std::uint8_t>(i + 1);
  EXPECT_EQ(ChunkKeyHash{}(key), 0x0807060504030201U);
  std::unordered_set<ChunkKey, ChunkKeyHash> set{key_of(0, 1), key_of(0, 2), key_of(0, 1)};
  EXPECT_EQ(set.size(), 2U);
}

}  // namespace
}  // namespace lmcache
