// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>

#include <lmcache/base/json_text.hpp>

namespace lmcache {
namespace {

TEST(JsonText, QuotesAndEscapes) {
  EXPECT_EQ(json_string(""), R"("")");
  EXPECT_EQ(json_string("plain"), R"("plain")");
  EXPECT_EQ(json_string("a\"b\\c"), R"("a\"b\\c")");
  EXPECT_EQ(json_string(std::string{"\0\n\x1f\x7f", 4}), R"("\u0000\u000a\u001f\u007f")");
}

TEST(JsonText, KeepsUtf8) { EXPECT_EQ(json_string("ż模🙂"), "\"ż模🙂\""); }

TEST(JsonText, ReplacesWhatIsNotUtf8) {
  std::string const r = "\xEF\xBF\xBD";
  EXPECT_EQ(json_string("a\xFFz"), "\"a" + r + "z\"");
  EXPECT_EQ(json_string("\xC0\xAF"), "\"" + r + r + "\"");                  // overlong
  EXPECT_EQ(json_string("\xED\xA0\x80"), "\"" + r + r + r + "\"");          // surrogate
  EXPECT_EQ(json_string("\xF4\x90\x80\x80"), "\"" + r + r + r + r + "\"");  // over U+10FFFF
  EXPECT_EQ(json_string("\xE6\xA8"), "\"" + r + r + "\"");                  // ends too early
}

TEST(JsonText, CutsBetweenCharactersAndShowsIt) {
  EXPECT_EQ(json_string("abcdefgh", 10), R"("abcdefgh")");  // just fits
  EXPECT_EQ(json_string("abcdefgh", 9), R"("abcd...")");
  EXPECT_EQ(json_string("abcdefgh", 5), R"("...")");
  EXPECT_EQ(json_string("a模模模", 9), "\"a模...\"");
  EXPECT_EQ(json_string("a模模模", 8), "\"a...\"");
  EXPECT_EQ(json_string("\n\n\n", 12), R"("\u000a...")");
}

TEST(JsonText, NeverLongerThanAsked) {
  std::string const text = "a\"\n模🙂\xFFz\\end of it";
  std::size_t const whole = json_string(text).size();
  for (std::size_t limit = 5; limit <= whole + 2; ++limit) {
    std::string const out = json_string(text, limit);
    EXPECT_LE(out.size(), limit);
    EXPECT_EQ(out.front(), '"');
    EXPECT_EQ(out.back(), '"');
    EXPECT_EQ(out == json_string(text), limit >= whole) << limit;
  }
}

}  // namespace
}  // namespace lmcache
