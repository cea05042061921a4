// SPDX-License-Identifier: Apache-2.0
// A clock on which a minute passes whenever somebody looks: no pause is ever waited for.
#pragma once

#include <atomic>
#include <cstdint>

#include <lmcache/base/clock.hpp>

namespace lmcache::test {

// Thread-safe.
class HastyClock final : public Clock {
 public:
  [[nodiscard]] std::int64_t monotonic_ns() const override {
    return ns_.fetch_add(60'000'000'000) + 60'000'000'000;
  }
  [[nodiscard]] std::int64_t unix_seconds() const override { return 1'700'000'000; }

 private:
  mutable std::atomic<std::int64_t> ns_{0};
};

}  // namespace lmcache::test
