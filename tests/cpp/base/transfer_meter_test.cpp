// SPDX-License-Identifier: Apache-2.0
#include <lmcache/base/transfer_meter.hpp>

#include <gtest/gtest.h>

#include "support/manual_clock.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint64_t kMiB = 1u << 20;

TEST(TransferMeter, CountsWhatIsOpen) {
  ManualClock clock;
  TransferMeter meter{clock};
  EXPECT_EQ(meter.open_bytes(), 0u);
  meter.begin(100);
  meter.begin(20);
  EXPECT_EQ(meter.open_bytes(), 120u);
  (void)meter.end(100);
  EXPECT_EQ(meter.open_bytes(), 20u);
  (void)meter.end(20);
  EXPECT_EQ(meter.open_bytes(), 0u);
}

TEST(TransferMeter, MeasuresWhileThereIsSomethingToDo) {
  ManualClock clock;
  TransferMeter meter{clock};
  meter.begin(8 * kMiB);
  clock.advance_seconds(2);
  auto const alone = meter.end(8 * kMiB);
  ASSERT_TRUE(alone);
  EXPECT_DOUBLE_EQ(alone->bytes_per_s, 4.0 * kMiB);
  EXPECT_EQ(alone->busy_ns, 2'000'000'000u);
  clock.advance_seconds(100);  // idle: does not count
  meter.begin(4 * kMiB);
  clock.advance_seconds(1);
  auto const next = meter.end(4 * kMiB);
  ASSERT_TRUE(next);
  EXPECT_DOUBLE_EQ(next->bytes_per_s, 4.0 * kMiB);
}

TEST(TransferMeter, LittleWhileOthersAreOpenSaysNothing) {
  ManualClock clock;
  TransferMeter meter{clock};
  for (int i = 0; i < 6; ++i) meter.begin(kMiB);
  clock.advance_seconds(1);
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(meter.end(kMiB));
  auto const enough = meter.end(kMiB);
  ASSERT_TRUE(enough);
  EXPECT_DOUBLE_EQ(enough->bytes_per_s, 4.0 * kMiB);
  clock.advance_seconds(1);
  EXPECT_FALSE(meter.end(kMiB));
  auto const last = meter.end(kMiB);
  ASSERT_TRUE(last) << "nothing else follows";
  EXPECT_DOUBLE_EQ(last->bytes_per_s, 2.0 * kMiB);
}

TEST(TransferMeter, NoTimeNoSpeed) {
  ManualClock clock;
  TransferMeter meter{clock};
  meter.begin(kMiB);
  EXPECT_FALSE(meter.end(kMiB));
}

}  // namespace
}  // namespace lmcache::test
