// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <array>
#include <limits>

#include <lmcache/base/bytes.hpp>

namespace lmcache {
namespace {

TEST(Bytes, LittleEndianOrderAtAnyAddress) {
  std::array<std::uint8_t, 16> raw{};
  store_le(raw.data() + 1, std::uint32_t{0x01020304});
  EXPECT_EQ(raw[1], 4);
  EXPECT_EQ(raw[4], 1);
  EXPECT_EQ(load_le<std::uint32_t>(raw.data() + 1), 0x01020304U);
  store_le(raw.data() + 3, std::uint64_t{0x1122334455667788});
  EXPECT_EQ(load_le<std::uint64_t>(raw.data() + 3), 0x1122334455667788U);
  EXPECT_EQ(load_le<std::uint16_t>(raw.data() + 3), 0x7788U);
}

TEST(Bytes, FieldsCarryTheirLength) {
  std::string a;
  append_field(a, "ab");
  append_field(a, "c");
  std::string b;
  append_field(b, "a");
  append_field(b, "bc");
  EXPECT_NE(a, b);
  EXPECT_EQ(a.size(), 8U + 2 + 8 + 1);
  EXPECT_EQ(a.substr(0, 10), (std::string{"\2\0\0\0\0\0\0\0", 8} + "ab"));
}

TEST(Bytes, Align) {
  EXPECT_EQ(align_up<std::uint64_t>(0, 4096), 0U);
  EXPECT_EQ(align_up<std::uint64_t>(1, 4096), 4096U);
  EXPECT_EQ(align_up<std::uint64_t>(4096, 4096), 4096U);
  EXPECT_EQ(align_down<std::uint64_t>(4095, 4096), 0U);
  EXPECT_EQ(align_down<std::uint64_t>(8191, 4096), 4096U);
  EXPECT_EQ(align_up<std::uint32_t>(17, 1), 17U);
}

TEST(Bytes, CheckedArithmetic) {
  constexpr auto kMax = std::numeric_limits<std::uint64_t>::max();
  EXPECT_EQ(checked_multiply(1U << 31, 1U << 31).value(), std::uint64_t{1} << 62);
  EXPECT_EQ(checked_add(kMax - 1, 1).value(), kMax);
  auto const product = checked_multiply(kMax, 2);
  ASSERT_FALSE(product);
  EXPECT_EQ(product.error().code(), ErrorCode::kInvalidArgument);
  EXPECT_NE(product.error().message().find("18446744073709551615 * 2"), std::string::npos);
  EXPECT_FALSE(checked_add(kMax, 1));
}

TEST(Bytes, HexBothWays) {
  std::array<std::uint8_t, 4> const bytes{0x00, 0x7f, 0xa5, 0xff};
  EXPECT_EQ(to_hex(bytes), "007fa5ff");
  EXPECT_EQ(to_hex({}), "");
  std::array<std::uint8_t, 4> back{};
  ASSERT_TRUE(from_hex("007FA5ff", back));
  EXPECT_EQ(back, bytes);
}

TEST(Bytes, HexRefusesWrongText) {
  std::array<std::uint8_t, 2> out{};
  auto const length = from_hex("abc", out);
  ASSERT_FALSE(length);
  EXPECT_NE(length.error().message().find("3 digits, expected 4"), std::string::npos);
  auto const digit = from_hex("ab0g", out);
  ASSERT_FALSE(digit);
  EXPECT_NE(digit.error().message().find("position 3"), std::string::npos);
  EXPECT_FALSE(from_hex("x000", out));
}

TEST(Bytes, SizesForPeople) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1024), "1 KiB");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_bytes((1ULL << 20) - 1), "1023.9 KiB");  // never shown larger than it is
  EXPECT_EQ(format_bytes(20ULL << 30), "20 GiB");
  EXPECT_EQ(format_bytes(std::numeric_limits<std::uint64_t>::max()), "15.9 EiB");
}

}  // namespace
}  // namespace lmcache
