// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <chrono>
#include <ctime>

#include <lmcache/base/clock.hpp>

namespace lmcache {
namespace {

TEST(SystemClock, MonotonicNeverStepsBackAndMoves) {
  SystemClock const clock;
  std::int64_t const start = clock.monotonic_ns();
  std::int64_t last = start;
  for (int i = 0; i < 1000; ++i) {
    std::int64_t const now = clock.monotonic_ns();
    EXPECT_GE(now, last);
    last = now;
  }
  EXPECT_GT(last, start);
}

TEST(SystemClock, MonotonicCountsNanosecondsOfTheSharedClock) {
  // steady_clock is CLOCK_MONOTONIC in libstdc++ and libc++: equal across processes.
  auto const reference = [] {
    auto const now = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
  };
  std::int64_t const before = reference();
  std::int64_t const ours = SystemClock{}.monotonic_ns();
  EXPECT_GE(ours, before);
  EXPECT_LE(ours, reference());
}

TEST(SystemClock, UnixSecondsAreWallTime) {
  std::int64_t const before = std::time(nullptr) - 1;  // time() may read a coarser clock
  std::int64_t const now = SystemClock{}.unix_seconds();
  EXPECT_GE(now, before);
  EXPECT_LE(now, std::time(nullptr) + 1);
}

}  // namespace
}  // namespace lmcache
