// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include <lmcache/layout/prefix_window.hpp>

namespace lmcache::test {
namespace {

constexpr std::uint32_t kChunk = 8;

using Lanes = std::vector<std::vector<bool>>;  // [lane][chunk]

std::uint32_t longest(std::vector<std::uint32_t> const& windows, std::uint32_t end,
                      Lanes const& lanes) {
  return longest_prefix(windows, kChunk, end, [&](std::uint32_t lane, std::uint32_t chunk) {
    return lanes.at(lane).at(chunk);
  });
}

TEST(PrefixWindow, WithoutAWindowEverythingIsNeeded) {
  EXPECT_EQ(first_needed_chunk(0, 100, kChunk), 0u);
  EXPECT_EQ(longest({0, 0}, 21, {{}, {}}), 21u);
}

TEST(PrefixWindow, OnlyWhatItReachesIsNeeded) {
  EXPECT_EQ(first_needed_chunk(16, 16, kChunk), 0u);
  EXPECT_EQ(first_needed_chunk(16, 24, kChunk), 1u);
  EXPECT_EQ(first_needed_chunk(16, 25, kChunk), 1u);
  EXPECT_EQ(first_needed_chunk(16, 32, kChunk), 2u);
  EXPECT_EQ(first_needed_chunk(kStateWindow, 32, kChunk), 3u);
}

TEST(PrefixWindow, AGapBehindTheWindowIsNoMatter) {
  EXPECT_EQ(longest({16}, 32, {{false, false, true, true}}), 32u);
  EXPECT_EQ(longest({16}, 31, {{false, false, true, true}}), 0u);  // the second chunk's last token
  EXPECT_EQ(longest({16}, 32, {{true, false, true, true}}), 32u);
  EXPECT_EQ(longest({17}, 32, {{true, false, true, true}}), 8u);
}

TEST(PrefixWindow, AStateEndsWithItsChunk) {
  EXPECT_EQ(longest({kStateWindow}, 29, {{true, true, true, true}}), 24u);
  EXPECT_EQ(longest({kStateWindow}, 32, {{true, false, true, false}}), 24u);
  EXPECT_EQ(longest({kStateWindow}, 16, {{true, false}}), 8u);
  EXPECT_EQ(longest({kStateWindow}, 16, {{false, false}}), 0u);
}

TEST(PrefixWindow, EveryLaneMustAgree) {
  // The first lane allows 32 and 24, the second 32 and 16 (two chunks are needed of it).
  EXPECT_EQ(longest({kStateWindow, 16}, 32, {{true, true, true, false}, {true, true, false, true}}),
            16u);
  EXPECT_EQ(longest({kStateWindow, 16}, 32, {{true, false, true, true}, {true, true, false, true}}),
            8u);
}

// Against the definition, for every length from the longest down.
TEST(PrefixWindow, RandomGapsAgainstTheDefinition) {
  std::mt19937 random{7};
  for (int round = 0; round < 3000; ++round) {
    std::uint32_t const chunks = 1 + random() % 10;
    std::vector<std::uint32_t> windows;
    Lanes lanes;
    for (std::uint32_t lane = 0; lane < 1 + random() % 3; ++lane) {
      constexpr std::uint32_t kWindows[] = {0, kStateWindow, 5, 8, 16, 20, 100};
      windows.push_back(kWindows[random() % 7]);
      lanes.emplace_back();
      for (std::uint32_t chunk = 0; chunk < chunks; ++chunk) lanes.back().push_back(random() % 4);
    }
    std::uint32_t const limit = random() % (chunks * kChunk + 1);
    auto const valid = [&](std::uint32_t end) {
      for (std::size_t lane = 0; lane < windows.size(); ++lane) {
        auto const window = windows[lane];
        if (window == 0) continue;
        if (window == kStateWindow && end % kChunk != 0) return false;
        for (std::uint32_t token = end > window ? end - window : 0; token < end; ++token) {
          if (!lanes[lane][token / kChunk]) return false;
        }
      }
      return true;
    };
    auto const found = longest(windows, limit, lanes);
    EXPECT_TRUE(valid(found));
    // Between two chunks more may be possible: a prefix that ends within one. Not looked for below
    // the first gap, and not needed: nobody stores such.
    for (std::uint32_t end = limit; end > found; --end) {
      bool const looked_at = end == limit || end % kChunk == 0;
      EXPECT_FALSE(looked_at && valid(end)) << found << " " << end;
    }
  }
}

}  // namespace
}  // namespace lmcache::test
