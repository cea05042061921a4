// SPDX-License-Identifier: Apache-2.0
#include "tier/remote/redis_rounds.hpp"

#include <algorithm>
#include <chrono>
#include <span>
#include <thread>
#include <utility>

namespace lmcache::detail {
namespace {

using SteadyClock = std::chrono::steady_clock;

// While a node rests, every call has items that fail: not each of them asks the others.
constexpr std::chrono::milliseconds kBelieved{100};
constexpr std::chrono::microseconds kFirstPause{20};
constexpr std::chrono::microseconds kLongestPause{500};

// The last eighth of the time is for asking other nodes, when one keeps silent.
Deadline most_of(Deadline deadline) {
  auto const now = SteadyClock::now();
  return deadline <= now ? deadline : deadline - (deadline - now) / 8;
}

}  // namespace

RedisRounds::RedisRounds(RedisNodes& nodes, KeyedWork const& work, Deadline deadline)
    : nodes_{nodes}, work_{work}, deadline_{deadline}, answer_by_{most_of(deadline)} {
  for (std::uint32_t item = 0; item < work_.count; ++item) {
    Order order{.item = item};
    auto const* const before = work_.asked_before ? work_.asked_before(item) : nullptr;
    if (before != nullptr) {
      order.at = *before;
      order.asking = true;
    }
    waiting_.push_back(std::move(order));
  }
}

Result<void> RedisRounds::run() {
  while (!waiting_.empty()) {
    auto groups = plan(std::exchange(waiting_, {}));
    work_.sends == KeyedWork::Sends::kOneByOne ? send_one_by_one(groups) : send_all(groups);
    collect(groups);
    for (auto& group : groups) {  // those that were held back
      if (group.connection == nullptr) continue;
      for (auto& order : std::span{group.orders}.subspan(group.sent)) {
        waiting_.push_back(std::move(order));
      }
    }
    learn();
  }
  if (!alive_ && last_error_) return std::move(*last_error_);
  for (auto const item : failed_) work_.done(item, TierOutcome::kIoError);
  return {};
}

std::vector<RedisRounds::Group> RedisRounds::plan(std::vector<Order> orders) {
  std::vector<Group> groups;
  for (auto& order : orders) {
    auto const* const host = order.at ? &*order.at : nodes_.map().find(work_.slot(order.item));
    if (host == nullptr) {  // nobody has the slot
      try_again_or_fail(std::move(order));
      continue;
    }
    auto group = std::ranges::find(groups, *host, &Group::host);
    if (group == groups.end()) group = groups.insert(groups.end(), Group{.host = *host});
    group->orders.push_back(std::move(order));
  }
  for (auto& group : groups) {
    auto connection = nodes_.connect(group.host, answer_by_);
    if (connection) {
      group.connection = connection.value();
    } else {
      fail(group, std::move(connection).error());
    }
  }
  return groups;
}

void RedisRounds::send_all(std::vector<Group>& groups) {
  RespBatch batch;
  for (auto& group : groups) {
    if (group.connection == nullptr) continue;
    batch.clear();
    for (auto const& order : group.orders) {
      if (order.asking) batch.begin(1).arg("ASKING");
      work_.add(batch, order.item);
    }
    auto sent = group.connection->send(batch, answer_by_);
    if (!sent) {
      fail(group, std::move(sent).error());
      continue;
    }
    group.sent = group.orders.size();
  }
}

// In turn, so that the nodes work at the same time. What came meanwhile is read: a slot that moved
// has cost one large command then, not all of them.
void RedisRounds::send_one_by_one(std::vector<Group>& groups) {
  bool more = true;
  for (std::size_t i = 0; more; ++i) {
    more = false;
    for (auto& group : groups) {
      while (group.connection != nullptr && group.answered < group.sent &&
             !group.connection->idle_ok()) {
        receive_one(group);
      }
      if (group.connection == nullptr || group.moved || i >= group.orders.size()) continue;
      more = true;
      auto sent = send_order(group, group.orders[i]);
      if (!sent) fail(group, std::move(sent).error());
    }
  }
}

Result<void> RedisRounds::send_order(Group& group, Order const& order) {
  RespBatch batch;
  if (order.asking) batch.begin(1).arg("ASKING");
  work_.add(batch, order.item);
  LMC_TRY(group.connection->send(batch, answer_by_));
  ++group.sent;
  return {};
}

// Whoever has answered is read first: a node that is stuck does not hold up the others.
void RedisRounds::collect(std::vector<Group>& groups) {
  std::vector<Group*> pending;
  auto pause = kFirstPause;
  for (auto& group : groups) pending.push_back(&group);
  for (;;) {
    std::erase_if(pending, [](Group const* group) {
      return group->connection == nullptr || group->answered == group->sent;
    });
    if (pending.empty()) return;
    auto const ready = std::ranges::find_if(
        pending, [](Group const* group) { return !group->connection->idle_ok(); });
    if (ready != pending.end() || pending.size() == 1) {
      receive_one(ready != pending.end() ? **ready : *pending.front());
      pause = kFirstPause;
    } else if (SteadyClock::now() >= answer_by_) {
      for (auto* const group : pending) {
        fail(*group, Error{ErrorCode::kTimeout, "the deadline passed, node " + group->host.name +
                                                    ":" + std::to_string(group->host.port) +
                                                    " has not answered"});
      }
    } else {
      std::this_thread::sleep_for(pause);
      pause = std::min(pause * 2, kLongestPause);
    }
  }
}

void RedisRounds::receive_one(Group& group) {
  auto& order = group.orders[group.answered];
  auto& reader = group.connection->reader();
  if (order.asking) {
    // If it is refused, so is the command after it.
    if (auto ok = reader.read_value(answer_by_); !ok) return fail(group, std::move(ok).error());
  }
  auto reply = work_.receive(reader, order.item, answer_by_);
  if (!reply) return fail(group, std::move(reply).error());
  ++group.answered;
  alive_ = true;
  nodes_.note_answer(group.host);
  auto const& [outcome, error] = reply.value();
  auto const to = error ? parse_redirect(*error, group.host) : std::nullopt;
  if (!to) return work_.done(order.item, outcome);
  redirect(group, std::move(order), *to);
}

void RedisRounds::redirect(Group& group, Order order, SlotRedirect const& to) {
  if (order.redirections++ == kMostRedirections) {
    failed_.push_back(order.item);
    return;
  }
  order.at = to.host;
  order.asking = to.kind == SlotRedirect::Kind::kAsk;
  if (order.asking) {
    if (work_.on_ask) work_.on_ask(order.item, to.host);
  } else {
    group.moved = true;
    moved_to_ = to.host;
    nodes_.map().set(to.slot, to.host);
  }
  waiting_.push_back(std::move(order));
}

void RedisRounds::fail(Group& group, Error error) {
  group.connection = nullptr;
  bool const late = error.code() == ErrorCode::kTimeout;
  if (late) {
    nodes_.rest(group.host, SteadyClock::now() - started_);
  } else {
    nodes_.drop(group.host);
  }
  last_error_ = std::move(error);
  look_again_ = true;
  for (auto& order : std::span{group.orders}.subspan(group.answered)) {
    if (late) {
      failed_.push_back(order.item);
    } else {
      try_again_or_fail(std::move(order));
    }
  }
}

void RedisRounds::try_again_or_fail(Order order) {
  look_again_ = true;
  if (order.tried_again) {
    failed_.push_back(order.item);
    return;
  }
  order.tried_again = true;
  order.at.reset();
  order.asking = false;
  waiting_.push_back(std::move(order));
}

void RedisRounds::learn() {
  bool const believed = SteadyClock::now() - nodes_.refreshed_at() < kBelieved;
  if (!moved_to_ && (!look_again_ || (believed && alive_))) return;
  auto const* const first = moved_to_ ? &*moved_to_ : nullptr;
  if (auto learnt = nodes_.refresh(first, deadline_)) {
    alive_ = true;
  } else {
    last_error_ = std::move(learnt).error();
  }
  moved_to_.reset();
  look_again_ = false;
}

}  // namespace lmcache::detail
