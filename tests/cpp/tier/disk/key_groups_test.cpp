// SPDX-License-Identifier: Apache-2.0
#include "tier/disk/key_groups.hpp"

#include <random>
#include <set>
#include <utility>

#include <gtest/gtest.h>

namespace lmcache::test {
namespace {

using Pairs = std::set<std::pair<std::uint32_t, std::uint32_t>>;

ChunkKey key_of(std::uint64_t prefix) {
  ChunkKey key;
  store_le(key.bytes.data(), prefix);
  return key;
}

Pairs pairs_of(detail::KeyGroups const& groups) {
  Pairs out;
  groups.for_each_pair([&](std::uint32_t a, std::uint32_t b) { out.emplace(a, b); });
  return out;
}

TEST(KeyGroupsOf, ManyKeysTellWhichAreThereTwiceOrMore) {
  std::mt19937_64 random{1};
  detail::KeyGroups groups{1000};
  std::vector<std::uint64_t> prefixes;
  for (std::uint32_t number = 0; number < 100'000; ++number) {
    prefixes.push_back(random());
    groups.add(key_of(prefixes.back()), number);
  }
  groups.add(key_of(prefixes[7]), 100'000);
  groups.add(key_of(prefixes[99'999]), 100'001);
  groups.add(key_of(prefixes[7]), 100'002);
  EXPECT_EQ(pairs_of(groups),
            (Pairs{{7, 100'000}, {7, 100'002}, {100'000, 100'002}, {99'999, 100'001}}));
}

TEST(KeyGroupsOf, KeysThatDifferInTheirFirst44BitsAreNoPair) {
  detail::KeyGroups groups{0};
  for (int bit = 20; bit < 64; ++bit) {
    groups.add(key_of(std::uint64_t{1} << bit), static_cast<std::uint32_t>(bit));
  }
  EXPECT_TRUE(pairs_of(groups).empty());
}

TEST(KeyGroupsOf, NothingHasNoPairs) { EXPECT_TRUE(pairs_of(detail::KeyGroups{0}).empty()); }

}  // namespace
}  // namespace lmcache::test
