// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/load_rule.hpp>

#include <gtest/gtest.h>

namespace lmcache::test {
namespace {

constexpr std::uint64_t kMs = 1'000'000;

// 100 MB at 1 GB/s, against 1000 tokens of 200 us.
LoadEstimate estimate() {
  return {.load_bytes = 100'000'000,
          .queued_bytes = 0,
          .bytes_per_s = 1'000'000'000,
          .tokens = 1000,
          .prefill_ps_per_token = 200'000'000,
          .largest_bytes = 10'000'000};
}

TEST(LoadRule, WeighsWhatBothTake) {
  auto it = estimate();
  EXPECT_EQ(it.load_ns(), 100 * kMs);
  EXPECT_EQ(it.compute_ns(), 200 * kMs);
  EXPECT_TRUE(it.worth_it());
  it.queued_bytes = 99'000'000;
  EXPECT_TRUE(it.worth_it());
  it.queued_bytes = 100'000'000;
  EXPECT_FALSE(it.worth_it());
  it = estimate();
  it.bytes_per_s = 500'000'000;
  EXPECT_FALSE(it.worth_it());
}

TEST(LoadRule, LearnsWhereNothingWasMeasured) {
  auto it = estimate();
  it.bytes_per_s = 0;
  EXPECT_TRUE(it.worth_it());
  it = estimate();
  it.prefill_ps_per_token = 0;
  it.bytes_per_s = 1;
  EXPECT_TRUE(it.worth_it());
}

TEST(LoadRule, GivesUpOnADiskThatIsSlowerThanItWas) {
  auto const it = estimate();
  // 5 MB/s: after a twentieth of the time that computing takes, next to nothing is there.
  EXPECT_TRUE(it.keeps_pace(9 * kMs, 0));
  EXPECT_FALSE(it.keeps_pace(11 * kMs, 50'000));
  // Half is there in half the time.
  EXPECT_TRUE(it.keeps_pace(99 * kMs, 50'000'000));
  EXPECT_FALSE(it.keeps_pace(101 * kMs, 50'000'000));
}

TEST(LoadRule, WaitsForTheFirstChunkAsLongAsItMayTake) {
  auto it = estimate();
  EXPECT_TRUE(it.keeps_pace(29 * kMs, 0));
  EXPECT_FALSE(it.keeps_pace(31 * kMs, 0));
  it.queued_bytes = 90'000'000;  // but never longer than computing takes
  EXPECT_TRUE(it.keeps_pace(199 * kMs, 0));
  EXPECT_FALSE(it.keeps_pace(201 * kMs, 0));
}

TEST(LoadRule, ShortPromptsWaitTwoMilliseconds) {
  auto it = estimate();
  it.tokens = 20;  // 4 ms
  it.load_bytes = it.largest_bytes = 100'000;
  EXPECT_TRUE(it.keeps_pace(kMs, 0));
  EXPECT_FALSE(it.keeps_pace(3 * kMs, 1'000));
}

TEST(LoadRule, WaitsTenSecondsAtMostWhereNobodyKnows) {
  auto it = estimate();
  it.prefill_ps_per_token = 0;
  EXPECT_TRUE(it.keeps_pace(9'999 * kMs, 0));
  EXPECT_FALSE(it.keeps_pace(10'001 * kMs, 99'000'000));
}

TEST(LoadRule, NobodyWaitsForLongerThanATierMayTake) {
  LoadEstimate it{.load_bytes = 1000, .tokens = 100};
  EXPECT_TRUE(it.keeps_pace(5'000 * kMs, 0)) << "nothing is known";
  it.longest_ns = 200 * kMs;
  EXPECT_TRUE(it.keeps_pace(199 * kMs, 0));
  EXPECT_FALSE(it.keeps_pace(200 * kMs, 999));
}

}  // namespace
}  // namespace lmcache::test
