// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <memory>
#include <string>
#include <thread>

#include <lmcache/net/redis_sentinel.hpp>
#include <lmcache/tier/remote/redis_transport.hpp>

#include "support/must.hpp"
#include "support/redis_server.hpp"
#include "support/remote_chunks.hpp"
#include "support/temp_directory.hpp"

namespace lmcache {
namespace {

using namespace std::chrono_literals;
using test::must;
using test::RedisServer;
using test::RemoteChunks;

Deadline in(std::chrono::milliseconds time) { return std::chrono::steady_clock::now() + time; }
Deadline soon() { return in(20s); }

RedisUrl::Host host_of(RedisServer const& server) {
  return {.name = "127.0.0.1", .port = server.port()};
}

Result<RespValue> call(RedisServer const& server, std::initializer_list<std::string_view> command) {
  LMC_TRY_ASSIGN(auto const connection, RedisConnection::open({}, host_of(server), soon()));
  return connection->call(command, soon());
}

void obey(RedisServer const& server, std::initializer_list<std::string_view> command) {
  EXPECT_EQ(must(call(server, command)).text, "OK");
}

// A master, its replica, and one sentinel that is enough to replace it.
struct Watched {
  Watched() {
    auto const until = soon();
    while (std::chrono::steady_clock::now() < until) {
      auto const role = must(call(replica, {"ROLE"}));
      bool const linked = role.items.size() > 3 && role.items[3].text == "connected";
      auto const known = must(call(*sentinel, {"SENTINEL", "REPLICAS", "main"}));
      if (linked && known.items.size() == 1) return;
      std::this_thread::sleep_for(20ms);
    }
    ADD_FAILURE() << "the sentinel does not find the replica:\n" << sentinel->log();
  }

  [[nodiscard]] RedisUrl url() const {
    RedisUrl out;
    out.scheme = "redis-sentinel";
    out.mode = RedisUrl::Mode::kSentinel;
    out.master = "main";
    out.hosts = {host_of(*sentinel)};
    return out;
  }

  RedisServer master;
  RedisServer replica{{"--replicaof", "127.0.0.1 " + std::to_string(master.port()),
                       "--repl-diskless-sync-delay", "0"}};
  test::TempDirectory folder;
  std::unique_ptr<RedisServer> sentinel = watch();

 private:
  std::unique_ptr<RedisServer> watch() {
    auto const path = folder / "sentinel.conf";  // it writes to it, too
    std::ofstream{path} << "sentinel monitor main 127.0.0.1 " << master.port() << " 1\n"
                        << "sentinel down-after-milliseconds main 500\n"
                        << "sentinel failover-timeout main 5000\n";
    return std::make_unique<RedisServer>(std::vector<std::string>{path, "--sentinel"});
  }
};

#define LMC_NEEDS_REDIS() \
  if (!RedisServer::is_installed()) GTEST_SKIP() << "there is no redis-server in PATH"

TEST(RedisSentinel, NamesTheMaster) {
  LMC_NEEDS_REDIS();
  Watched watched;
  EXPECT_EQ(must(find_master(watched.url(), soon())), host_of(watched.master));
  auto const found = must(connect_master(watched.url(), soon()));
  EXPECT_EQ(found.host, host_of(watched.master));
  EXPECT_EQ(must(found.connection->call({"SET", "key", "value"}, soon())).text, "OK");

  RedisUrl url = watched.url();
  url.hosts.insert(url.hosts.begin(), {.name = "127.0.0.1", .port = RedisServer::free_port()});
  EXPECT_EQ(must(find_master(url, soon())), host_of(watched.master)) << "the second one answers";

  // A password and a database are for the master.
  obey(watched.master, {"CONFIG", "SET", "requirepass", "sesame"});
  url.password = "sesame";
  url.database = 2;
  auto const second = must(connect_master(url, soon()));
  EXPECT_EQ(must(second.connection->call({"DBSIZE"}, soon())).integer, 0);
}

TEST(RedisSentinel, SaysWhyThereIsNone) {
  LMC_NEEDS_REDIS();
  Watched watched;
  auto const refused = [](RedisUrl const& url, std::string const& text) {
    auto const found = find_master(url, in(5s));
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().code(), ErrorCode::kUnavailable) << found.error().message();
    EXPECT_NE(found.error().message().find(text), std::string::npos) << found.error().message();
  };
  RedisUrl url = watched.url();
  url.master = "other";
  refused(url, "it knows no master 'other'");
  url = watched.url();
  url.hosts = {host_of(watched.master)};
  refused(url, "it says: ERR unknown command");
  // What it names has become a replica, and the sentinel has not noticed yet.
  auto const port = std::to_string(watched.replica.port());
  obey(watched.master, {"REPLICAOF", "127.0.0.1", port});
  refused(watched.url(), "is no master, but: slave");
  watched.sentinel->kill();
  refused(watched.url(), "sentinel 127.0.0.1:");
  url.hosts.clear();
  EXPECT_EQ(find_master(url, soon()).error().code(), ErrorCode::kInvalidArgument);
}

TEST(RedisSentinel, ATransportFindsTheNewMaster) {
  LMC_NEEDS_REDIS();
  Watched watched;
  auto const connect = redis_transport(watched.url(), RemoteSerde::kMsgpack);
  auto transport = must(connect(soon()));
  RemoteChunks chunks{1, 20, 10'000};
  must(chunks.put(*transport, soon()));
  EXPECT_EQ(chunks.count(TierOutcome::kDone), 20u);
  EXPECT_EQ(must(must(RedisConnection::open({}, host_of(watched.master), soon()))
                     ->call({"WAIT", "1", "10000"}, soon()))
                .integer,
            1);
  watched.master.kill();
  EXPECT_EQ(chunks.put(*transport, soon()).error().code(), ErrorCode::kUnavailable);
  auto const until = in(30s);
  bool written = false;
  while (!written && std::chrono::steady_clock::now() < until) {
    auto next = connect(in(1s));
    written = next && chunks.get(*next.value(), soon()) && chunks.count(TierOutcome::kDone) == 20 &&
              chunks.put(*next.value(), soon());
    if (!written) std::this_thread::sleep_for(50ms);
  }
  ASSERT_TRUE(written) << watched.sentinel->log();
  EXPECT_EQ(chunks.count(TierOutcome::kDone), 20u);
  EXPECT_EQ(must(find_master(watched.url(), soon())), host_of(watched.replica));
}

TEST(RedisSentinel, AMasterThatBecomesAReplicaIsLeft) {
  LMC_NEEDS_REDIS();
  RedisServer const server;
  RedisServer const other;
  RedisUrl url;
  url.hosts = {host_of(server)};
  auto const transport = must(redis_transport(url, RemoteSerde::kMsgpack)(soon()));
  RemoteChunks chunks{1, 3, 1'000};
  must(chunks.put(*transport, soon()));
  obey(server, {"REPLICAOF", "127.0.0.1", std::to_string(other.port())});
  auto const put = chunks.put(*transport, soon());
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error().code(), ErrorCode::kUnavailable);
  EXPECT_NE(put.error().message().find("READONLY"), std::string::npos) << put.error().message();
}

}  // namespace
}  // namespace lmcache
