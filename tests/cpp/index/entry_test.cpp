// SPDX-License-Identifier: Apache-2.0
#include <lmcache/index/entry.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <memory>

namespace lmcache {
namespace {

// A lookup reads the first cache line of an entry and no more.
static_assert(offsetof(Entry, expires_unix_s) + sizeof(std::uint32_t) <= 64);
static_assert(offsetof(Entry, valid_tokens) == 64);

ChunkKey counting_key() {
  ChunkKey key;
  for (std::size_t i = 0; i < key.bytes.size(); ++i)
    key.bytes[i] = static_cast<std::uint8_t>(i + 1);
  return key;
}

TEST(Entry, KeepsItsKeyByteByByte) {
  Entry entry{};
  EXPECT_EQ(entry.key(), ChunkKey{});
  auto const key = counting_key();
  entry.set_key(key);
  EXPECT_EQ(entry.key(), key);
  EXPECT_TRUE(entry.has_key(key));
  EXPECT_EQ(entry.key_words[0].load(), key.prefix64()) << "buckets and shards go by it";
  for (std::size_t i = 0; i < key.bytes.size(); ++i) {
    auto other = key;
    other.bytes[i] ^= 1;
    EXPECT_FALSE(entry.has_key(other)) << i;
  }
}

TEST(Entry, ExpiresAtItsSecondOrNever) {
  Entry entry{};
  EXPECT_FALSE(entry.expired(0));
  EXPECT_FALSE(entry.expired(std::int64_t{1} << 40)) << "0 = never";
  entry.expires_unix_s = 1000;
  EXPECT_FALSE(entry.expired(999));
  EXPECT_TRUE(entry.expired(1000));
  EXPECT_TRUE(entry.expired(std::int64_t{1} << 40));
  entry.expires_unix_s = ~0U;
  EXPECT_FALSE(entry.expired(2'000'000'000));
}

TEST(Entry, ZeroedMemoryIsAFreeOne) {
  Entry const entry{};
  EXPECT_EQ(entry.state.load(), EntryState::kFree);
  EXPECT_EQ(entry.size_class, 0);
  EXPECT_EQ(entry.leases.load(), 0U);
}

}  // namespace
}  // namespace lmcache
