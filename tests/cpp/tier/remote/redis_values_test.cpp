// SPDX-License-Identifier: Apache-2.0
#include "tier/remote/redis_values.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <string>
#include <vector>

#include <lmcache/tier/remote/redis_transport.hpp>

#include "support/must.hpp"
#include "support/redis_server.hpp"
#include "support/remote_chunks.hpp"

namespace lmcache::detail {
namespace {

using namespace std::chrono_literals;
using test::chunk_key;
using test::chunk_record;
using test::must;
using test::RedisServer;

Deadline soon() { return std::chrono::steady_clock::now() + 20s; }

#define LMC_NEEDS_REDIS() \
  if (!RedisServer::is_installed()) GTEST_SKIP() << "there is no redis-server in PATH"

std::unique_ptr<RedisConnection> connect(RedisServer const& server) {
  return must(RedisConnection::open({}, {.name = "127.0.0.1", .port = server.port()}, soon()));
}

void obey(RedisConnection& connection, std::initializer_list<std::string_view> command) {
  EXPECT_FALSE(must(connection.call(command, soon())).is_error());
}

struct Got {
  ValueReply reply;
  std::vector<std::byte> slot;
};

// With a slot of `slot_bytes` that was reserved for `seed`.
Got get(RedisConnection& connection, RemoteSerde serde, std::uint64_t seed,
        std::uint64_t slot_bytes) {
  Got out{.reply = {}, .slot = std::vector<std::byte>(slot_bytes)};
  auto const reserved = chunk_record(seed, 0);
  std::memcpy(out.slot.data(), reserved.data(), sizeof(ChunkHeader));
  RespBatch batch;
  add_get(batch, chunk_key(seed));
  must(connection.send(batch, soon()));
  RemoteGet const item{.key = chunk_key(seed), .slot = out.slot.data(), .slot_bytes = slot_bytes};
  ValueReceiver value{serde, item};
  must(value.receive(connection.reader(), soon(), true));
  out.reply = value.finish();
  EXPECT_TRUE(connection.idle_ok()) << "a value is read to its end";
  return out;
}

TEST(RedisValues, ComeBackAsTheyWent) {
  LMC_NEEDS_REDIS();
  RedisServer const server;
  auto const connection = connect(server);
  for (auto const serde : {RemoteSerde::kMsgpack, RemoteSerde::kNaive}) {
    auto const record = chunk_record(7, 100'000);
    ValueHead head;
    RespBatch batch;
    add_set(batch, serde, {.key = chunk_key(7), .record = record}, 0, head);
    must(connection->send(batch, soon()));
    EXPECT_FALSE(reply_to_set(must(connection->reader().read_value(soon()))).error);
    batch.clear();
    add_get_frame(batch, serde, chunk_key(7));
    must(connection->send(batch, soon()));
    EXPECT_EQ(size_of_record(must(connection->reader().read_value(soon())), serde), record.size());

    auto const got = get(*connection, serde, 7, record.size() + 100);
    EXPECT_EQ(got.reply.outcome, TierOutcome::kDone);
    EXPECT_EQ(std::memcmp(got.slot.data() + sizeof(ChunkHeader),
                          record.data() + sizeof(ChunkHeader), record.size() - sizeof(ChunkHeader)),
              0);
    EXPECT_EQ(get(*connection, serde, 7, record.size() - 1).reply.outcome, TierOutcome::kCorrupt)
        << "it does not fit";
    EXPECT_EQ(get(*connection, serde, 8, record.size()).reply.outcome, TierOutcome::kMissing);
    // The value of another key, and a damaged one.
    auto const name = redis_key(chunk_key(7));
    obey(*connection, {"COPY", name, redis_key(chunk_key(9))});
    EXPECT_EQ(get(*connection, serde, 9, record.size()).reply.outcome, TierOutcome::kCorrupt);
    obey(*connection, {"SETRANGE", name, "50000", "damage"});
    EXPECT_EQ(get(*connection, serde, 7, record.size()).reply.outcome, TierOutcome::kCorrupt);
    obey(*connection, {"FLUSHALL"});
  }
}

TEST(RedisValues, ErrorsOfTheServerAreKept) {
  LMC_NEEDS_REDIS();
  RedisServer const server;
  auto const connection = connect(server);
  auto const name = redis_key(chunk_key(1));
  EXPECT_EQ(must(connection->call({"RPUSH", name, "x"}, soon())).integer, 1);
  auto const got = get(*connection, RemoteSerde::kMsgpack, 1, 1000);
  EXPECT_EQ(got.reply.outcome, TierOutcome::kIoError);
  EXPECT_TRUE(got.reply.error.value_or("").starts_with("WRONGTYPE"));

  RespValue error{.kind = RespValue::Kind::kError, .text = "OOM command not allowed"};
  EXPECT_EQ(reply_to_set(error).outcome, TierOutcome::kNoSpace);
  EXPECT_EQ(size_of_record(error, RemoteSerde::kMsgpack), 0u);
  EXPECT_FALSE(says_readonly(error));
  error.text = "READONLY You can't write against a read only replica.";
  EXPECT_EQ(reply_to_set(error).outcome, TierOutcome::kIoError);
  EXPECT_EQ(reply_to_set(error).error, error.text);
  EXPECT_TRUE(says_readonly(error));
  EXPECT_EQ(refused(error).code(), ErrorCode::kUnavailable);
}

TEST(RedisValues, OnlyOursAreCounted) {
  LMC_NEEDS_REDIS();
  RedisServer const server{{"--maxmemory", "100000000"}};
  auto const connection = connect(server);
  for (std::uint64_t seed = 0; seed < 1500; ++seed) {
    auto const name = redis_key(chunk_key(seed));
    ASSERT_EQ(must(connection->call({"SET", name, "x"}, soon())).text, "OK");
  }
  ASSERT_EQ(must(connection->call({"SET", "other", "x"}, soon())).text, "OK");
  std::size_t seen = 0;
  must(scan_names(*connection, soon(), [&](std::vector<std::string> const& names) -> Result<void> {
    seen += names.size();
    return {};
  }));
  EXPECT_EQ(seen, 1500u);
  for (auto const* const end : {":1", ":2", "x1", ":"}) {
    auto const name = redis_key(chunk_key(3)) + end;
    ASSERT_EQ(must(connection->call({"SET", name, "x"}, soon())).text, "OK");
  }
  PartCounts parts;
  auto const described = must(describe_server(*connection, soon(), parts));
  EXPECT_EQ(parts, (PartCounts{{chunk_key(3), 2}}));
  EXPECT_EQ(described.chunks, 1500u);
  EXPECT_EQ(described.limit_bytes, 100'000'000u);
  EXPECT_GT(described.used_bytes, 0u);
  EXPECT_EQ(described.role, "master");
  EXPECT_TRUE(described.server.starts_with("redis ") || described.server.starts_with("valkey "));
}

}  // namespace
}  // namespace lmcache::detail
