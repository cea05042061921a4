// SPDX-License-Identifier: Apache-2.0
#include "tier/remote/remote_worker.hpp"

#include <malloc.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "support/cutting_proxy.hpp"
#include "support/hasty_clock.hpp"
#include "support/log_lines.hpp"
#include "support/remote_scene.hpp"

namespace lmcache::test {
namespace {

using Direction = CuttingProxy::Direction;

constexpr std::uint64_t kPayload = 60;
constexpr std::uint64_t kSlot = 1024;

std::string name_of(Direction direction) {
  return direction == Direction::kToServer ? "to the server" : "to the client";
}

class RemoteWorker : public testing::Test {
 protected:
  void SetUp() override {
    LMC_NEEDS_REDIS();
    server = std::make_unique<RedisServer>();
    raw = std::make_unique<RawRedis>(*server);
  }
  [[nodiscard]] std::unique_ptr<RemoteTier> open(std::string const& url, RemoteSerde serde,
                                                 std::uint32_t connections = 1) {
    return must(RemoteTier::open({.connections = connections},
                                 redis_transport(must(parse_redis_url(url)), serde), clock, {}));
  }

  HastyClock const clock;
  std::unique_ptr<RedisServer> server;
  std::unique_ptr<RawRedis> raw;
};

// Written, asked for and read over a connection that breaks: what is said to be there and right is.
struct Exchange {
  std::optional<TierOutcome> written;
  std::optional<TierOutcome> read;
  bool asked = false;
};
Exchange exchange(RemoteTier& tier, RecordBytes const& record, RecordBytes& slot) {
  Exchange out;
  out.written = write_to(tier, 1, record);
  out.asked = ask_of(tier, {numbered_key(1), numbered_key(2)});
  out.read = read_from(tier, 1, slot);
  return out;
}

TEST_F(RemoteWorker, AConnectionCutAnywhereNeverHangsAndNeverLies) {
  auto const record = make_record(1, kPayload);
  auto const expected = as_it_arrives(record);
  for (auto const serde : {RemoteSerde::kMsgpack, RemoteSerde::kNaive}) {
    for (auto const direction : {Direction::kToServer, Direction::kToClient}) {
      CuttingProxy proxy{server->socket_path()};
      raw->call({"FLUSHALL"});
      std::uint64_t last = 0;
      {
        auto const tier = open(proxy.url(), serde);
        ASSERT_TRUE(comes_to_be([&] { return tier->usable(); }));
        auto slot = make_slot(1, kSlot);
        auto const whole = exchange(*tier, record, slot);
        ASSERT_EQ(whole.written, TierOutcome::kDone);
        ASSERT_EQ(whole.read, TierOutcome::kDone);
        last = proxy.longest_bytes(direction);
        ASSERT_GT(last, record.size());
      }
      std::size_t read = 0;
      for (std::uint64_t n = 0; n <= last; ++n) {
        proxy.cut_after(direction, n);
        raw->call({"FLUSHALL"});
        auto tier = open(proxy.url(), serde);
        ASSERT_TRUE(comes_to_be([&] { return tier->usable() || tier->status().failures != 0; }))
            << name_of(direction) << ", " << n;
        auto slot = make_slot(1, kSlot);
        auto const seen = exchange(*tier, record, slot);
        ASSERT_TRUE(seen.written && seen.read && seen.asked) << name_of(direction) << ", " << n;
        if (*seen.read == TierOutcome::kDone) {
          ++read;
          ASSERT_TRUE(begins_with(slot, expected)) << name_of(direction) << ", " << n;
        }
        ASSERT_TRUE(tier->drain(kLongTime)) << name_of(direction) << ", " << n;
        auto const there = raw->get(1);
        if (*seen.written == TierOutcome::kDone) {
          ASSERT_EQ(there.size(), frame_bytes(serde) + record.size())
              << name_of(direction) << ", " << n;
        }
      }
      EXPECT_GT(read, 0u) << "the last of them have room for a read";
    }
  }
}

TEST_F(RemoteWorker, ABrokenConnectionIsTriedOnceMoreOnANewOne) {
  auto const record = make_record(1, kPayload);
  auto const tier = open(server->socket_url(), RemoteSerde::kNaive);
  ASSERT_TRUE(comes_to_be([&] { return tier->usable(); }));
  for (int i = 0; i < 20; ++i) {
    raw->call({"FLUSHALL"});
    raw->call({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"});
    ASSERT_EQ(write_to(*tier, 1, record), TierOutcome::kDone);
  }
  EXPECT_EQ(tier->status().failures, 0u);
}

// The parts of a large chunk that came before a connection broke for good.
TEST_F(RemoteWorker, WhatAFailedWriteLeftIsTakenBackOnTheNextConnection) {
  CuttingProxy proxy{server->socket_path()};
  auto const record = make_record(1, 2 * kRemotePartBytes + 1000);
  auto const tier = open(proxy.url(), RemoteSerde::kNaive);
  ASSERT_TRUE(comes_to_be([&] { return tier->usable(); }));
  proxy.cut_after(Direction::kToServer, kRemotePartBytes + kRemotePartBytes / 2);
  EXPECT_EQ(write_to(*tier, 1, record), TierOutcome::kClosed);
  proxy.cut_after(Direction::kToServer, CuttingProxy::kNever);
  EXPECT_TRUE(comes_to_be([&] { return tier->usable(); }));
  EXPECT_TRUE(comes_to_be([&] { return raw->call({"DBSIZE"}).integer == 0; }));
  auto const part = redis_key(numbered_key(1)) + ":1";
  EXPECT_EQ(write_to(*tier, 1, record), TierOutcome::kDone);
  EXPECT_EQ(raw->call({"TTL", part}).integer, -1);
  // It was to expire until the first part was on its way.
  auto const used = raw->call({"INFO", "commandstats"}).text;
  EXPECT_NE(used.find("cmdstat_persist"), std::string::npos);
}

TEST_F(RemoteWorker, WhatFindsNoRoomLeavesNoParts) {
  auto const record = make_record(1, 8 * kRemotePartBytes);
  auto const tier = open(server->socket_url(), RemoteSerde::kNaive);
  ASSERT_TRUE(comes_to_be([&] { return tier->usable(); }));
  raw->call({"CONFIG", "SET", "maxmemory-policy", "noeviction"});
  raw->call({"CONFIG", "SET", "maxmemory", "24mb"});
  EXPECT_EQ(write_to(*tier, 1, record), TierOutcome::kNoSpace);
  EXPECT_TRUE(tier->drain(kLongTime));
  EXPECT_EQ(raw->call({"DBSIZE"}).integer, 0);
  EXPECT_TRUE(tier->usable());
}

// A command that the server refuses ends neither the connection nor the use of the server.
TEST_F(RemoteWorker, WhatTheServerRefusesIsAnErrorOfThatItem) {
  raw->call({"ACL", "SETUSER", "default", "-set"});
  auto const tier = open(server->socket_url(), RemoteSerde::kNaive);
  ASSERT_TRUE(comes_to_be([&] { return tier->usable(); }));
  EXPECT_EQ(write_to(*tier, 1, make_record(1, kPayload)), TierOutcome::kIoError);
  EXPECT_TRUE(tier->usable());
  EXPECT_EQ(tier->status().failures, 0u);
}

// Servers that talk something else, or nothing, are left alone.
TEST_F(RemoteWorker, WhoeverTalksSomethingElseIsLeftAlone) {
  CuttingProxy proxy{server->socket_path()};
  proxy.cut_after(Direction::kToClient, 1);
  auto const tier = open(proxy.url(), RemoteSerde::kNaive);
  ASSERT_TRUE(comes_to_be([&] { return tier->status().failures >= 20; }));
  EXPECT_FALSE(tier->usable());
  proxy.cut_after(Direction::kToClient, CuttingProxy::kNever);
  EXPECT_TRUE(comes_to_be([&] { return tier->usable(); }));
}

TEST_F(RemoteWorker, AThousandFailuresCostNoMemory) {
  auto const url = server->url();
  server->kill();
  auto const tier = open(url, RemoteSerde::kMsgpack, 4);
  auto const descriptors = [] {
    return std::distance(std::filesystem::directory_iterator{"/proc/self/fd"},
                         std::filesystem::directory_iterator{});
  };
  ASSERT_TRUE(comes_to_be([&] { return tier->status().failures >= 200; }));
  auto const files = descriptors();
  auto const bytes = ::mallinfo2().uordblks;
  ASSERT_TRUE(comes_to_be([&] { return tier->status().failures >= 1200; }));
  EXPECT_LE(descriptors(), files + 2) << "an attempt may be under way";
  EXPECT_LE(::mallinfo2().uordblks, bytes + (64u << 10));
}

// The server goes away and comes back while others write, ask and read.
TEST_F(RemoteWorker, ManyRestartsLoseNothingButWhatTheServerLost) {
  auto const tier = open(server->socket_url(), RemoteSerde::kMsgpack, 3);
  for (std::uint64_t round = 0; round < 5; ++round) {
    ASSERT_TRUE(comes_to_be([&] { return tier->usable(); }));
    constexpr std::size_t kCount = 60;
    std::vector<RecordBytes> records;
    std::vector<RecordBytes> slots;
    for (std::size_t i = 0; i < kCount; ++i) {
      records.push_back(make_record(i, kPayload));
      slots.push_back(make_slot(i, kSlot));
    }
    Answers writes{kCount};
    Answers reads{kCount};
    std::uint64_t const size = kSlot;
    for (std::size_t i = 0; i < kCount; ++i) {
      tier->write(put_of(i, records[i]), [&writes, i](auto it) { writes.set(i, it); });
      tier->read({get_of(i, slots[i])}, {&size, 1},
                 [&reads, i](auto, auto it) { reads.set(i, it); });
      if (i == 10 + round * 10) server->kill();
    }
    ASSERT_TRUE(writes.wait());
    ASSERT_TRUE(reads.wait());
    for (std::size_t i = 0; i < kCount; ++i) {
      if (reads.of(i) == TierOutcome::kDone) {
        EXPECT_TRUE(begins_with(slots[i], as_it_arrives(records[i]))) << i;
      }
    }
    EXPECT_TRUE(tier->drain(kLongTime));
    server->restart();
  }
}

}  // namespace
}  // namespace lmcache::test
