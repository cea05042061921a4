// SPDX-License-Identifier: Apache-2.0
#include "cuda/float_bits.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "cuda/float_oracle.hpp"

namespace lmcache::detail {
namespace {

using test::nearest;

// Every sign, exponent and leading fraction, with what decides a rounding behind it, and others.
std::vector<float> many_floats() {
  std::vector<float> values;
  for (std::uint32_t top = 0; top < 0x10000; ++top) {
    for (std::uint32_t low : {0x0000u, 0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      float const value = float_of(top << 16 | low);
      if (std::isfinite(value)) values.push_back(value);
    }
  }
  std::mt19937 random{3};
  for (int i = 0; i < 300000; ++i) {
    float const value = float_of(static_cast<std::uint32_t>(random()));
    if (std::isfinite(value)) values.push_back(value);
  }
  return values;
}

TEST(FloatBits, FloatsBecomeTheNearestOfEachFormat) {
  for (float value : many_floats()) {
    ASSERT_EQ(test::fp8_value(fp8_of(value)), nearest(value, test::kFp8)) << value;
    ASSERT_EQ(float_of_float16(float16_of(value)), nearest(value, test::kFloat16)) << value;
    ASSERT_EQ(float_of_bfloat16(bfloat16_of(value)), nearest(value, test::kBfloat16)) << value;
    ASSERT_EQ(std::signbit(float_of_fp8(fp8_of(value))), std::signbit(value)) << value;
  }
}

TEST(FloatBits, EveryCodeComesBack) {
  for (std::uint32_t code = 0; code < 0x10000; ++code) {
    auto const half = static_cast<std::uint16_t>(code);
    if ((code & 0x7fff) <= 0x7c00) {
      EXPECT_EQ(float16_of(float_of_float16(half)), half);
    } else {
      EXPECT_TRUE(std::isnan(float_of_float16(half)));
    }
    if ((code & 0x7fff) <= 0x7f80) {
      EXPECT_EQ(bfloat16_of(float_of_bfloat16(half)), half);
    } else {
      EXPECT_TRUE(std::isnan(float_of_bfloat16(half)));
    }
  }
  for (std::uint32_t code = 0; code < 0x100; ++code) {
    auto const byte = static_cast<std::uint8_t>(code);
    if ((code & 0x7f) == kFp8Nan) {
      EXPECT_TRUE(std::isnan(float_of_fp8(byte)));
      continue;
    }
    EXPECT_EQ(float_of_fp8(byte), test::fp8_value(byte));
    EXPECT_EQ(fp8_of(float_of_fp8(byte)), byte);
    if (byte != 0x80) {  // -128 is never written
      EXPECT_EQ(int8_of(float_of_int8(byte)), byte);
    }
  }
}

TEST(FloatBits, Float16IsWhatItsBitsSay) {
  EXPECT_EQ(float_of_float16(0x3c00), 1.0f);
  EXPECT_EQ(float_of_float16(0x0001), 0x1p-24f);
  EXPECT_EQ(float_of_float16(0x83ff), -0x1.ff8p-15f);
  EXPECT_EQ(float_of_float16(0x7bff), 65504.0f);
  EXPECT_EQ(float_of_float16(0xfc00), -std::numeric_limits<float>::infinity());
}

TEST(FloatBits, WhatIsNotFinite) {
  float const infinity = std::numeric_limits<float>::infinity();
  float const nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(fp8_of(infinity), 0x7e);
  EXPECT_EQ(fp8_of(-infinity), 0xfe);
  EXPECT_EQ(fp8_of(nan), 0x7f);
  EXPECT_EQ(fp8_of(-nan), 0x7f);
  EXPECT_EQ(int8_of(infinity), 127);
  EXPECT_EQ(int8_of(-infinity), 0x81);
  EXPECT_EQ(int8_of(nan), 0);
  EXPECT_EQ(float16_of(infinity), 0x7c00);
  EXPECT_EQ(bfloat16_of(-infinity), 0xff80);
  EXPECT_EQ(float16_of(nan), 0x7e00);
  EXPECT_EQ(bfloat16_of(nan), 0x7fc0);
}

TEST(FloatBits, Int8RoundsToEvenAndSaturates) {
  for (float value = -130.0f; value <= 130.0f; value += 0.125f) {
    double const expected = std::nearbyint(std::fmax(-127.0, std::fmin(127.0, value)));
    EXPECT_EQ(static_cast<std::int8_t>(int8_of(value)), expected) << value;
  }
  EXPECT_EQ(int8_of(0x1.fffffep-2f), 0);  // the float before 0.5
  EXPECT_EQ(int8_of(0.5f), 0);
  EXPECT_EQ(int8_of(0x1.000002p-1f), 1);
  EXPECT_EQ(int8_of(1e30f), 127);
}

}  // namespace
}  // namespace lmcache::detail
