// SPDX-License-Identifier: Apache-2.0
// When bytes may go so that no more than a given rate do.
#pragma once

#include <algorithm>
#include <cstdint>

namespace lmcache::detail {

// The bucket holds burst_bytes and fills at bytes_per_second. It is kept as the time at which it
// will be full again (the "virtual scheduling" of ITU-T I.371), so that nothing is counted while
// time passes. Externally synchronised.
class TokenBucket {
 public:
  TokenBucket(std::uint64_t bytes_per_second, std::uint64_t burst_bytes) noexcept
      : ns_per_byte_{1e9 / static_cast<double>(bytes_per_second)},
        burst_ns_{cost_ns(burst_bytes)} {}

  // When `size_bytes` that are asked for now may go. More than the bucket holds is let go when it
  // is full, and owed for afterwards. `now_ns` never steps back.
  [[nodiscard]] std::int64_t take(std::uint64_t size_bytes, std::int64_t now_ns) noexcept {
    full_ns_ = std::max(full_ns_, now_ns);
    std::int64_t const cost = cost_ns(size_bytes);
    full_ns_ += cost;
    return std::max(now_ns, full_ns_ - std::max(burst_ns_, cost));
  }

 private:
  [[nodiscard]] std::int64_t cost_ns(std::uint64_t size_bytes) const noexcept {
    return static_cast<std::int64_t>(static_cast<double>(size_bytes) * ns_per_byte_);
  }

  double const ns_per_byte_;
  std::int64_t const burst_ns_;
  std::int64_t full_ns_ = 0;
};

}  // namespace lmcache::detail
