// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/remote/breaker.hpp>

#include <algorithm>

namespace lmcache {

bool Breaker::succeeded() noexcept {
  pause_ns_.store(0);
  return !closed_.exchange(true);
}

bool Breaker::failed() noexcept {
  bool const was_closed = closed_.exchange(false);
  // Several connections that break at once are one failure.
  auto const now = clock_.monotonic_ns();
  if (!was_closed && now < try_at_ns_.load()) return false;
  auto const pause = std::clamp(2 * pause_ns_.load(), kFirstPauseNs, kLongestPauseNs);
  pause_ns_.store(pause);
  try_at_ns_.store(now + pause);
  if (was_closed) opened_.fetch_add(1);
  return was_closed;
}

}  // namespace lmcache
