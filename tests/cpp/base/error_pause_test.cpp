// SPDX-License-Identifier: Apache-2.0
#include <lmcache/base/error_pause.hpp>

#include <gtest/gtest.h>

#include "support/manual_clock.hpp"

namespace lmcache::test {
namespace {

TEST(ErrorPause, BeginsWithTheEighthFailureInARowAndEnds) {
  ManualClock clock;
  ErrorPause pause{clock};
  EXPECT_FALSE(pause.paused());
  for (int i = 0; i < 7; ++i) EXPECT_FALSE(pause.failed());
  EXPECT_FALSE(pause.paused());
  EXPECT_TRUE(pause.failed());
  EXPECT_TRUE(pause.paused());
  clock.advance_seconds(59);
  EXPECT_TRUE(pause.paused());
  clock.advance_seconds(1);
  EXPECT_FALSE(pause.paused());
  for (int i = 0; i < 7; ++i) EXPECT_FALSE(pause.failed()) << "counts anew";
  EXPECT_TRUE(pause.failed());
}

TEST(ErrorPause, ASuccessInBetweenStartsTheCountAnew) {
  ManualClock clock;
  ErrorPause pause{clock};
  for (int i = 0; i < 100; ++i) {
    if (i % 7 == 0) pause.succeeded();
    EXPECT_FALSE(pause.failed());
  }
  EXPECT_FALSE(pause.paused());
}

}  // namespace
}  // namespace lmcache::test
