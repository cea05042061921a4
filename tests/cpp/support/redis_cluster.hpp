// SPDX-License-Identifier: Apache-2.0
// A Redis cluster of a test's own: masters only, the slots shared out evenly.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>

#include <chrono>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <lmcache/net/redis_connection.hpp>
#include <lmcache/net/redis_slots.hpp>

#include "support/must.hpp"
#include "support/redis_server.hpp"

namespace lmcache::test {

// Externally synchronised.
class RedisCluster {
 public:
  explicit RedisCluster(std::uint32_t nodes = 3) {
    for (std::uint32_t i = 0; i < nodes; ++i) {
      // The usual port of the bus is 10000 above the other: not every free port has such a one.
      bus_ports_.push_back(std::to_string(RedisServer::free_port()));
      // Without full coverage the slots of other masters are served while one is down.
      servers_.push_back(std::make_unique<RedisServer>(std::vector<std::string>{
          "--cluster-enabled", "yes", "--cluster-port", bus_ports_[i], "--cluster-node-timeout",
          "5000", "--cluster-require-full-coverage", "no"}));
    }
    for (std::uint32_t i = 0; i < nodes; ++i) {
      ok(i, {"CLUSTER", "SET-CONFIG-EPOCH", std::to_string(i + 1)});
      auto const first = kRedisSlots * i / nodes;
      auto const last = kRedisSlots * (i + 1) / nodes - 1;
      ok(i, {"CLUSTER", "ADDSLOTSRANGE", std::to_string(first), std::to_string(last)});
      ids_.push_back(must(call(i, {"CLUSTER", "MYID"})).text);
    }
    // Each the next: it takes seconds until they hear of each other from a third.
    for (std::uint32_t i = 0; i < nodes; ++i) {
      auto const next = (i + 1) % nodes;
      ok(i, {"CLUSTER", "MEET", "127.0.0.1", port(next), bus_ports_[next]});
    }
    for (std::uint32_t i = 0; i < nodes; ++i) wait_until_ok(i);
  }

  // The first node only: the others are found.
  [[nodiscard]] RedisUrl url() const {
    RedisUrl url;
    url.scheme = "redis-cluster";
    url.mode = RedisUrl::Mode::kCluster;
    url.hosts = {host(0)};
    return url;
  }
  [[nodiscard]] RedisServer& server(std::uint32_t node) { return *servers_[node]; }
  [[nodiscard]] std::size_t size() const noexcept { return servers_.size(); }
  [[nodiscard]] RedisUrl::Host host(std::uint32_t node) const {
    return {.name = "127.0.0.1", .port = servers_[node]->port()};
  }
  [[nodiscard]] std::string const& id(std::uint32_t node) const { return ids_[node]; }
  // By how the slots were shared out at first.
  [[nodiscard]] std::uint32_t first_owner(std::uint16_t slot) const {
    std::uint32_t node = 0;
    while (kRedisSlots * (node + 1) / size() <= slot) ++node;
    return node;
  }

  Result<RespValue> call(std::uint32_t node, std::vector<std::string> const& command) {
    auto const deadline = std::chrono::steady_clock::now() + std::chrono::seconds{20};
    RedisUrl url;
    LMC_TRY_ASSIGN(auto const connection, RedisConnection::open(url, host(node), deadline));
    RespBatch batch;
    batch.begin(command.size());
    for (auto const& word : command) batch.arg(word);
    LMC_TRY(connection->send(batch, deadline));
    return connection->reader().read_value(deadline);
  }
  void ok(std::uint32_t node, std::vector<std::string> const& command) {
    auto const reply = must(call(node, command));
    EXPECT_FALSE(reply.is_error()) << command[1] << ": " << reply.text;
  }
  // "total_net_input_bytes"
  [[nodiscard]] std::uint64_t info(std::uint32_t node, std::string const& field) {
    auto const text = must(call(node, {"INFO"})).text;
    auto const at = text.find(field + ":");
    EXPECT_NE(at, text.npos) << field;
    return at == text.npos ? 0 : std::stoull(text.substr(at + field.size() + 1));
  }

  struct Move {
    std::uint16_t slot;
    std::uint32_t from;
    std::uint32_t to;
  };
  // The three steps of redis.io/docs/reference/cluster-spec, "Live reconfiguration".
  void begin_move(Move const& move) {
    ok(move.to, {"CLUSTER", "SETSLOT", std::to_string(move.slot), "IMPORTING", ids_[move.from]});
    ok(move.from, {"CLUSTER", "SETSLOT", std::to_string(move.slot), "MIGRATING", ids_[move.to]});
  }
  void move_keys(Move const& move) {
    auto const slot = std::to_string(move.slot);
    auto const keys = must(call(move.from, {"CLUSTER", "GETKEYSINSLOT", slot, "1000"}));
    for (auto const& key : keys.items) {
      ok(move.from, {"MIGRATE", "127.0.0.1", port(move.to), key.text, "0", "20000"});
    }
  }
  void end_move(Move const& move) {
    for (auto const node : {move.to, move.from}) {
      ok(node, {"CLUSTER", "SETSLOT", std::to_string(move.slot), "NODE", ids_[move.to]});
    }
  }

 private:
  [[nodiscard]] std::string port(std::uint32_t node) const {
    return std::to_string(servers_[node]->port());
  }
  void wait_until_ok(std::uint32_t node) {
    auto const known = "cluster_known_nodes:" + std::to_string(size());
    for (int i = 0; i < 3000; ++i) {
      auto const info = must(call(node, {"CLUSTER", "INFO"})).text;
      if (info.find("cluster_state:ok") != info.npos && info.find(known) != info.npos &&
          info.find("cluster_slots_assigned:16384") != info.npos) {
        return;
      }
      ::poll(nullptr, 0, 10);  // nothing says when
    }
    ADD_FAILURE() << "the cluster does not come up";
  }

  std::vector<std::unique_ptr<RedisServer>> servers_;
  std::vector<std::string> bus_ports_;
  std::vector<std::string> ids_;
};

}  // namespace lmcache::test
