// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include <lmcache/net/redis_slots.hpp>

#include "support/must.hpp"

namespace lmcache {
namespace {

using test::must;
using Kind = RespValue::Kind;

RedisUrl::Host const kAsked{.name = "10.0.0.1", .port = 7000};

// Of redis.io/docs/reference/cluster-spec, appendix A, and its examples of hash tags.
TEST(RedisSlots, SumsAndTagsAsTheSpecificationSays) {
  EXPECT_EQ(crc16_xmodem("123456789"), 0x31C3);
  EXPECT_EQ(crc16_xmodem(""), 0);
  EXPECT_EQ(redis_slot("123456789"), 0x31C3);
  EXPECT_EQ(redis_slot("foo"), 12182);  // CLUSTER KEYSLOT foo
  EXPECT_EQ(redis_slot("bar"), 5061);
  EXPECT_EQ(redis_slot(""), 0);
  EXPECT_EQ(redis_slot("{user1000}.following"), redis_slot("{user1000}.followers"));
  EXPECT_EQ(redis_slot("{user1000}.following"), redis_slot("user1000"));
  EXPECT_EQ(redis_slot("foo{}{bar}"), crc16_xmodem("foo{}{bar}") % kRedisSlots) << "an empty tag";
  EXPECT_EQ(redis_slot("foo{{bar}}zap"), redis_slot("{bar"));
  EXPECT_EQ(redis_slot("foo{bar}{zap}"), redis_slot("bar"));
  EXPECT_EQ(redis_slot("foo{bar"), crc16_xmodem("foo{bar") % kRedisSlots) << "never closed";
  EXPECT_EQ(redis_slot("}foo{bar}"), redis_slot("bar"));
}

RespValue number(std::int64_t value) { return {.kind = Kind::kInteger, .integer = value}; }
RespValue text(std::string value) { return {.kind = Kind::kBulk, .text = std::move(value)}; }
RespValue array(std::vector<RespValue> items) {
  return {.kind = Kind::kArray, .items = std::move(items)};
}

TEST(RedisSlots, ReadsClusterSlots) {
  auto const map = must(SlotMap::parse(
      array({array({number(0), number(5460), array({text("10.0.0.2"), number(7001), text("id")}),
                    array({text("10.0.0.9"), number(7009), text("replica")})}),
             array({number(5461), number(9999), array({RespValue{}, number(7002)})}),
             array({number(10000), number(10000), array({text(""), number(7000)})}),
             array({number(10001), number(10002), array({text("?"), number(7003)})}),
             array({number(16383), number(16383), array({text("10.0.0.2"), number(7001)})})}),
      kAsked));
  ASSERT_NE(map.find(0), nullptr);
  RedisUrl::Host const second{.name = "10.0.0.2", .port = 7001};
  EXPECT_EQ(*map.find(0), second);
  EXPECT_EQ(*map.find(5460), second);
  EXPECT_EQ(*map.find(16383), second);
  EXPECT_EQ(*map.find(5461), (RedisUrl::Host{.name = "10.0.0.1", .port = 7002})) << "null: asked";
  EXPECT_EQ(*map.find(10000), kAsked);
  EXPECT_EQ(map.find(10001), nullptr) << "its name is not known";
  EXPECT_EQ(map.find(10003), nullptr) << "nobody has it";
  EXPECT_EQ(map.hosts().size(), 3u) << "no replicas";
}

TEST(RedisSlots, RefusesWhatIsNoAnswer) {
  auto const code = [](RespValue const& reply) {
    auto const map = SlotMap::parse(reply, kAsked);
    return map ? ErrorCode::kInternal : map.error().code();
  };
  auto const range = [](std::int64_t first, std::int64_t last, std::int64_t port) {
    return array({array({number(first), number(last), array({text("h"), number(port)})})});
  };
  EXPECT_EQ(code(range(0, 16383, 1)), ErrorCode::kInternal) << "that one is good";
  EXPECT_EQ(code({.kind = Kind::kError, .text = "ERR This instance has cluster support disabled"}),
            ErrorCode::kUnavailable);
  for (auto const& bad :
       {range(0, 16384, 1), range(-1, 5, 1), range(5, 4, 1), range(0, 1, 0), range(0, 1, 65536),
        text("OK"), array({number(1)}), array({array({number(1), number(2), text("h")})}),
        array({array({number(1), number(2), array({number(1), number(2)})})})}) {
    EXPECT_EQ(code(bad), ErrorCode::kCorrupted);
  }
}

TEST(RedisSlots, LearnsOneSlot) {
  SlotMap map;
  EXPECT_EQ(map.find(7), nullptr);
  map.set(7, kAsked);
  map.set(8, kAsked);
  ASSERT_NE(map.find(7), nullptr);
  EXPECT_EQ(*map.find(7), kAsked);
  EXPECT_EQ(map.hosts().size(), 1u);
}

TEST(RedisSlots, ReadsRedirects) {
  using Redirect = SlotRedirect;
  EXPECT_EQ(parse_redirect("MOVED 3999 127.0.0.1:6381", kAsked),
            (Redirect{.kind = Redirect::Kind::kMoved,
                      .slot = 3999,
                      .host = {.name = "127.0.0.1", .port = 6381}}));
  EXPECT_EQ(parse_redirect("ASK 16383 redis-1.example:6381", kAsked),
            (Redirect{.kind = Redirect::Kind::kAsk,
                      .slot = 16383,
                      .host = {.name = "redis-1.example", .port = 6381}}));
  EXPECT_EQ(parse_redirect("MOVED 1 fd00::1:6381", kAsked)->host,
            (RedisUrl::Host{.name = "fd00::1", .port = 6381}));
  EXPECT_EQ(parse_redirect("MOVED 1 :6381", kAsked)->host,
            (RedisUrl::Host{.name = "10.0.0.1", .port = 6381}));
  for (char const* const none :
       {"", "MOVED", "MOVED 1", "MOVED x 127.0.0.1:1", "MOVED 16384 127.0.0.1:1", "MOVED 1 host",
        "MOVED 1 host:", "MOVED 1 host:0", "MOVED 1 host:65536", "MOVED 1 ?:1",
        "ERR MOVED 1 127.0.0.1:1", "TRYAGAIN Multiple keys", "ASKING 1 127.0.0.1:1"}) {
    EXPECT_EQ(parse_redirect(none, kAsked), std::nullopt) << none;
  }
}

}  // namespace
}  // namespace lmcache
