// SPDX-License-Identifier: Apache-2.0
#include <lmcache/index/namespace_table.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <string>

#include <lmcache/base/bytes.hpp>

#include "support/must.hpp"
#include "support/shared_memory.hpp"

namespace lmcache {
namespace {

using test::must;
using test::SharedMemory;

ChunkKey root_of(std::uint64_t number) {
  ChunkKey out;
  store_le(out.bytes.data() + 24, number);  // only the last bytes differ
  return out;
}

NamespaceOpen request_of(std::uint64_t number, std::int64_t now = 0) {
  return {.root = root_of(number),
          .model = "model",
          .description = "{}",
          .lanes = 2,
          .chunk_tokens = 256,
          .block_tokens = 16,
          .now_unix_s = now};
}

// A table in fresh memory, all of it zero, as in a new segment.
class NamespaceTableTest : public testing::Test {
 protected:
  // Namespaces 0, 1, …, opened at the times 1000, 1001, …
  void fill() {
    for (std::uint32_t i = 0; i < kMaxNamespaces; ++i) {
      ASSERT_EQ(must(table_.open(request_of(i, 1000 + i))), i);
    }
  }

  SharedMemory memory_{NamespaceTable::region_bytes()};
  NamespaceTable table_{memory_.bytes()};
};

TEST_F(NamespaceTableTest, ARecordSaysWhatItIsMadeOf) {
  auto request = request_of(5, 77);
  request.model = "org/model";
  request.description = R"({"dtype":"bfloat16"})";
  request.lanes = kMaxLanes;
  auto const& record = table_.at(must(table_.open(request)));
  EXPECT_EQ(record.root, root_of(5));
  EXPECT_NE(record.used.load(), 0U);
  EXPECT_EQ(record.used.load(), record.incarnation);
  EXPECT_EQ(record.lanes, kMaxLanes);
  EXPECT_EQ(record.chunk_tokens, 256U);
  EXPECT_EQ(record.block_tokens, 16U);
  EXPECT_EQ(record.root_children, kNoEntry);
  EXPECT_EQ(record.last_opened_unix_s, 77);
  EXPECT_STREQ(record.model.data(), "org/model");
  EXPECT_STREQ(record.description.data(), R"({"dtype":"bfloat16"})");
  EXPECT_EQ(record.entries.load(), 0U);
}

TEST_F(NamespaceTableTest, OpenedAgainItIsTheSameRecord) {
  auto const id = must(table_.open(request_of(5, 10)));
  auto& record = table_.at(id);
  auto const used = record.used.load();
  record.entries = 3;
  record.hit_tokens = 400;
  record.lane_block_bytes[1] = 4096;
  record.root_children = 9;
  EXPECT_EQ(must(table_.open(request_of(5, 20))), id);
  EXPECT_EQ(record.used.load(), used);
  EXPECT_EQ(record.last_opened_unix_s, 20);
  EXPECT_EQ(record.entries.load(), 3U);
  EXPECT_EQ(record.hit_tokens.load(), 400U);
  EXPECT_EQ(record.lane_block_bytes[1].load(), 4096U);
  EXPECT_EQ(record.root_children, 9U);
}

TEST_F(NamespaceTableTest, AnotherMappingFindsIt) {
  auto const id = must(table_.open(request_of(5)));
  (void)must(table_.open(request_of(6)));
  auto const mapping = memory_.map();
  NamespaceTable other{mapping.bytes()};
  EXPECT_EQ(must(other.open(request_of(5))), id);
  EXPECT_EQ(other.records().size(), kMaxNamespaces);
  EXPECT_EQ(other.at(id).root, root_of(5));
}

TEST_F(NamespaceTableTest, LongTextsAreCutAndEndInZero) {
  std::string const text(5000, 'x');
  auto request = request_of(1);
  request.model = text;
  request.description = text;
  auto const& record = table_.at(must(table_.open(request)));
  EXPECT_EQ(std::string{record.model.data()}, text.substr(0, record.model.size() - 1));
  EXPECT_EQ(std::string{record.description.data()}, text.substr(0, record.description.size() - 1));
}

TEST_F(NamespaceTableTest, NamesAreCutBetweenCharacters) {
  std::string const text = std::string(254, 'x') + "\u00e9";  // two bytes, one of them fits
  auto request = request_of(1);
  request.model = text;
  EXPECT_EQ(std::string{table_.at(must(table_.open(request))).model.data()}, text.substr(0, 254));
}

TEST_F(NamespaceTableTest, LanesOutOfRangeAreRefused) {
  for (std::uint32_t const lanes : {0U, kMaxLanes + 1, 0xffff'ffffU}) {
    auto request = request_of(1);
    request.lanes = lanes;
    auto const id = table_.open(request);
    ASSERT_FALSE(id) << lanes;
    EXPECT_EQ(id.error().code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(id.error().message().find(std::to_string(lanes) + " lanes"), std::string::npos);
    EXPECT_NE(id.error().message().find(std::to_string(kMaxLanes)), std::string::npos);
  }
  for (auto const& record : table_.records()) ASSERT_EQ(record.used.load(), 0U);
  for (std::uint32_t const lanes : {1U, kMaxLanes}) {
    auto request = request_of(lanes);
    request.lanes = lanes;
    EXPECT_TRUE(table_.open(request)) << lanes;
  }
}

TEST_F(NamespaceTableTest, AFreeRecordIsTakenBeforeAnyGivesWay) {
  fill();
  table_.at(700).used = 0;
  EXPECT_EQ(must(table_.open(request_of(5000, 1))), 700U);
  EXPECT_EQ(table_.at(0).root, root_of(0));
}

TEST_F(NamespaceTableTest, BehindAFreeRecordOneIsStillFound) {
  auto const first = must(table_.open(request_of(1)));
  auto const second = must(table_.open(request_of(2)));
  table_.at(first).used = 0;
  EXPECT_EQ(must(table_.open(request_of(2))), second);
  EXPECT_EQ(must(table_.open(request_of(1))), first);
}

TEST_F(NamespaceTableTest, WhenFullTheLongestUnopenedEmptyOneGivesWay) {
  fill();
  ASSERT_EQ(must(table_.open(request_of(0, 9000))), 0U);
  table_.at(1).entries = 1;
  table_.at(2).entries = 7;
  EXPECT_EQ(must(table_.open(request_of(5000, 9001))), 3U);
  EXPECT_EQ(must(table_.open(request_of(5001, 9002))), 4U);
  EXPECT_EQ(must(table_.open(request_of(1, 9003))), 1U) << "what holds chunks was given away";
  EXPECT_EQ(must(table_.open(request_of(3, 9004))), 5U) << "what gave way was found";
}

TEST_F(NamespaceTableTest, WhatGaveWayLeavesNothingBehind) {
  fill();
  auto& record = table_.at(0);
  auto const used = record.used.load();
  record.bytes = record.lookups = record.lookup_tokens = record.hit_tokens = 11;
  for (auto& bytes : record.lane_block_bytes) bytes = 4096;
  record.root_children = 4;
  auto request = request_of(5000, 9000);
  request.model = "m";
  request.description = "";
  ASSERT_EQ(must(table_.open(request)), 0U);
  EXPECT_NE(record.used.load(), used) << "a handle of the old namespace takes it for its own";
  EXPECT_NE(record.used.load(), 0U);
  for (auto const* counter : {&record.entries, &record.bytes, &record.lookups,
                              &record.lookup_tokens, &record.hit_tokens}) {
    EXPECT_EQ(counter->load(), 0U);
  }
  for (auto const& bytes : record.lane_block_bytes) EXPECT_EQ(bytes.load(), 0U);
  EXPECT_EQ(record.root_children, kNoEntry);
  EXPECT_EQ(record.model[1], '\0');
  EXPECT_EQ(record.model[2], '\0') << "of the longer name before";
  EXPECT_EQ(record.description[0], '\0');
}

TEST_F(NamespaceTableTest, IncarnationsPassOverZero) {
  auto const id = must(table_.open(request_of(1)));
  table_.at(id).used = 0;
  table_.at(id).incarnation = 0xffff'ffff;
  ASSERT_EQ(must(table_.open(request_of(2))), id);
  EXPECT_EQ(table_.at(id).used.load(), 1U);
}

TEST_F(NamespaceTableTest, FullOfChunksItRefuses) {
  fill();
  for (auto& record : table_.records()) record.entries = 1;
  auto const id = table_.open(request_of(5000));
  ASSERT_FALSE(id);
  EXPECT_EQ(id.error().code(), ErrorCode::kOutOfMemory);
  EXPECT_NE(id.error().message().find(std::to_string(kMaxNamespaces)), std::string::npos);
  EXPECT_EQ(must(table_.open(request_of(1023))), 1023U) << "one that is there can be opened";
}

TEST_F(NamespaceTableTest, RandomOpensAgreeWithAMap) {
  constexpr unsigned kSeed = 20240713;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  std::mt19937 random{kSeed};
  struct Known {
    std::uint16_t id;
    std::int64_t opened;
    bool empty;
  };
  std::map<std::uint64_t, Known> expected;
  int gave_way = 0;
  for (std::int64_t now = 1; now <= 6000; ++now) {
    std::uint64_t const number = random() % 1500;
    auto const known = expected.find(number);
    auto const id = must(table_.open(request_of(number, now)));
    if (known != expected.end()) {
      ASSERT_EQ(id, known->second.id) << "step " << now;
      known->second.opened = now;
    } else {
      if (expected.size() == kMaxNamespaces) {
        auto oldest = expected.end();
        for (auto at = expected.begin(); at != expected.end(); ++at) {
          if (!at->second.empty) continue;
          if (oldest == expected.end() || at->second.opened < oldest->second.opened) oldest = at;
        }
        ASSERT_EQ(id, oldest->second.id) << "step " << now;
        expected.erase(oldest);
        ++gave_way;
      }
      expected[number] = {id, now, true};
    }
    bool const empty = random() % 3 != 0;
    expected[number].empty = empty;
    table_.at(id).entries = empty ? 0 : 1;
  }
  EXPECT_GT(gave_way, 500);
  std::set<std::uint16_t> ids;
  for (auto const& [number, known] : expected) {
    EXPECT_EQ(table_.at(known.id).root, root_of(number));
    EXPECT_TRUE(ids.insert(known.id).second);
  }
}

}  // namespace
}  // namespace lmcache
