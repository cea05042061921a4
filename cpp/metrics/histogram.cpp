// SPDX-License-Identifier: Apache-2.0
#include <lmcache/metrics/histogram.hpp>

#include <algorithm>
#include <cmath>

namespace lmcache {
namespace {

// Bucket b holds [low(b), low(b + 1)): 0, 1, 2..3, 4..7, ...
double low(std::size_t bucket) {
  return bucket == 0 ? 0.0 : std::ldexp(1.0, static_cast<int>(bucket) - 1);
}

}  // namespace

HistogramSnapshot& HistogramSnapshot::operator+=(HistogramSnapshot const& other) noexcept {
  for (std::size_t b = 0; b < kHistogramBuckets; ++b) buckets[b] += other.buckets[b];
  sum += other.sum;
  return *this;
}

std::uint64_t HistogramSnapshot::count() const noexcept {
  std::uint64_t total = 0;
  for (std::uint64_t const n : buckets) total += n;
  return total;
}

double HistogramSnapshot::mean() const noexcept {
  std::uint64_t const total = count();
  return total == 0 ? 0.0 : static_cast<double>(sum) / static_cast<double>(total);
}

double HistogramSnapshot::quantile(double q) const noexcept {
  std::uint64_t const total = count();
  if (total == 0) return 0.0;
  double const rank = std::clamp(q, 0.0, 1.0) * static_cast<double>(total);
  double before = 0.0;
  std::size_t last = 0;
  for (std::size_t b = 0; b < kHistogramBuckets; ++b) {
    if (buckets[b] == 0) continue;
    auto const here = static_cast<double>(buckets[b]);
    if (rank <= before + here) return low(b) + (low(b + 1) - low(b)) * (rank - before) / here;
    before += here;
    last = b;
  }
  return low(last + 1);  // rounding in the sums only
}

HistogramSnapshot Histogram::snapshot() const noexcept {
  HistogramSnapshot copy;
  for (std::size_t b = 0; b < kHistogramBuckets; ++b) {
    copy.buckets[b] = buckets[b].load(std::memory_order_relaxed);
  }
  copy.sum = sum.load(std::memory_order_relaxed);
  return copy;
}

}  // namespace lmcache
