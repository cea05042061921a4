// SPDX-License-Identifier: Apache-2.0
// What the tests of the transport cannot show: how often something is sent.
#include "tier/remote/redis_rounds.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "support/must.hpp"
#include "support/redis_cluster.hpp"

namespace lmcache::detail {
namespace {

using namespace std::chrono_literals;
using test::must;
using test::RedisCluster;
using test::RedisServer;

Deadline soon() { return std::chrono::steady_clock::now() + 20s; }

#define LMC_NEEDS_REDIS() \
  if (!RedisServer::is_installed()) GTEST_SKIP() << "there is no redis-server in PATH"

// STRLEN of some names.
struct Lengths {
  explicit Lengths(std::vector<std::string> which) : names{std::move(which)} {
    outcomes.resize(names.size());
    sent.resize(names.size());
  }
  Result<void> run(RedisNodes& nodes) {
    KeyedWork const work{
        .count = static_cast<std::uint32_t>(names.size()),
        .slot = [&](std::uint32_t item) { return redis_slot(names[item]); },
        .add =
            [&](RespBatch& batch, std::uint32_t item) {
              ++sent[item];
              batch.begin(2).arg("STRLEN").arg(names[item]);
            },
        .receive = [](RespReader& reader, std::uint32_t, Deadline until) -> Result<ValueReply> {
          LMC_TRY_ASSIGN(auto const reply, reader.read_value(until));
          if (!reply.is_error()) return ValueReply{};
          return ValueReply{.outcome = TierOutcome::kIoError, .error = reply.text};
        },
        .done = [&](std::uint32_t item, TierOutcome outcome) { outcomes[item] = outcome; },
        .asked_before = [&](std::uint32_t) { return before ? &*before : nullptr; }};
    return RedisRounds{nodes, work, soon()}.run();
  }
  std::vector<std::string> names;
  std::vector<std::optional<TierOutcome>> outcomes;
  std::vector<int> sent;
  std::optional<RedisUrl::Host> before;
};

TEST(RedisRounds, SendsEachOnceWhereNothingMoves) {
  LMC_NEEDS_REDIS();
  RedisCluster cluster;
  RedisNodes nodes{cluster.url()};
  Lengths lengths{{"foo", "bar", "123456789"}};
  must(lengths.run(nodes));
  EXPECT_EQ(lengths.sent, (std::vector<int>{1, 1, 1})) << "the map was learnt first";
  for (auto const& outcome : lengths.outcomes) EXPECT_EQ(outcome, TierOutcome::kDone);
  must(Lengths{{}}.run(nodes));
}

TEST(RedisRounds, GivesUpWhenTwoNodesPointAtEachOther) {
  LMC_NEEDS_REDIS();
  RedisCluster cluster;
  auto const slot = redis_slot("foo");
  auto const owner = cluster.first_owner(slot);
  auto const other = (owner + 1) % 3;
  // Only one of them is told.
  cluster.ok(owner, {"CLUSTER", "SETSLOT", std::to_string(slot), "NODE", cluster.id(other)});
  RedisNodes nodes{cluster.url()};
  Lengths lengths{{"foo"}};
  must(lengths.run(nodes));
  EXPECT_EQ(lengths.outcomes[0], TierOutcome::kIoError);
  EXPECT_EQ(lengths.sent[0], RedisRounds::kMostRedirections + 1);
}

TEST(RedisRounds, ASlotThatNobodyHasIsAFailureOfItsOwn) {
  LMC_NEEDS_REDIS();
  RedisCluster cluster;
  auto const slot = std::to_string(redis_slot("foo"));
  for (std::uint32_t node = 0; node < 3; ++node) cluster.ok(node, {"CLUSTER", "DELSLOTS", slot});
  RedisNodes nodes{cluster.url()};
  Lengths lengths{{"foo", "bar"}};
  must(lengths.run(nodes));
  EXPECT_EQ(lengths.outcomes[0], TierOutcome::kIoError);
  EXPECT_EQ(lengths.outcomes[1], TierOutcome::kDone);
  EXPECT_EQ(lengths.sent[0], 0);
}

TEST(RedisRounds, AWrongHintIsCorrected) {
  LMC_NEEDS_REDIS();
  RedisCluster cluster;
  RedisNodes nodes{cluster.url()};
  must(nodes.refresh(nullptr, soon()));
  Lengths lengths{{"foo"}};
  lengths.before = cluster.host((cluster.first_owner(redis_slot("foo")) + 1) % 3);
  must(lengths.run(nodes));
  EXPECT_EQ(lengths.outcomes[0], TierOutcome::kDone);
  EXPECT_EQ(lengths.sent[0], 2);
}

}  // namespace
}  // namespace lmcache::detail
