// SPDX-License-Identifier: Apache-2.0
#include "tier/remote/redis_nodes.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "support/must.hpp"
#include "support/redis_cluster.hpp"

namespace lmcache::detail {
namespace {

using namespace std::chrono_literals;
using test::must;
using test::RedisCluster;
using test::RedisServer;

Deadline in(std::chrono::milliseconds time) { return std::chrono::steady_clock::now() + time; }
Deadline soon() { return in(20s); }

#define LMC_NEEDS_REDIS() \
  if (!RedisServer::is_installed()) GTEST_SKIP() << "there is no redis-server in PATH"

TEST(RedisNodes, LearnsTheMapFromWhoeverAnswers) {
  LMC_NEEDS_REDIS();
  RedisCluster cluster;
  RedisUrl url = cluster.url();
  RedisUrl::Host const nobody{.name = "127.0.0.1", .port = RedisServer::free_port()};
  url.hosts = {nobody, cluster.host(1)};
  RedisNodes nodes{url};
  must(nodes.refresh(nullptr, soon()));
  EXPECT_TRUE(nodes.rests(nobody));
  EXPECT_EQ(nodes.map().hosts().size(), 3u);
  EXPECT_EQ(*nodes.map().find(0), cluster.host(0));
  EXPECT_EQ(*nodes.map().find(16383), cluster.host(2));
  // The URL's hosts may be gone then.
  cluster.server(1).kill();
  must(nodes.refresh(nullptr, soon()));
  EXPECT_FALSE(nodes.refresh(nullptr, in(-1s)));
  EXPECT_EQ(nodes.map().hosts().size(), 3u) << "the map stays";
}

TEST(RedisNodes, KeepsAConnectionUntilItIsOfNoUse) {
  LMC_NEEDS_REDIS();
  RedisServer server;
  RedisUrl::Host const host{.name = "127.0.0.1", .port = server.port()};
  RedisNodes nodes{RedisUrl{}};
  auto* const first = must(nodes.connect(host, soon()));
  EXPECT_EQ(must(nodes.connect(host, soon())), first);
  server.restart();
  EXPECT_EQ(must(must(nodes.connect(host, soon()))->call({"PING"}, soon())).text, "PONG");
}

TEST(RedisNodes, LeavesANodeThatFailedAloneForAWhile) {
  LMC_NEEDS_REDIS();
  RedisServer server;
  RedisUrl::Host const host{.name = "127.0.0.1", .port = server.port()};
  RedisNodes nodes{RedisUrl{}};
  server.stop();
  EXPECT_FALSE(nodes.connect(host, in(-1s)));
  EXPECT_FALSE(nodes.rests(host)) << "the deadline had passed already";
  EXPECT_FALSE(nodes.connect(host, soon()));
  EXPECT_TRUE(nodes.rests(host));
  auto const again = nodes.connect(host, soon());
  ASSERT_FALSE(again);
  EXPECT_NE(again.error().message().find("failed lately"), std::string::npos);
  auto const until = soon();
  while (nodes.rests(host) && std::chrono::steady_clock::now() < until) {
    std::this_thread::sleep_for(5ms);
  }
  server.restart();
  EXPECT_TRUE(nodes.connect(host, soon()));
  nodes.rest(host);
  EXPECT_TRUE(nodes.rests(host));
  nodes.note_answer(host);
  EXPECT_FALSE(nodes.rests(host));
  nodes.rest(host, 5s);
  auto const began = std::chrono::steady_clock::now();
  while (nodes.rests(host) && std::chrono::steady_clock::now() < began + RedisNodes::kFirstRest) {
    std::this_thread::sleep_for(5ms);
  }
  EXPECT_TRUE(nodes.rests(host)) << "as long as it was waited for";
}

TEST(RedisNodes, ConnectsNoMoreAfterShut) {
  LMC_NEEDS_REDIS();
  RedisServer const server;
  RedisUrl::Host const host{.name = "127.0.0.1", .port = server.port()};
  RedisNodes nodes{RedisUrl{}};
  auto* const connection = must(nodes.connect(host, soon()));
  nodes.shut();
  EXPECT_FALSE(connection->call({"PING"}, soon()));
  EXPECT_EQ(nodes.connect(host, soon()).error().code(), ErrorCode::kUnavailable);
}

TEST(RedisNodes, SaysWhenTheUrlNamesNobody) {
  EXPECT_EQ(RedisNodes{RedisUrl{}}.refresh(nullptr, soon()).error().code(),
            ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace lmcache::detail
