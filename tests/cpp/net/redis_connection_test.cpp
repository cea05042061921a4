// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <lmcache/net/redis_connection.hpp>

#include "support/must.hpp"
#include "support/redis_server.hpp"
#include "support/scripted_stream.hpp"

namespace lmcache {
namespace {

using namespace std::chrono_literals;
using test::must;
using test::RedisServer;
using test::ScriptedStream;

Deadline in(std::chrono::milliseconds time) { return std::chrono::steady_clock::now() + time; }
Deadline soon() { return in(20s); }

// Without parse_redis_url(), which has tests of its own.
RedisUrl by_socket(RedisServer const& server) {
  RedisUrl url;
  url.scheme = "unix";
  url.socket_path = server.socket_path();
  return url;
}

RedisUrl by_port(RedisServer const& server) {
  RedisUrl url;
  url.scheme = "redis";
  url.hosts = {{.name = "127.0.0.1", .port = server.port()}};
  return url;
}

RedisUrl with_password(RedisUrl url, std::string user, std::string password) {
  url.user = std::move(user);
  url.password = std::move(password);
  return url;
}

Result<std::unique_ptr<RedisConnection>> open(RedisUrl const& url) {
  return RedisConnection::open(url, url.hosts.empty() ? RedisUrl::Host{} : url.hosts[0], soon());
}

#define LMC_NEEDS_REDIS() \
  if (!RedisServer::is_installed()) GTEST_SKIP() << "there is no redis-server in PATH"

TEST(RedisConnection, SpeaksResp3ByPortAndBySocket) {
  LMC_NEEDS_REDIS();
  RedisServer const server;
  for (RedisUrl const& url : {by_port(server), by_socket(server)}) {
    auto const connection = must(open(url));
    EXPECT_EQ(connection->protocol(), 3);
    EXPECT_EQ(must(connection->call({"PING"}, soon())).text, "PONG");
    EXPECT_EQ(must(connection->call({"CLIENT", "GETNAME"}, soon())).text, "lmcache");
    auto const map = must(connection->call({"CONFIG", "GET", "databases"}, soon()));
    EXPECT_EQ(map.kind, RespValue::Kind::kMap);
    auto const nothing = must(connection->call({"GET", "nothing"}, soon()));
    EXPECT_EQ(nothing.kind, RespValue::Kind::kNull);
    auto const error = must(connection->call({"GET"}, soon()));
    EXPECT_TRUE(error.is_error());
    EXPECT_EQ(must(connection->call({"PING"}, soon())).text, "PONG")
        << "an error reply ends nothing";
    EXPECT_TRUE(connection->idle_ok());
  }
}

TEST(RedisConnection, MovesLargeValuesInPieces) {
  LMC_NEEDS_REDIS();
  RedisServer const server;
  std::string first(3 << 20, 'a');
  std::string const second(1 << 20, 'b');
  for (std::size_t i = 0; i < first.size(); ++i) first[i] = static_cast<char>(i * 7 + (i >> 9));
  for (RedisUrl const& url : {by_port(server), by_socket(server)}) {
    auto const connection = must(open(url));
    RespBatch batch;
    for (char const* key : {"one", "two"}) {
      batch.begin(3).arg("SET").arg(key).arg_pieces(
          {std::as_bytes(std::span{first}), std::as_bytes(std::span{second})});
    }
    must(connection->send(batch, soon()));
    for (std::size_t i = 0; i < batch.commands(); ++i) {
      EXPECT_EQ(must(connection->reader().read_value(soon())).text, "OK");
    }
    batch.clear();
    batch.begin(2).arg("GET").arg("one").begin(2).arg("GET").arg("none").begin(2).arg("GET").arg(
        "two");
    must(connection->send(batch, soon()));
    RespReader& reader = connection->reader();
    for (bool const there : {true, false, true}) {
      auto const header = must(reader.read_bulk_header(soon()));
      ASSERT_EQ(header.present, there);
      if (!there) continue;
      ASSERT_EQ(header.size_bytes, first.size() + second.size());
      std::string got_first(first.size(), '?');
      std::string got_second(second.size(), '?');
      must(reader.read_into(std::as_writable_bytes(std::span{got_first}), soon()));
      must(reader.read_into(std::as_writable_bytes(std::span{got_second}), soon()));
      must(reader.end_bulk(soon()));
      EXPECT_TRUE(got_first == first && got_second == second);
    }
    EXPECT_TRUE(connection->idle_ok());
  }
}

TEST(RedisConnection, SelectsADatabase) {
  LMC_NEEDS_REDIS();
  RedisServer const server;
  RedisUrl url = by_socket(server);
  auto const zero = must(open(url));
  url.database = 3;
  auto const three = must(open(url));
  EXPECT_EQ(must(three->call({"SET", "key", "value"}, soon())).text, "OK");
  EXPECT_EQ(must(zero->call({"DBSIZE"}, soon())).integer, 0);
  EXPECT_EQ(must(three->call({"DBSIZE"}, soon())).integer, 1);
  url.database = 99;
  auto const none = open(url);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code(), ErrorCode::kInvalidArgument);
  EXPECT_NE(none.error().message().find("SELECT 99: the server says: ERR DB index"),
            std::string::npos)
      << none.error().message();
}

void expect_refused(RedisUrl const& url, std::string const& text) {
  auto const refused = open(url);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kInvalidArgument);
  EXPECT_NE(refused.error().message().find(text), std::string::npos) << refused.error().message();
  if (url.password.empty()) return;
  EXPECT_EQ(refused.error().message().find(url.password), std::string::npos);
}

TEST(RedisConnection, LogsInOrSaysWhyNot) {
  LMC_NEEDS_REDIS();
  RedisServer const server{
      {"--requirepass", "sesame", "--user", "kv", "on", ">hunter2", "~*", "+@all"}};
  RedisUrl const url = by_port(server);
  for (auto const& good :
       {with_password(url, "", "sesame"), with_password(url, "default", "sesame"),
        with_password(url, "kv", "hunter2")}) {
    auto const connection = must(open(good));
    EXPECT_EQ(must(connection->call({"PING"}, soon())).text, "PONG");
    auto const who = must(connection->call({"ACL", "WHOAMI"}, soon()));
    EXPECT_EQ(who.text, good.user.empty() ? "default" : good.user);
  }
  expect_refused(url, "NOAUTH");
  expect_refused(with_password(url, "", "open"), "WRONGPASS");
  expect_refused(with_password(url, "kv", "sesame"), "WRONGPASS");
}

TEST(RedisConnection, SpeaksResp2ToServersWithoutHello) {
  LMC_NEEDS_REDIS();
  RedisServer const server{{"--requirepass", "sesame", "--rename-command", "HELLO", ""}};
  RedisUrl const url = by_socket(server);
  RedisUrl good = with_password(url, "", "sesame");
  good.database = 1;
  auto const connection = must(open(good));
  EXPECT_EQ(connection->protocol(), 2);
  EXPECT_EQ(must(connection->call({"GET", "nothing"}, soon())).kind, RespValue::Kind::kNull);
  EXPECT_EQ(must(connection->call({"CONFIG", "GET", "databases"}, soon())).kind,
            RespValue::Kind::kArray);
  EXPECT_TRUE(open(with_password(url, "default", "sesame")));
  expect_refused(url, "NOAUTH");
  expect_refused(with_password(url, "", "open"), "WRONGPASS");
  expect_refused(with_password(url, "nobody", "sesame"), "WRONGPASS");
}

TEST(RedisConnection, NoticesThatThePeerIsGone) {
  LMC_NEEDS_REDIS();
  RedisServer server;
  for (RedisUrl const& url : {by_port(server), by_socket(server)}) {
    auto const connection = must(open(url));
    EXPECT_TRUE(connection->idle_ok());
    server.kill();
    EXPECT_FALSE(connection->idle_ok());
    auto const reply = connection->call({"PING"}, soon());
    ASSERT_FALSE(reply);
    EXPECT_EQ(reply.error().code(), ErrorCode::kUnavailable) << reply.error().message();
    auto const again = open(url);
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code(), ErrorCode::kUnavailable) << again.error().message();
    server.restart();
    EXPECT_EQ(must(must(open(url))->call({"PING"}, soon())).text, "PONG");
  }
}

TEST(RedisConnection, GivesUpAtTheDeadline) {
  LMC_NEEDS_REDIS();
  RedisServer server;
  RedisUrl const url = by_port(server);
  auto const connection = must(open(url));
  server.pause();
  EXPECT_EQ(connection->call({"PING"}, in(50ms)).error().code(), ErrorCode::kTimeout);
  EXPECT_EQ(RedisConnection::open(url, url.hosts[0], in(50ms)).error().code(), ErrorCode::kTimeout);
  server.resume();
  EXPECT_EQ(must(connection->reader().read_value(soon())).text, "PONG") << "it came late";
}

TEST(RedisConnection, ShutEndsACallOfAnotherThread) {
  LMC_NEEDS_REDIS();
  RedisServer server;
  auto const connection = must(open(by_socket(server)));
  auto const other = must(open(by_socket(server)));
  std::thread waiting{[&] {  // blocks in the server for as long as the list is empty
    auto const reply = connection->call({"BLPOP", "list", "0"}, soon());
    ASSERT_FALSE(reply);
    EXPECT_EQ(reply.error().code(), ErrorCode::kUnavailable);
  }};
  std::string blocked;
  while (blocked.find("blocked_clients:1") == std::string::npos) {
    blocked = must(other->call({"INFO", "clients"}, soon())).text;
  }
  connection->shut();
  waiting.join();
  EXPECT_FALSE(connection->call({"PING"}, soon()));
}

TEST(RedisConnection, TooManyClientsIsForNow) {
  LMC_NEEDS_REDIS();
  RedisServer const server{{"--maxclients", "1"}};
  RedisUrl const url = by_socket(server);
  auto const only = must(open(url));
  auto const refused = open(url);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kUnavailable) << refused.error().message();
}

struct Talk {
  std::string server;
  RedisUrl url{};
};

std::unique_ptr<ScriptedStream> scripted(Talk const& talk) {
  return std::make_unique<ScriptedStream>(ScriptedStream::Script{
      .incoming = talk.server, .cuts = {3}, .end = ScriptedStream::End::kStaysSilent});
}

Result<std::unique_ptr<RedisConnection>> open_on(Talk const& talk) {
  return RedisConnection::open_on(scripted(talk), talk.url, soon());
}

// What the server got.
std::string log_in(Talk const& talk) {
  auto stream = scripted(talk);
  auto const* const peer = stream.get();
  auto const connection = must(RedisConnection::open_on(std::move(stream), talk.url, soon()));
  return peer->written();
}

TEST(RedisConnection, NeverRepeatsAPassword) {
  RedisUrl const url = with_password({}, "", "sesame street");
  for (std::string const& text : std::vector<std::string>{
           "-ERR unknown command `HELLO`\r\n"
           "-ERR unknown command `AUTH`, with args beginning with: `sesame str\r\n",
           "-WRONGPASS not sesame street, nor sesame streetsesame street\r\n"}) {
    auto const refused = open_on({.server = text, .url = url});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), ErrorCode::kInvalidArgument);
    EXPECT_EQ(refused.error().message().find("sesame"), std::string::npos)
        << refused.error().message();
  }
}

TEST(RedisConnection, TellsARefusalForNowFromOneForGood) {
  auto const code = [](std::string server) {
    auto const refused = open_on({.server = std::move(server)});
    return refused ? ErrorCode::kInternal : refused.error().code();
  };
  EXPECT_EQ(code("-ERR max number of clients reached\r\n"), ErrorCode::kUnavailable);
  EXPECT_EQ(code("-LOADING Redis is loading the dataset in memory\r\n"), ErrorCode::kUnavailable);
  EXPECT_EQ(code("-DENIED Redis is running in protected mode\r\n"), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code("-NOPERM no\r\n"), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code("-NOPROTO no\r\n-NOAUTH Authentication required.\r\n"),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(code("-NOPROTO no\r\n-LOADING not yet\r\n"), ErrorCode::kUnavailable);
  EXPECT_EQ(code("HTTP/1.1 400 Bad Request\r\n"), ErrorCode::kCorrupted);
  EXPECT_EQ(code(""), ErrorCode::kTimeout);
}

TEST(RedisConnection, SendsWhatEachServerKnows) {
  EXPECT_EQ(log_in({.server = "%1\r\n+proto\r\n:3\r\n"}),
            "*4\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$7\r\nSETNAME\r\n$7\r\nlmcache\r\n");
  std::string const no_hello = "-ERR unknown command 'HELLO'\r\n+OK\r\n";
  std::string sent = log_in({.server = no_hello, .url = with_password({}, "", "pw")});
  EXPECT_TRUE(sent.ends_with("*2\r\n$4\r\nAUTH\r\n$2\r\npw\r\n")) << sent;
  sent = log_in({.server = no_hello, .url = with_password({}, "kv", "pw")});
  EXPECT_TRUE(sent.ends_with("*3\r\n$4\r\nAUTH\r\n$2\r\nkv\r\n$2\r\npw\r\n")) << sent;
}

TEST(RedisConnection, IsNotIdleWhenSomethingCameUnasked) {
  auto const connection = must(open_on({.server = "%0\r\n+PONG\r\n+LATE\r\n"}));
  EXPECT_FALSE(connection->idle_ok());
  EXPECT_EQ(must(connection->call({"PING"}, soon())).text, "PONG");
  EXPECT_FALSE(connection->idle_ok());
  EXPECT_EQ(must(connection->reader().read_value(soon())).text, "LATE");
  EXPECT_TRUE(connection->idle_ok());
  connection->shut();
  EXPECT_FALSE(connection->idle_ok());
}

TEST(RedisConnection, RefusesAnIncompleteBatch) {
  auto const connection = must(open_on({.server = "%0\r\n"}));
  RespBatch batch;
  batch.begin(2).arg("GET");
  EXPECT_EQ(connection->send(batch, soon()).error().code(), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace lmcache
