// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <array>
#include <string>

#include <lmcache/base/fixed_text.hpp>

namespace lmcache {
namespace {

template <std::size_t N>
std::string round_trip(std::string_view text) {
  std::array<char, N> target;
  target.fill('#');
  copy_text(target, text);
  EXPECT_EQ(target.back(), '\0');
  std::string_view const out = text_in(target);
  for (std::size_t i = out.size(); i < N; ++i) EXPECT_EQ(target[i], '\0') << i;
  return std::string{out};
}

TEST(FixedText, KeepsWhatFits) {
  EXPECT_EQ(round_trip<8>(""), "");
  EXPECT_EQ(round_trip<8>("worker"), "worker");
  EXPECT_EQ(round_trip<8>("1234567"), "1234567");
  EXPECT_EQ(round_trip<8>("模模"), "模模");
}

TEST(FixedText, CutsWhatDoesNotFit) {
  EXPECT_EQ(round_trip<8>("12345678"), "1234567");
  EXPECT_EQ(round_trip<1>("12345678"), "");
}

TEST(FixedText, CutsBetweenCharacters) {
  EXPECT_EQ(round_trip<8>("模模模"), "模模");
  EXPECT_EQ(round_trip<10>("模模模🙂"), "模模模");
  EXPECT_EQ(round_trip<5>("ab🙂"), "ab");
  EXPECT_EQ(round_trip<3>("模"), "");
}

TEST(FixedText, EmptyTargetAndMissingEnd) {
  copy_text({}, "x");
  std::array<char, 3> const full{'a', 'b', 'c'};
  EXPECT_EQ(text_in(full), "abc");
  EXPECT_EQ(text_in({}), "");
}

}  // namespace
}  // namespace lmcache
