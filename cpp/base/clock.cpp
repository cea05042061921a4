// SPDX-License-Identifier: Apache-2.0
#include <time.h>

#include <lmcache/base/clock.hpp>

namespace lmcache {
namespace {

timespec read_clock(clockid_t id) noexcept {
  timespec now{};
  ::clock_gettime(id, &now);  // cannot fail for these two clocks
  return now;
}

}  // namespace

std::int64_t SystemClock::monotonic_ns() const {
  timespec const now = read_clock(CLOCK_MONOTONIC);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

std::int64_t SystemClock::unix_seconds() const { return read_clock(CLOCK_REALTIME).tv_sec; }

}  // namespace lmcache
