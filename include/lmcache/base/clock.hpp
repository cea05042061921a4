// SPDX-License-Identifier: Apache-2.0
// Time comes in through constructors, so that tests can replace it.
#pragma once

#include <cstdint>

namespace lmcache {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;

  // For deadlines and durations: never steps back, and is the same in every process of a machine
  // (CLOCK_MONOTONIC), so it may lie in shared memory; it starts anew when the machine boots.
  [[nodiscard]] virtual std::int64_t monotonic_ns() const = 0;

  // For expiry that must survive a reboot: seconds since 1970 (UTC). May step.
  [[nodiscard]] virtual std::int64_t unix_seconds() const = 0;
};

class SystemClock final : public Clock {
 public:
  [[nodiscard]] std::int64_t monotonic_ns() const override;
  [[nodiscard]] std::int64_t unix_seconds() const override;
};

}  // namespace lmcache
