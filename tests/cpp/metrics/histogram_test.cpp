// SPDX-License-Identifier: Apache-2.0
#include <lmcache/metrics/histogram.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <random>
#include <thread>
#include <vector>

namespace lmcache {
namespace {

TEST(HistogramTest, BucketsAreBitWidths) {
  EXPECT_EQ(histogram_bucket(0), 0U);
  EXPECT_EQ(histogram_bucket(1), 1U);
  EXPECT_EQ(histogram_bucket(2), 2U);
  EXPECT_EQ(histogram_bucket(3), 2U);
  EXPECT_EQ(histogram_bucket(4), 3U);
  EXPECT_EQ(histogram_bucket((std::uint64_t{1} << 46) - 1), 46U);
  EXPECT_EQ(histogram_bucket(std::uint64_t{1} << 46), kHistogramBuckets - 1);
  EXPECT_EQ(histogram_bucket(std::numeric_limits<std::uint64_t>::max()), kHistogramBuckets - 1);
}

TEST(HistogramTest, EmptyIsZero) {
  HistogramSnapshot const empty = Histogram{}.snapshot();
  EXPECT_EQ(empty.count(), 0U);
  EXPECT_EQ(empty.mean(), 0.0);
  EXPECT_EQ(empty.quantile(0.5), 0.0);
}

TEST(HistogramTest, MeanIsExact) {
  Histogram histogram;
  for (std::uint64_t const value : {10U, 20U, 60U}) histogram.record(value);
  EXPECT_EQ(histogram.snapshot().count(), 3U);
  EXPECT_DOUBLE_EQ(histogram.snapshot().mean(), 30.0);
}

TEST(HistogramTest, QuantileIsWithinAFactorOfTwo) {
  std::mt19937_64 random{1};
  std::lognormal_distribution<double> latency{10.0, 2.0};
  Histogram histogram;
  std::vector<std::uint64_t> values;
  for (int i = 0; i < 5000; ++i) {
    auto const value = static_cast<std::uint64_t>(latency(random)) + 1;
    values.push_back(value);
    histogram.record(value);
  }
  std::sort(values.begin(), values.end());
  HistogramSnapshot const snapshot = histogram.snapshot();
  double before = 0.0;
  for (double const q : {0.01, 0.1, 0.5, 0.9, 0.99, 1.0}) {
    auto const rank = static_cast<std::size_t>(q * 5000.0);
    auto const truth = static_cast<double>(values[std::max<std::size_t>(rank, 1) - 1]);
    double const told = snapshot.quantile(q);
    EXPECT_GE(told, truth / 2) << q;
    EXPECT_LE(told, truth * 2) << q;
    EXPECT_GE(told, before) << q;
    before = told;
  }
}

TEST(HistogramTest, QuantileIsClampedAndStaysInItsBucket) {
  Histogram histogram;
  for (int i = 0; i < 100; ++i) histogram.record(1000);  // bucket of 512..1023
  HistogramSnapshot const snapshot = histogram.snapshot();
  EXPECT_GE(snapshot.quantile(-1.0), 512.0);
  EXPECT_LE(snapshot.quantile(2.0), 1024.0);
}

TEST(HistogramTest, SumsAddBucketByBucket) {
  Histogram fast;
  Histogram slow;
  for (int i = 0; i < 10; ++i) fast.record(100);
  for (int i = 0; i < 30; ++i) slow.record(100'000);
  HistogramSnapshot both = fast.snapshot();
  both += slow.snapshot();
  EXPECT_EQ(both.count(), 40U);
  EXPECT_EQ(both.sum, 10U * 100 + 30U * 100'000);
  EXPECT_LT(both.quantile(0.2), 200.0);
  EXPECT_GT(both.quantile(0.5), 50'000.0);
}

TEST(HistogramTest, NoValueIsLostBetweenThreads) {
  Latencies latencies;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&latencies] {
      for (std::uint64_t i = 0; i < 5000; ++i) latencies.lookup.record(i);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(latencies.lookup.snapshot().count(), 20'000U);
  EXPECT_EQ(latencies.lookup.snapshot().sum, 4ULL * 5000 * 4999 / 2);
  EXPECT_EQ(latencies.load.snapshot().count(), 0U);
}

}  // namespace
}  // namespace lmcache
