// SPDX-License-Identifier: Apache-2.0
// Latencies in buckets of powers of two, in memory that any process of the node may read: no
// pointers, valid when zeroed. Bucket b counts the values of b significant bits, that is 2^(b-1) ..
// 2^b - 1.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace lmcache {

// The last bucket takes everything from 2^46 ns (19 hours) up.
inline constexpr std::size_t kHistogramBuckets = 48;

[[nodiscard]] constexpr std::size_t histogram_bucket(std::uint64_t value) noexcept {
  auto const bits = static_cast<std::size_t>(std::bit_width(value));
  return bits < kHistogramBuckets ? bits : kHistogramBuckets - 1;
}

struct HistogramSnapshot {
  std::array<std::uint64_t, kHistogramBuckets> buckets{};
  std::uint64_t sum = 0;

  HistogramSnapshot& operator+=(HistogramSnapshot const& other) noexcept;
  [[nodiscard]] std::uint64_t count() const noexcept;
  [[nodiscard]] double mean() const noexcept;  // 0 when empty
  // Value below which the fraction q (clamped to 0..1) of the values lies, interpolated inside its
  // bucket, so within a factor of two of the truth. 0 when empty.
  [[nodiscard]] double quantile(double q) const noexcept;
};

// Thread-safe, across processes.
struct Histogram {
  std::array<std::atomic<std::uint64_t>, kHistogramBuckets> buckets{};
  std::atomic<std::uint64_t> sum{};

  // Relaxed for the same reason as count(): no other memory is read on the strength of it.
  void record(std::uint64_t value) noexcept {
    buckets[histogram_bucket(value)].fetch_add(1, std::memory_order_relaxed);
    sum.fetch_add(value, std::memory_order_relaxed);
  }
  [[nodiscard]] HistogramSnapshot snapshot() const noexcept;
};

// What one process measured, in nanoseconds.
struct alignas(64) Latencies {
  Histogram lookup;
  Histogram load;
  Histogram store;
};

static_assert(std::is_standard_layout_v<Latencies>);
static_assert(std::is_trivially_destructible_v<Latencies>);

}  // namespace lmcache
