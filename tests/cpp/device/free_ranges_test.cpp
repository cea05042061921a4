// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/free_ranges.hpp>

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <random>

namespace lmcache::detail {
namespace {

TEST(FreeRanges, TakesTheLowestPlaceWhereItFits) {
  FreeRanges free{1000};  // 768 usable
  EXPECT_EQ(free.take(100), 0u);
  EXPECT_EQ(free.take(256), 256u);
  EXPECT_EQ(free.take(257), std::nullopt);
  EXPECT_EQ(free.take(1), 512u);
  EXPECT_EQ(free.take(1), std::nullopt);
  EXPECT_EQ(free.take(0), std::nullopt);
  free.give_back(256, 256);
  EXPECT_EQ(free.take(200), 256u);
}

TEST(FreeRanges, JoinsWhatIsGivenBackOnBothSides) {
  FreeRanges free{4 * 256};
  for (std::uint64_t at = 0; at < 4; ++at) EXPECT_EQ(free.take(256), at * 256);
  free.give_back(0, 256);
  free.give_back(512, 256);
  EXPECT_EQ(free.take(512), std::nullopt);
  free.give_back(256, 256);
  EXPECT_EQ(free.take(768), 0u);
  free.give_back(0, 768);
  free.give_back(768, 256);
  EXPECT_EQ(free.take(1024), 0u);
}

TEST(FreeRanges, RangesThatAreTakenNeverOverlapAndAllOfItComesBack) {
  constexpr std::uint64_t kSize = 64 * 1024;
  FreeRanges free{kSize};
  std::mt19937_64 random{7};
  std::map<std::uint64_t, std::uint64_t> taken;
  for (int step = 0; step < 20'000; ++step) {
    std::uint64_t const bytes = 1 + random() % 5000;
    if (auto const begin = random() % 3 != 0 ? free.take(bytes) : std::nullopt) {
      auto const after = taken.lower_bound(*begin);
      ASSERT_TRUE(after == taken.end() || *begin + bytes <= after->first);
      if (after != taken.begin()) {
        auto const before = std::prev(after);
        ASSERT_LE(before->first + before->second, *begin);
      }
      ASSERT_LE(*begin + bytes, kSize);
      ASSERT_EQ(*begin % FreeRanges::kAlign, 0u);
      taken.emplace(*begin, bytes);
    } else if (!taken.empty()) {
      auto const gone = std::next(taken.begin(), static_cast<long>(random() % taken.size()));
      free.give_back(gone->first, gone->second);
      taken.erase(gone);
    }
  }
  for (auto const& [begin, bytes] : taken) free.give_back(begin, bytes);
  EXPECT_EQ(free.take(kSize), 0u);
}

}  // namespace
}  // namespace lmcache::detail
