// SPDX-License-Identifier: Apache-2.0
#include "tier/remote/redis_nodes.hpp"

#include <algorithm>
#include <optional>
#include <string>

namespace lmcache::detail {
namespace {

using SteadyClock = std::chrono::steady_clock;

std::string place(RedisUrl::Host const& host) {
  return std::string{"node "}.append(host.name).append(":").append(std::to_string(host.port));
}

// A host that swallows packets leaves the others their share of the time.
Deadline share(Deadline deadline, std::size_t parts) {
  auto const now = SteadyClock::now();
  if (deadline <= now) return deadline;
  return now + (deadline - now) / static_cast<std::int64_t>(std::max<std::size_t>(1, parts));
}

Error shut_error() { return {ErrorCode::kUnavailable, "the connection was shut"}; }

}  // namespace

RedisNodes::Node* RedisNodes::find(Host const& host) {
  auto const found = std::ranges::find(nodes_, host, &Node::host);
  return found == nodes_.end() ? nullptr : &*found;
}

RedisNodes::Node& RedisNodes::node(Host const& host) {
  if (auto* const known = find(host)) return *known;
  std::lock_guard const lock{mutex_};
  return nodes_.emplace_back(Node{.host = host});
}

Result<RedisConnection*> RedisNodes::connect(Host const& host, Deadline deadline) {
  auto& to = node(host);
  if (to.connection && to.connection->idle_ok()) return to.connection.get();
  if (rests(host)) return Error{ErrorCode::kUnavailable, place(host).append(" failed lately")};
  drop(host);
  if (is_shut()) return shut_error();
  auto made = RedisConnection::open(url_, host, share(deadline, 2));
  if (!made) {
    // A deadline that had passed says nothing about the node.
    if (SteadyClock::now() < deadline) rest(host);
    return std::move(made).error();
  }
  std::lock_guard const lock{mutex_};
  if (shut_) return shut_error();
  to.connection = std::move(made).value();
  return to.connection.get();
}

void RedisNodes::drop(Host const& host) {
  std::unique_ptr<RedisConnection> gone;  // closed after the lock
  auto* const known = find(host);
  if (known == nullptr) return;
  std::lock_guard const lock{mutex_};
  gone = std::move(known->connection);
}

void RedisNodes::rest(Host const& host, SteadyClock::duration waited) {
  drop(host);
  if (rests(host)) return;
  auto& who = node(host);
  auto const as_long = std::chrono::duration_cast<std::chrono::milliseconds>(waited);
  who.last_rest = std::clamp(std::max(who.last_rest * 2, as_long), kFirstRest, kLongestRest);
  who.rests_until = SteadyClock::now() + who.last_rest;
}

bool RedisNodes::rests(Host const& host) const {
  auto const found = std::ranges::find(nodes_, host, &Node::host);
  return found != nodes_.end() && SteadyClock::now() < found->rests_until;
}

void RedisNodes::note_answer(Host const& host) {
  auto* const known = find(host);
  if (known == nullptr) return;
  known->last_rest = std::chrono::milliseconds{0};
  known->rests_until = {};
}

std::vector<RedisUrl::Host> RedisNodes::whom_to_ask(Host const* first) const {
  std::vector<Host> out;
  auto const add = [&](Host const& host) {
    if (std::ranges::find(out, host) == out.end()) out.push_back(host);
  };
  if (first != nullptr) add(*first);
  for (auto const& host : map_.hosts()) add(host);
  for (auto const& host : url_.hosts) add(host);
  std::erase_if(out, [&](Host const& host) { return rests(host); });
  if (!out.empty()) return out;
  // All failed lately. Those that the URL names may be back.
  return url_.hosts;
}

Result<void> RedisNodes::refresh(Host const* first, Deadline deadline) {
  std::optional<Error> last;
  auto const hosts = whom_to_ask(first);
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    if (SteadyClock::now() >= deadline) {
      return Error{ErrorCode::kTimeout, "where the slots are: the deadline passed"};
    }
    auto done = refresh_from(hosts[i], share(deadline, hosts.size() - i));
    if (done) {
      refreshed_at_ = SteadyClock::now();
      return {};
    }
    last = std::move(done).error();
  }
  if (last) return std::move(*last).with_context("where the slots are");
  return Error{ErrorCode::kUnavailable, "the URL names no node"};
}

Result<void> RedisNodes::refresh_from(Host const& host, Deadline deadline) {
  LMC_TRY_ASSIGN(auto* const connection, connect(host, deadline));
  auto reply = connection->call({"CLUSTER", "SLOTS"}, deadline);
  if (!reply) {
    rest(host);
    return std::move(reply).error();
  }
  note_answer(host);
  LMC_TRY_ASSIGN(auto map, SlotMap::parse(reply.value(), host));
  // A node that was cut off or forgotten knows nobody.
  if (map.hosts().empty()) {
    return Error{ErrorCode::kUnavailable, place(host).append(" knows no slots")};
  }
  map_ = std::move(map);
  return {};
}

bool RedisNodes::is_shut() {
  std::lock_guard const lock{mutex_};
  return shut_;
}

void RedisNodes::shut() noexcept {
  std::lock_guard const lock{mutex_};
  shut_ = true;
  for (auto& it : nodes_) {
    if (it.connection) it.connection->shut();
  }
}

}  // namespace lmcache::detail
