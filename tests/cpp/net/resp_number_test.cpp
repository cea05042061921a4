// SPDX-License-Identifier: Apache-2.0
#include "net/resp_number.hpp"

#include <gtest/gtest.h>

#include <cstdint>

namespace lmcache {
namespace {

TEST(RespNumber, Integers) {
  EXPECT_EQ(parse_resp_integer("0"), 0);
  EXPECT_EQ(parse_resp_integer("-0"), 0);
  EXPECT_EQ(parse_resp_integer("+12"), 12);
  EXPECT_EQ(parse_resp_integer("007"), 7);
  EXPECT_EQ(parse_resp_integer("9223372036854775807"), INT64_MAX);
  EXPECT_EQ(parse_resp_integer("-9223372036854775808"), INT64_MIN);
  for (char const* text : {"", "-", "+", "+-1", "-+1", "1 ", " 1", "1.0", "0x1", "1e3",
                           "9223372036854775808", "-9223372036854775809"}) {
    EXPECT_FALSE(parse_resp_integer(text)) << text;
  }
}

TEST(RespNumber, Lengths) {
  EXPECT_EQ(parse_resp_length("0"), 0u);
  EXPECT_EQ(parse_resp_length("9223372036854775807"), 9223372036854775807u);
  for (char const* text : {"", "-1", "-0", "+1", "9223372036854775808", "1a", "?"}) {
    EXPECT_FALSE(parse_resp_length(text)) << text;
  }
}

TEST(RespNumber, BigNumbers) {
  for (char const* text : {"0", "-1", "+1", "3492890328409238509324850943850943825024385"}) {
    EXPECT_TRUE(is_resp_big_number(text)) << text;
  }
  for (char const* text : {"", "-", "1.5", "1e5", "--1"}) {
    EXPECT_FALSE(is_resp_big_number(text)) << text;
  }
}

TEST(RespNumber, Doubles) {
  for (char const* text :
       {"0", "10", "-1.5", "+1.25e-10", "1E+308", "inf", "-inf", "nan", "-nan"}) {
    EXPECT_TRUE(is_resp_double(text)) << text;
  }
  for (char const* text :
       {"", "-", ".", ".5", "5.", "1e", "1e+", "e5", "infinity", "INF", "0x1p3", "1.5.5", "1 "}) {
    EXPECT_FALSE(is_resp_double(text)) << text;
  }
}

}  // namespace
}  // namespace lmcache
