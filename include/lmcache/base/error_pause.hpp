// SPDX-License-Identifier: Apache-2.0
// Leaves a device alone for a while after it failed several times in a row.
#pragma once

#include <atomic>
#include <cstdint>

#include <lmcache/base/clock.hpp>

namespace lmcache {

// Thread-safe.
class ErrorPause {
 public:
  static constexpr std::uint32_t kFailures = 8;
  static constexpr std::int64_t kPauseNs = 60'000'000'000;

  explicit ErrorPause(Clock const& clock) noexcept : clock_{clock} {}

  void succeeded() noexcept { in_a_row_.store(0, std::memory_order_relaxed); }
  // True: this one began a pause.
  [[nodiscard]] bool failed() noexcept {
    if (in_a_row_.fetch_add(1, std::memory_order_relaxed) + 1 < kFailures) return false;
    in_a_row_.store(0, std::memory_order_relaxed);
    until_ns_.store(clock_.monotonic_ns() + kPauseNs, std::memory_order_relaxed);
    return true;
  }
  [[nodiscard]] bool paused() const noexcept {
    auto const until = until_ns_.load(std::memory_order_relaxed);
    return until != 0 && clock_.monotonic_ns() < until;
  }

 private:
  Clock const& clock_;
  std::atomic<std::uint32_t> in_a_row_{0};
  std::atomic<std::int64_t> until_ns_{0};
};

}  // namespace lmcache
