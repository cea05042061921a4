// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/remote/presence.hpp>

#include <chrono>
#include <optional>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "support/manual_clock.hpp"
#include "support/remote_scene.hpp"

namespace lmcache::test {
namespace {

using namespace std::chrono_literals;

class PresenceOfChunks : public testing::Test {
 protected:
  [[nodiscard]] std::optional<std::uint64_t> find(std::uint64_t number) const {
    auto const key = numbered_key(number);
    std::optional<std::uint64_t> out;
    presence.find({&key, 1}, {&out, 1});
    return out;
  }
  void remember(std::uint64_t first, std::size_t count, std::uint64_t size_bytes) {
    std::vector<ChunkKey> keys;
    for (std::size_t i = 0; i < count; ++i) keys.push_back(numbered_key(first + i));
    presence.remember(keys, std::vector<std::uint64_t>(count, size_bytes));
  }

  ManualClock clock;
  Presence presence{clock, 5000ms};
};

TEST_F(PresenceOfChunks, KnowsWhatItWasToldAndNothingElse) {
  std::vector<ChunkKey> const keys{numbered_key(1), numbered_key(2), numbered_key(3)};
  presence.remember(std::span{keys}.first(2), std::vector<std::uint64_t>{700, 0});
  std::vector<std::optional<std::uint64_t>> out(3, 9u);
  presence.find(keys, out);
  EXPECT_EQ(out[0], 700u);
  EXPECT_EQ(out[1], 0u) << "not there is an answer, too";
  EXPECT_EQ(out[2], std::nullopt);
}

TEST_F(PresenceOfChunks, BelievesAnAnswerForAWhileOnly) {
  remember(1, 1, 700);
  clock.advance(4999ms);
  EXPECT_EQ(find(1), 700u);
  clock.advance(1ms);
  EXPECT_EQ(find(1), std::nullopt);
}

TEST_F(PresenceOfChunks, TheLastWordCountsAndLastsAnew) {
  remember(1, 1, 700);
  clock.advance(4000ms);
  presence.correct(numbered_key(1), 0);
  EXPECT_EQ(find(1), 0u);
  clock.advance(4000ms);
  EXPECT_EQ(find(1), 0u);
  presence.forget_all();
  EXPECT_EQ(find(1), std::nullopt);
}

TEST_F(PresenceOfChunks, ForgetsTheOldestHalfWhenItIsFull) {
  std::size_t const half = Presence::kMost / 2;
  remember(0, half, 1);
  clock.advance(1ms);
  remember(half, Presence::kMost - half, 2);
  EXPECT_EQ(find(0), 1u);
  remember(Presence::kMost, 1, 3);
  EXPECT_EQ(find(0), std::nullopt);
  EXPECT_EQ(find(half - 1), std::nullopt);
  EXPECT_EQ(find(Presence::kMost), 3u);
}

TEST_F(PresenceOfChunks, StaysSmallHoweverMuchItIsTold) {
  for (std::uint64_t i = 0; i < 6; ++i) {
    remember(i * Presence::kMost / 2, Presence::kMost / 2, i + 1);
    clock.advance(1ms);
  }
  EXPECT_EQ(find(5 * Presence::kMost / 2), 6u);
  EXPECT_EQ(find(0), std::nullopt);
}

TEST_F(PresenceOfChunks, ThreadsMayTellAndAskAtOnce) {
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      for (std::uint64_t i = 0; i < 500; ++i) {
        remember(i % 50, 1, t + 1);
        auto const seen = find(i % 50);
        if (seen) {
          EXPECT_TRUE(*seen >= 1 && *seen <= 4) << *seen;
        }
        if (i % 100 == 99) presence.forget_all();
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace
}  // namespace lmcache::test
