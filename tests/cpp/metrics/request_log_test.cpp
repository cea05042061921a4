// SPDX-License-Identifier: Apache-2.0
#include <lmcache/metrics/request_log.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include <lmcache/base/fixed_text.hpp>

namespace lmcache::test {
namespace {

class RequestLogTest : public testing::Test {
 protected:
  [[nodiscard]] RequestLog log() { return RequestLog{std::as_writable_bytes(std::span{memory_})}; }
  void add(std::uint32_t prompt_tokens, std::string const& id = "r") {
    RequestTrace trace{.prompt_tokens = prompt_tokens};
    copy_text(trace.request_id, id);
    log().add(trace);
  }

  std::vector<std::uint64_t> memory_ =
      std::vector<std::uint64_t>(RequestLog::region_bytes() / sizeof(std::uint64_t));
};

TEST_F(RequestLogTest, IsEmptyWhenZeroed) { EXPECT_TRUE(log().read().empty()); }

TEST_F(RequestLogTest, GivesBackWhatWasAddedLatestFirst) {
  RequestTrace trace{
      .unix_s = -5, .missing_key = 7, .limit_tokens = 9, .removal = 3, .flags = kWholeChunksOnly};
  copy_text(trace.request_id, "cmpl-1");
  copy_text(trace.note, "a note");
  log().add(trace);
  add(2);
  auto const seen = log().read();
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[0].number, 1u);
  EXPECT_EQ(seen[0].prompt_tokens, 2u);
  EXPECT_EQ(seen[1].number, 0u);
  EXPECT_EQ(seen[1].unix_s, -5);
  EXPECT_EQ(seen[1].missing_key, 7u);
  EXPECT_EQ(seen[1].limit_tokens, 9u);
  EXPECT_EQ(seen[1].removal, 3u);
  EXPECT_EQ(seen[1].flags, kWholeChunksOnly);
  EXPECT_EQ(text_in(seen[1].request_id), "cmpl-1");
  EXPECT_EQ(text_in(seen[1].note), "a note");
}

TEST_F(RequestLogTest, KeepsTheLatest) {
  for (std::uint32_t i = 0; i < RequestLog::kKept + 10; ++i) add(i);
  auto const seen = log().read();
  ASSERT_EQ(seen.size(), RequestLog::kKept);
  EXPECT_EQ(seen.front().prompt_tokens, RequestLog::kKept + 9);
  EXPECT_EQ(seen.back().prompt_tokens, 10u);
}

// As a writer leaves it that is killed half-way: any one word differs.
TEST_F(RequestLogTest, PassesOverWhatDoesNotBelongTogether) {
  add(1);
  add(2);
  std::size_t const words = sizeof(RequestTrace) / 8 + 1;
  for (std::size_t word = 0; word < words; ++word) {
    auto& broken = memory_[words + word];  // of the first trace
    broken ^= 1;
    auto const seen = log().read();
    ASSERT_EQ(seen.size(), 1u) << word;
    EXPECT_EQ(seen[0].prompt_tokens, 2u);
    broken ^= 1;
  }
  EXPECT_EQ(log().read().size(), 2u);
}

// Each trace's text repeats its number: a mixture of two would show.
TEST_F(RequestLogTest, ReadersNeverSeeAMixture) {
  std::vector<std::jthread> writers;
  for (int writer = 0; writer < 4; ++writer) {
    writers.emplace_back([this, writer](std::stop_token const& stop) {
      for (std::uint32_t i = 0; !stop.stop_requested(); ++i) {
        std::uint32_t const value = i * 4 + static_cast<std::uint32_t>(writer);
        add(value, std::to_string(value));
      }
    });
  }
  for (int round = 0; round < 20; ++round) {
    for (auto const& trace : log().read()) {
      ASSERT_EQ(text_in(trace.request_id), std::to_string(trace.prompt_tokens));
    }
  }
}

TEST(OpeningHash, CoversTheFirst16TokensAndNoMore) {
  std::vector<std::uint32_t> tokens(40, 7);
  auto const hash = opening_hash(tokens);
  tokens[16] = 8;
  EXPECT_EQ(opening_hash(tokens), hash);
  tokens[15] = 8;
  EXPECT_NE(opening_hash(tokens), hash);
  EXPECT_NE(opening_hash(std::span{tokens}.first(15)), hash);
  EXPECT_NE(opening_hash({}), 0u);
}

}  // namespace
}  // namespace lmcache::test
