// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include <lmcache/tier/remote/redis_cluster_transport.hpp>
#include <lmcache/tier/remote/redis_transport.hpp>

#include "support/must.hpp"
#include "support/redis_cluster.hpp"
#include "support/remote_chunks.hpp"

namespace lmcache {
namespace {

using namespace std::chrono_literals;
using test::must;
using test::RedisCluster;
using test::RedisServer;
using test::RemoteChunks;

constexpr std::uint64_t kPayload = 20'000;

Deadline in(std::chrono::milliseconds time) { return std::chrono::steady_clock::now() + time; }
Deadline soon() { return in(20s); }

std::unique_ptr<Transport> connect(RedisUrl const& url, RemoteSerde serde = RemoteSerde::kMsgpack) {
  return must(redis_transport(url, serde)(soon()));
}

std::uint16_t slot_of(ChunkKey const& key) { return redis_slot(redis_key(key)); }

// How many of them lie at `node`, or as its slots were at first.
std::size_t at_first(RedisCluster const& cluster, RemoteChunks const& chunks, std::uint32_t node) {
  return static_cast<std::size_t>(std::ranges::count_if(
      chunks.keys, [&](ChunkKey const& key) { return cluster.first_owner(slot_of(key)) == node; }));
}

// A chunk with its slot at `node`, alone.
RemoteChunks chunk_at(RedisCluster const& cluster, std::uint32_t node, std::uint64_t payload) {
  std::uint64_t seed = 1'000'000;
  while (cluster.first_owner(slot_of(test::chunk_key(seed))) != node) ++seed;
  return RemoteChunks{seed, 1, payload};
}

std::size_t present(std::vector<std::uint64_t> const& sizes) {
  return sizes.size() - static_cast<std::size_t>(std::ranges::count(sizes, 0u));
}

#define LMC_NEEDS_REDIS() \
  if (!RedisServer::is_installed()) GTEST_SKIP() << "there is no redis-server in PATH"

TEST(RedisClusterTransport, KeepsManyChunksOnAllNodes) {
  LMC_NEEDS_REDIS();
  RedisCluster cluster;
  for (auto const serde : {RemoteSerde::kMsgpack, RemoteSerde::kNaive}) {
    auto const transport = connect(cluster.url(), serde);
    must(transport->ping(soon()));
    RemoteChunks chunks{1, 300, kPayload};
    EXPECT_EQ(present(must(transport->sizes(chunks.keys, soon()))), 0u);
    must(chunks.get(*transport, soon()));
    EXPECT_EQ(chunks.count(TierOutcome::kMissing), 300u);
    must(chunks.put(*transport, soon()));
    EXPECT_EQ(chunks.count(TierOutcome::kDone), 300u);
    for (auto const size : must(transport->sizes(chunks.keys, soon()))) {
      EXPECT_EQ(size, record_bytes(kPayload, test::kChunkTokens));
    }
    must(chunks.get(*transport, soon()));
    EXPECT_EQ(chunks.count(TierOutcome::kDone), 300u);
    for (std::uint32_t node = 0; node < cluster.size(); ++node) {
      EXPECT_EQ(static_cast<std::size_t>(must(cluster.call(node, {"DBSIZE"})).integer),
                at_first(cluster, chunks, node));
    }
    auto const seen = must(transport->describe(soon()));
    EXPECT_EQ(seen.chunks, 300u);
    EXPECT_EQ(seen.role, "3 of 3 masters");
    EXPECT_GT(seen.used_bytes, 300 * kPayload);

    EXPECT_EQ(must(transport->remove(std::span{chunks.keys}.first(100), soon())), 100u);
    EXPECT_EQ(must(transport->remove(std::span{chunks.keys}.first(100), soon())), 0u);
    EXPECT_EQ(must(transport->remove({}, soon())), 0u);
    EXPECT_EQ(present(must(transport->sizes(chunks.keys, soon()))), 200u);
    cluster.ok(cluster.first_owner(redis_slot("other")), {"SET", "other", "value"});
    EXPECT_EQ(must(transport->clear(soon())), 200u);
    EXPECT_EQ(must(transport->describe(soon())).chunks, 0u);
    cluster.ok(cluster.first_owner(redis_slot("other")), {"GETDEL", "other"});
  }
}

TEST(RedisClusterTransport, ForgetsAfterTheTimeToLive) {
  LMC_NEEDS_REDIS();
  RedisCluster cluster;
  auto const transport = connect(cluster.url());
  auto chunk = chunk_at(cluster, 1, kPayload);
  must(chunk.put(*transport, soon(), 100));
  auto const left = must(cluster.call(1, {"TTL", redis_key(chunk.keys[0])})).integer;
  EXPECT_TRUE(left > 50 && left <= 100) << left;
}

TEST(RedisClusterTransport, FollowsASlotThroughItsMove) {
  LMC_NEEDS_REDIS();
  RedisCluster cluster;
  auto const transport = connect(cluster.url());
  auto chunk = chunk_at(cluster, 0, kPayload);
  RedisCluster::Move const move{.slot = slot_of(chunk.keys[0]), .from = 0, .to = 1};
  auto const get = [&] {
    must(chunk.get(*transport, soon()));
    return chunk.outcomes[0];
  };
  auto const put = [&] {
    must(chunk.put(*transport, soon()));
    return chunk.outcomes[0];
  };
  auto const keys_at = [&](std::uint32_t node) {
    return must(cluster.call(node, {"CLUSTER", "COUNTKEYSINSLOT", std::to_string(move.slot)}))
        .integer;
  };
  EXPECT_EQ(put(), TierOutcome::kDone);
  cluster.begin_move(move);
  EXPECT_EQ(get(), TierOutcome::kDone) << "it is there still";
  cluster.move_keys(move);
  EXPECT_EQ(keys_at(0), 0);
  EXPECT_EQ(get(), TierOutcome::kDone) << "ASK";
  EXPECT_NE(must(transport->sizes(chunk.keys, soon()))[0], 0u);
  EXPECT_EQ(must(transport->remove(chunk.keys, soon())), 1u);
  EXPECT_EQ(get(), TierOutcome::kMissing);
  EXPECT_EQ(put(), TierOutcome::kDone);
  EXPECT_EQ(keys_at(0), 0);
  EXPECT_EQ(keys_at(1), 1) << "what is new goes where the slot will be";
  cluster.end_move(move);
  EXPECT_EQ(get(), TierOutcome::kDone) << "MOVED";
  EXPECT_EQ(put(), TierOutcome::kDone);
  EXPECT_EQ(keys_at(1), 1);
}

TEST(RedisClusterTransport, SendsAPayloadOnceWhenItWasAskedForBefore) {
  LMC_NEEDS_REDIS();
  RedisCluster cluster;
  auto const transport = connect(cluster.url());
  constexpr std::uint64_t kLarge = 4 << 20;
  auto chunk = chunk_at(cluster, 0, kLarge);
  RedisCluster::Move const move{.slot = slot_of(chunk.keys[0]), .from = 0, .to = 2};
  auto const put_costs = [&] {
    auto const before = cluster.info(0, "total_net_input_bytes");
    EXPECT_EQ(must(transport->sizes(chunk.keys, soon()))[0], 0u);
    must(chunk.put(*transport, soon()));
    EXPECT_EQ(chunk.outcomes[0], TierOutcome::kDone);
    EXPECT_EQ(must(transport->remove(chunk.keys, soon())), 1u);
    return cluster.info(0, "total_net_input_bytes") - before;
  };
  EXPECT_GT(put_costs(), kLarge);
  cluster.begin_move(move);
  EXPECT_LT(put_costs(), kLarge / 2) << "ASK";
  cluster.end_move(move);
  EXPECT_LT(put_costs(), kLarge / 2) << "MOVED";
}

TEST(RedisClusterTransport, AMoveThatNobodyAskedForCostsFewPayloads) {
  LMC_NEEDS_REDIS();
  RedisCluster cluster;
  auto const transport = connect(cluster.url());
  constexpr std::uint64_t kLarge = 4 << 20;
  RemoteChunks chunks{1, 30, kLarge};
  std::set<std::uint16_t> slots;
  for (auto const& key : chunks.keys) slots.insert(slot_of(key));
  for (auto const slot : slots) {
    RedisCluster::Move const move{.slot = slot, .from = 0, .to = 1};
    if (cluster.first_owner(slot) != 0) continue;
    cluster.begin_move(move);
    cluster.end_move(move);
  }
  auto const moved = at_first(cluster, chunks, 0);
  ASSERT_GE(moved, 6u);
  auto const before = cluster.info(0, "total_net_input_bytes");
  must(chunks.put(*transport, soon()));
  EXPECT_EQ(chunks.count(TierOutcome::kDone), 30u);
  auto const cost = cluster.info(0, "total_net_input_bytes") - before;
  EXPECT_LT(cost, moved * kLarge * 3 / 4);
  EXPECT_GE(cost, kLarge) << "the server says so after the whole value only";
}

TEST(RedisClusterTransport, LosesNothingWhileSlotsMove) {
  LMC_NEEDS_REDIS();
  RedisCluster cluster;
  RemoteChunks chunks{1, 200, kPayload};
  auto const transport = connect(cluster.url());
  must(chunks.put(*transport, soon()));
  std::atomic<bool> moving{true};
  std::atomic<std::uint64_t> rounds{0};
  std::thread mover{[&] {
    std::uint64_t steps = 0;
    // Now and then, at each of the three steps, everything is read before the next.
    auto const step = [&] {
      if (++steps % 7 != 0) return;
      for (auto const now = rounds.load(); rounds.load() < now + 2;) std::this_thread::yield();
    };
    std::set<std::uint16_t> slots;
    for (auto const& key : chunks.keys) slots.insert(slot_of(key));
    for (auto const slot : slots) {
      if (cluster.first_owner(slot) != 0) continue;
      RedisCluster::Move const move{.slot = slot, .from = 0, .to = 1 + slot % 2u};
      cluster.begin_move(move);
      step();
      cluster.move_keys(move);
      step();
      cluster.end_move(move);
      step();
    }
    moving = false;
  }};
  std::uint64_t hits = 0;
  std::uint64_t asked = 0;
  std::uint64_t new_seed = 5'000;
  while (moving) {
    must(chunks.get(*transport, soon()));
    hits += chunks.count(TierOutcome::kDone);
    asked += chunks.keys.size();
    EXPECT_EQ(chunks.count(TierOutcome::kMissing), 0u);
    EXPECT_EQ(chunks.count(TierOutcome::kCorrupt), 0u);
    RemoteChunks fresh{new_seed, 10, kPayload};
    new_seed += 10;
    must(fresh.put(*transport, soon()));
    auto const written = fresh.count(TierOutcome::kDone);
    must(fresh.get(*transport, soon()));
    EXPECT_LE(written, fresh.count(TierOutcome::kDone) + fresh.count(TierOutcome::kIoError));
    ++rounds;
  }
  mover.join();
  EXPECT_GT(rounds.load(), 4u);
  // TRYAGAIN and the like are rare.
  EXPECT_GT(hits * 100, asked * 99) << hits << " of " << asked;
  must(chunks.get(*transport, soon()));
  EXPECT_EQ(chunks.count(TierOutcome::kDone), 200u);
  EXPECT_EQ(must(cluster.call(0, {"DBSIZE"})).integer,
            static_cast<std::int64_t>(
                must(transport->describe(soon())).chunks -
                static_cast<std::uint64_t>(must(cluster.call(1, {"DBSIZE"})).integer +
                                           must(cluster.call(2, {"DBSIZE"})).integer)));
}

TEST(RedisClusterTransport, ANodeThatDiesCostsItsOwnKeysOnly) {
  LMC_NEEDS_REDIS();
  RedisCluster cluster;
  RemoteChunks chunks{1, 150, kPayload};
  auto const transport = connect(cluster.url());
  must(chunks.put(*transport, soon()));
  auto const gone = at_first(cluster, chunks, 2);
  ASSERT_GT(gone, 0u);
  cluster.server(2).kill();
  for (int i = 0; i < 3; ++i) {
    must(chunks.get(*transport, soon()));
    EXPECT_EQ(chunks.count(TierOutcome::kIoError), gone);
    EXPECT_EQ(chunks.count(TierOutcome::kDone), 150 - gone);
    EXPECT_EQ(present(must(transport->sizes(chunks.keys, soon()))), 150 - gone);
    must(chunks.put(*transport, soon()));
    EXPECT_EQ(chunks.count(TierOutcome::kDone), 150 - gone);
  }
  // Not even when it is the only one that is asked.
  auto lost = chunk_at(cluster, 2, kPayload);
  must(lost.put(*transport, soon()));
  EXPECT_EQ(lost.outcomes[0], TierOutcome::kIoError);
  EXPECT_EQ(must(transport->describe(soon())).role, "2 of 3 masters");
  EXPECT_EQ(transport->clear(soon()).error().code(), ErrorCode::kUnavailable);
  EXPECT_EQ(must(transport->describe(soon())).chunks, 0u) << "the others are cleared";

  cluster.server(2).restart();
  auto const until = soon();
  do {
    must(chunks.put(*transport, soon()));
  } while (chunks.count(TierOutcome::kDone) != 150 && std::chrono::steady_clock::now() < until);
  EXPECT_EQ(chunks.count(TierOutcome::kDone), 150u) << "it is back";
}

TEST(RedisClusterTransport, ANodeThatIsStuckIsWaitedForOnce) {
  LMC_NEEDS_REDIS();
  RedisCluster cluster;
  // More than sockets hold: the others must be read while it keeps silent.
  RemoteChunks chunks{1, 60, 1 << 20};
  auto const transport = connect(cluster.url());
  must(chunks.put(*transport, soon()));
  // The one that is sent to first.
  auto const node = cluster.first_owner(slot_of(chunks.keys[0]));
  auto const stuck = at_first(cluster, chunks, node);
  cluster.server(node).pause();
  must(chunks.get(*transport, in(3s)));
  EXPECT_EQ(chunks.count(TierOutcome::kIoError), stuck);
  EXPECT_EQ(chunks.count(TierOutcome::kDone), 60 - stuck);
  auto const started = std::chrono::steady_clock::now();
  // Waited for again, it would take seven eighths of this.
  must(chunks.get(*transport, in(80s)));
  EXPECT_LT(std::chrono::steady_clock::now() - started, 60s);
  EXPECT_EQ(chunks.count(TierOutcome::kDone), 60 - stuck);
  cluster.server(node).resume();
  auto const until = soon();
  do {
    must(chunks.get(*transport, soon()));
  } while (chunks.count(TierOutcome::kDone) != 60 && std::chrono::steady_clock::now() < until);
  EXPECT_EQ(chunks.count(TierOutcome::kDone), 60u);
}

TEST(RedisClusterTransport, FailsWhenNoNodeAnswers) {
  LMC_NEEDS_REDIS();
  RedisCluster cluster;
  RemoteChunks chunks{1, 20, kPayload};
  auto const transport = connect(cluster.url());
  for (std::uint32_t node = 0; node < cluster.size(); ++node) cluster.server(node).kill();
  for (int i = 0; i < 2; ++i) {
    auto const got = chunks.get(*transport, in(2s));
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().code(), ErrorCode::kUnavailable) << got.error().message();
    EXPECT_EQ(chunks.outcomes, RemoteChunks::Outcomes(20));
  }
  EXPECT_FALSE(transport->sizes(chunks.keys, in(2s)));
  EXPECT_FALSE(transport->ping(in(2s)));
  EXPECT_FALSE(redis_transport(cluster.url(), RemoteSerde::kMsgpack)(in(2s)));
}

TEST(RedisClusterTransport, RefusesAServerThatIsNoCluster) {
  LMC_NEEDS_REDIS();
  RedisServer const server;
  RedisUrl url;
  url.mode = RedisUrl::Mode::kCluster;
  url.hosts = {{.name = "127.0.0.1", .port = server.port()}};
  auto const made = redis_transport(url, RemoteSerde::kMsgpack)(soon());
  ASSERT_FALSE(made);
  EXPECT_NE(made.error().message().find("cluster support disabled"), std::string::npos)
      << made.error().message();
}

TEST(RedisClusterTransport, ShutEndsACallOfAnotherThread) {
  LMC_NEEDS_REDIS();
  RedisCluster cluster;
  auto chunk = chunk_at(cluster, 1, kPayload);
  auto const transport = connect(cluster.url());
  cluster.ok(1, {"CLIENT", "PAUSE", "60000", "WRITE"});
  std::thread waiting{[&] {
    auto const put = chunk.put(*transport, in(60s));
    ASSERT_FALSE(put);
    EXPECT_EQ(put.error().code(), ErrorCode::kUnavailable) << put.error().message();
  }};
  while (cluster.info(1, "blocked_clients") == 0) std::this_thread::yield();
  auto const started = std::chrono::steady_clock::now();
  transport->shut();
  waiting.join();
  EXPECT_LT(std::chrono::steady_clock::now() - started, 10s);
  EXPECT_FALSE(transport->ping(soon()));
}

}  // namespace
}  // namespace lmcache
