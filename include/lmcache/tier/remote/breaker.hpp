// SPDX-License-Identifier: Apache-2.0
// Leaves a server alone after it failed: nobody waits for it, until a try of our own gets through.
// "Circuit breaker", M. Nygard, Release It!, 2007; exponential back-off as usual.
#pragma once

#include <atomic>
#include <cstdint>

#include <lmcache/base/clock.hpp>

namespace lmcache {

// Thread-safe. Begins open: a server is used once it has answered.
class Breaker {
 public:
  static constexpr std::int64_t kFirstPauseNs = 500'000'000;
  static constexpr std::int64_t kLongestPauseNs = 30'000'000'000;

  explicit Breaker(Clock const& clock) noexcept : clock_{clock} {}

  [[nodiscard]] bool closed() const noexcept { return closed_.load(std::memory_order_acquire); }
  // When the next try is due, of monotonic_ns().
  [[nodiscard]] std::int64_t try_at_ns() const noexcept { return try_at_ns_.load(); }

  // True: it was open until now.
  bool succeeded() noexcept;
  // True: it was closed until now.
  bool failed() noexcept;
  [[nodiscard]] std::uint64_t times_opened() const noexcept { return opened_.load(); }

 private:
  Clock const& clock_;
  std::atomic<bool> closed_{false};
  std::atomic<std::int64_t> pause_ns_{0};
  std::atomic<std::int64_t> try_at_ns_{0};
  std::atomic<std::uint64_t> opened_{0};
};

}  // namespace lmcache
