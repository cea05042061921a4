// SPDX-License-Identifier: Apache-2.0
// One call over many keys of a Redis cluster. A round sends each node its commands, then reads what
// they answer; redirected commands, and those of a node that failed, go into the next round.
//
// Invariants: every item ends in done() once, or run() returns an error; an item is redirected
// kMostRedirections times at most and tried again after a failure once, so rounds end.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include <lmcache/net/resp_command.hpp>

#include "tier/remote/redis_nodes.hpp"
#include "tier/remote/redis_values.hpp"

namespace lmcache::detail {

// What is done with items 0 .. count-1.
struct KeyedWork {
  enum class Sends : std::uint8_t { kAllAtOnce, kOneByOne };  // by one: large ones

  std::uint32_t count = 0;
  Sends sends = Sends::kAllAtOnce;
  std::function<std::uint16_t(std::uint32_t item)> slot;
  // One command. With kOneByOne it may point to memory that the next call overwrites.
  std::function<void(RespBatch& batch, std::uint32_t item)> add;
  // Reads its reply; called again when the command was redirected.
  std::function<Result<ValueReply>(RespReader& reader, std::uint32_t item, Deadline deadline)>
      receive;
  std::function<void(std::uint32_t item, TierOutcome outcome)> done;
  // Where an item was a moment ago that its node does not have any more; null: nothing is known.
  std::function<RedisUrl::Host const*(std::uint32_t item)> asked_before{};
  std::function<void(std::uint32_t item, RedisUrl::Host const& host)> on_ask{};
};

// One call. Externally synchronised.
class RedisRounds {
 public:
  static constexpr int kMostRedirections = 5;

  RedisRounds(RedisNodes& nodes, KeyedWork const& work, Deadline deadline);

  // Items of a node that fails are kIoError. Errors: when no node answered anything, why the last
  // one did not; no item is done then.
  [[nodiscard]] Result<void> run();

 private:
  using Host = RedisUrl::Host;
  struct Order {
    std::uint32_t item = 0;
    std::optional<Host> at{};  // a redirect named it; else the map knows
    bool asking = false;
    bool tried_again = false;
    int redirections = 0;
  };
  struct Group {
    Host host;
    std::vector<Order> orders{};
    RedisConnection* connection = nullptr;  // null: it failed
    std::size_t sent = 0;
    std::size_t answered = 0;
    bool moved = false;  // some slot is elsewhere: better look again before sending more
  };

  [[nodiscard]] std::vector<Group> plan(std::vector<Order> orders);
  void send_all(std::vector<Group>& groups);
  void send_one_by_one(std::vector<Group>& groups);
  [[nodiscard]] Result<void> send_order(Group& group, Order const& order);
  void collect(std::vector<Group>& groups);
  void receive_one(Group& group);
  void redirect(Group& group, Order order, SlotRedirect const& to);
  void fail(Group& group, Error error);
  void try_again_or_fail(Order order);
  void learn();

  RedisNodes& nodes_;
  KeyedWork const& work_;
  Deadline const started_ = std::chrono::steady_clock::now();
  Deadline const deadline_;
  Deadline const answer_by_;
  std::vector<Order> waiting_;
  std::vector<std::uint32_t> failed_;
  std::optional<Host> moved_to_;  // the map is wrong, says whoever named this one
  bool look_again_ = false;       // it may be wrong
  bool alive_ = false;            // some node answered something
  std::optional<Error> last_error_;
};

}  // namespace lmcache::detail
