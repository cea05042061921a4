// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/remote/breaker.hpp>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "support/manual_clock.hpp"

namespace lmcache::test {
namespace {

using std::chrono::nanoseconds;

TEST(Breaker, BeginsOpenAndIsTriedAtOnce) {
  ManualClock const clock;
  Breaker const breaker{clock};
  EXPECT_FALSE(breaker.closed());
  EXPECT_LE(breaker.try_at_ns(), clock.monotonic_ns());
  EXPECT_EQ(breaker.times_opened(), 0u);
}

TEST(Breaker, AnAnswerClosesItAndAFailureOpensIt) {
  ManualClock const clock;
  Breaker breaker{clock};
  EXPECT_TRUE(breaker.succeeded());
  EXPECT_TRUE(breaker.closed());
  EXPECT_FALSE(breaker.succeeded()) << "it was closed before";
  EXPECT_TRUE(breaker.failed());
  EXPECT_FALSE(breaker.closed());
  EXPECT_EQ(breaker.times_opened(), 1u);
  EXPECT_EQ(breaker.try_at_ns(), Breaker::kFirstPauseNs);
}

TEST(Breaker, ConnectionsThatBreakAtOnceAreOneFailure) {
  ManualClock const clock;
  Breaker breaker{clock};
  (void)breaker.succeeded();
  EXPECT_TRUE(breaker.failed());
  for (int i = 0; i < 7; ++i) EXPECT_FALSE(breaker.failed());
  EXPECT_EQ(breaker.times_opened(), 1u);
  EXPECT_EQ(breaker.try_at_ns(), Breaker::kFirstPauseNs);
}

TEST(Breaker, PausesDoubleUpToTheLongest) {
  ManualClock clock;
  Breaker breaker{clock};
  std::int64_t expected = Breaker::kFirstPauseNs;
  for (int i = 0; i < 12; ++i) {
    EXPECT_FALSE(breaker.failed()) << "it was open before";
    EXPECT_EQ(breaker.try_at_ns() - clock.monotonic_ns(), expected);
    clock.advance(nanoseconds{breaker.try_at_ns() - clock.monotonic_ns()});
    expected = std::min(2 * expected, Breaker::kLongestPauseNs);
  }
  EXPECT_EQ(expected, Breaker::kLongestPauseNs);
  EXPECT_EQ(breaker.times_opened(), 0u);
}

TEST(Breaker, AnAnswerMakesTheNextPauseShortAgain) {
  ManualClock clock;
  Breaker breaker{clock};
  for (int i = 0; i < 5; ++i) {
    (void)breaker.failed();
    clock.advance(nanoseconds{Breaker::kLongestPauseNs});
  }
  EXPECT_TRUE(breaker.succeeded());
  EXPECT_TRUE(breaker.failed());
  EXPECT_EQ(breaker.try_at_ns() - clock.monotonic_ns(), Breaker::kFirstPauseNs);
}

TEST(Breaker, OfManyThreadsOneOpensAndOneCloses) {
  ManualClock const clock;
  for (int round = 0; round < 50; ++round) {
    Breaker breaker{clock};
    std::atomic<int> closed{0};
    std::atomic<int> opened{0};
    auto const each = [](auto const& step) {
      std::vector<std::thread> threads;
      for (int i = 0; i < 4; ++i) threads.emplace_back(step);
      for (auto& thread : threads) thread.join();
    };
    each([&] { closed += breaker.succeeded() ? 1 : 0; });
    each([&] { opened += breaker.failed() ? 1 : 0; });
    ASSERT_EQ(closed.load(), 1);
    ASSERT_EQ(opened.load(), 1);
    ASSERT_EQ(breaker.times_opened(), 1u);
  }
}

}  // namespace
}  // namespace lmcache::test
