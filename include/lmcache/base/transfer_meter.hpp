// SPDX-License-Identifier: Apache-2.0
// How fast a device moves bytes while it has something to do.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>

#include <lmcache/base/clock.hpp>

namespace lmcache {

// Thread-safe.
class TransferMeter {
 public:
  explicit TransferMeter(Clock const& clock) noexcept : clock_{clock} {}

  void begin(std::uint64_t size_bytes);
  struct Measured {
    double bytes_per_s;
    std::uint64_t busy_ns;
  };
  // A transfer ended. A value when enough was moved to say something about the speed.
  [[nodiscard]] std::optional<Measured> end(std::uint64_t size_bytes);
  [[nodiscard]] std::uint64_t open_bytes() const;

 private:
  Clock const& clock_;
  mutable std::mutex mutex_;  // guards what follows
  std::uint64_t open_bytes_{0};
  std::uint64_t open_{0};
  std::int64_t busy_since_ns_{0};
  std::uint64_t moved_bytes_{0};  // since then
  bool measured_{false};          // in this busy time already
};

}  // namespace lmcache
