// SPDX-License-Identifier: Apache-2.0
// A clock that stands still until a test moves it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include <lmcache/base/clock.hpp>

namespace lmcache::test {

// Thread-safe.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(std::int64_t unix_seconds = 1'700'000'000) : unix_seconds_{unix_seconds} {}

  void advance_seconds(std::int64_t seconds) {
    unix_seconds_ += seconds;
    monotonic_ns_ += seconds * 1'000'000'000;
  }

  void advance(std::chrono::nanoseconds by) { monotonic_ns_ += by.count(); }

  [[nodiscard]] std::int64_t monotonic_ns() const override { return monotonic_ns_; }
  [[nodiscard]] std::int64_t unix_seconds() const override { return unix_seconds_; }

 private:
  std::atomic<std::int64_t> unix_seconds_;
  std::atomic<std::int64_t> monotonic_ns_{0};
};

}  // namespace lmcache::test
