// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/remote_side.hpp>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "support/log_lines.hpp"
#include "support/remote_engine_scene.hpp"

namespace lmcache::test {
namespace {

using namespace std::chrono_literals;
using Scene = RemoteEngineScene;

// Chunks of half a megabyte.
EngineShape large_chunks() {
  return {.kv = {.token_bytes = 4096, .num_blocks = 128},
          .options = {.capacity_bytes = 128u << 20, .copy_threads = 1}};
}

TEST(RemoteSide, WhatOneNodeStoredTheOtherFetches) {
  LMC_NEEDS_REDIS();
  for (std::string const serde : {"msgpack", "naive"}) {
    EngineShape shape{.lanes = 2};
    shape.options.remote_serde = serde;
    Scene nodes{shape};
    auto const prompt = simple_prompt(1, 107);
    EXPECT_EQ(nodes.one->serve(prompt).stored_chunks, 8u);
    ASSERT_TRUE(Scene::drain(*nodes.one));
    auto const written = nodes.one->engine->counters();
    EXPECT_EQ(written.remote_written_chunks, 8u);
    EXPECT_GT(written.remote_written_bytes, 0u);
    EXPECT_EQ(Scene::in_memory(*nodes.two, prompt), 0u);
    EXPECT_EQ(Scene::fetch(*nodes.two, prompt), 107u);
    auto const again = nodes.two->serve(prompt);
    EXPECT_EQ(again.hit_tokens, 107u);
    EXPECT_TRUE(again.right && again.in_time);
    auto const read = nodes.two->engine->counters();
    EXPECT_EQ(read.remote_lookups, 1u);
    EXPECT_EQ(read.remote_lookup_chunks, 8u);
    EXPECT_EQ(read.remote_found_chunks, 8u);
    EXPECT_EQ(read.remote_read_chunks, 8u);
    EXPECT_EQ(read.remote_read_bytes, written.remote_written_bytes);
    EXPECT_EQ(read.remote_hit_tokens, 107u);
    // What came from there is not written again.
    ASSERT_TRUE(Scene::drain(*nodes.two));
    EXPECT_EQ(nodes.two->engine->counters().remote_written_chunks, 0u);
    EXPECT_TRUE(Scene::is_at_rest(*nodes.two));
  }
}

TEST(RemoteSide, AskedForAPromptThatNobodyStoredItSaysSo) {
  LMC_NEEDS_REDIS();
  Scene nodes;
  auto const prompt = simple_prompt(1, 107);
  EXPECT_EQ(Scene::fetch(*nodes.two, prompt), 0u);
  EXPECT_EQ(Scene::fetch(*nodes.two, prompt), 0u);
  auto const counters = nodes.two->engine->counters();
  EXPECT_EQ(counters.remote_lookups, 1u) << "the answer is remembered";
  EXPECT_EQ(counters.remote_found_chunks, 0u);
}

TEST(RemoteSide, ALongerPromptIsFetchedAsFarAsItGoes) {
  LMC_NEEDS_REDIS();
  Scene nodes;
  auto const prompt = simple_prompt(1, 96);
  nodes.one->serve(prompt);
  ASSERT_TRUE(Scene::drain(*nodes.one));
  auto longer = prompt;
  auto const rest = simple_prompt(2, 64);
  longer.tokens.insert(longer.tokens.end(), rest.tokens.begin(), rest.tokens.end());
  EXPECT_EQ(Scene::fetch(*nodes.two, longer), 96u);
}

TEST(RemoteSide, WhatCameFromThereIsKeptOnDisk) {
  LMC_NEEDS_REDIS();
  Scene nodes;
  auto const prompt = simple_prompt(1, 107);
  nodes.one->serve(prompt);
  ASSERT_TRUE(Scene::drain(*nodes.one));
  auto shape = nodes.shape();
  shape.options.disk_folders = {nodes.folder / "disk"};
  shape.options.disk_memory_folder = nodes.folder.path();
  shape.options.disk_bytes = 64u << 20;
  auto node = nodes.open(shape);
  EXPECT_EQ(Scene::fetch(*node, prompt), 107u);
  ASSERT_TRUE(Scene::drain(*node));
  EXPECT_EQ(node->engine->counters().disk_written_chunks, 4u);
  // The disk gives it back when both memory and the server are gone.
  node.reset();
  nodes.server.kill();
  node = std::make_unique<EngineScene>(shape);
  EXPECT_EQ(Scene::fetch(*node, prompt), 107u);
  auto const served = node->serve(prompt);
  EXPECT_TRUE(served.right);
  EXPECT_EQ(served.hit_tokens, 107u);
  EXPECT_EQ(node->engine->counters().disk_read_chunks, 4u);
}

TEST(RemoteSide, WhatAnotherNodeWroteIsNotWrittenAgain) {
  LMC_NEEDS_REDIS();
  Scene nodes;
  auto const prompt = simple_prompt(1, 96);
  nodes.one->serve(prompt);
  ASSERT_TRUE(Scene::drain(*nodes.one));
  EXPECT_EQ(nodes.two->serve(prompt).stored_chunks, 3u);
  ASSERT_TRUE(Scene::drain(*nodes.two));
  auto const counters = nodes.two->engine->counters();
  EXPECT_EQ(counters.remote_known_chunks, 3u);
  EXPECT_EQ(counters.remote_written_chunks, 0u);
  EXPECT_EQ(counters.remote_dropped_writes, 0u);
  EXPECT_TRUE(Scene::is_at_rest(*nodes.two));
}

TEST(RemoteSide, BeyondTheBudgetItDropsAndCountsAndNeverWaits) {
  LMC_NEEDS_REDIS();
  EngineShape shape;
  shape.options.write_behind_bytes = 1;  // one chunk at a time
  shape.options.remote_timeout_ms = 60'000;
  Scene nodes{shape};
  nodes.server.pause();
  EXPECT_EQ(nodes.one->serve(simple_prompt(1, 320)).stored_chunks, 10u);
  EXPECT_GE(nodes.one->engine->counters().remote_dropped_writes, 9u);
  nodes.server.resume();
  // Once more when there is room.
  EXPECT_TRUE(eventually([&] {
    auto const counters = nodes.one->engine->counters();
    return counters.remote_written_chunks == 10 && counters.remote_dropped_writes >= 9;
  }));
  EXPECT_TRUE(Scene::is_at_rest(*nodes.one));
}

TEST(RemoteSide, AServerThatIsGoneIsAMiss) {
  LMC_NEEDS_REDIS();
  Scene nodes;
  auto const prompt = simple_prompt(1, 96);
  nodes.one->serve(prompt);
  ASSERT_TRUE(Scene::drain(*nodes.one));
  nodes.server.kill();
  EXPECT_EQ(Scene::fetch(*nodes.two, prompt), 0u);
  auto const served = nodes.two->serve(prompt);
  EXPECT_EQ(served.stored_chunks, 3u);
  EXPECT_TRUE(served.in_time);
  EXPECT_TRUE(eventually([&] { return Scene::state_of(*nodes.two) == "unavailable"; }));
  EXPECT_GE(must(nodes.two->engine->status()).processes[0].remote_failures, 1u);
  EXPECT_TRUE(Scene::is_at_rest(*nodes.two));
  nodes.server.restart();
  EXPECT_TRUE(Scene::server_answers(*nodes.two));
  // What could not be sent, and is still in memory.
  EXPECT_TRUE(eventually([&] { return nodes.two->engine->counters().remote_written_chunks == 3; }));
  EXPECT_TRUE(eventually([&] { return Scene::fetch(*nodes.one, prompt) == 96; }));
  EXPECT_TRUE(Scene::is_at_rest(*nodes.two));
}

TEST(RemoteSide, WhatMemoryLostMeanwhileIsNotSentLater) {
  LMC_NEEDS_REDIS();
  Scene nodes;
  nodes.server.kill();
  nodes.two->serve(simple_prompt(1, 96));
  EXPECT_TRUE(eventually([&] { return Scene::state_of(*nodes.two) == "unavailable"; }));
  nodes.two->serve(simple_prompt(2, 96));
  EXPECT_EQ(nodes.two->engine->clear(), 6u);
  nodes.two->serve(simple_prompt(3, 96));
  nodes.server.restart();
  EXPECT_TRUE(Scene::server_answers(*nodes.two));
  EXPECT_TRUE(eventually([&] { return nodes.two->engine->counters().remote_written_chunks == 3; }));
  EXPECT_EQ(RawRedis{nodes.server}.call({"DBSIZE"}).integer, 3);
}

TEST(RemoteSide, AServerKilledWhileMuchIsFetchedLeavesNothingBehind) {
  LMC_NEEDS_REDIS();
  for (int round = 0; round < 4; ++round) {
    Scene nodes{large_chunks()};
    std::vector<TestPrompt> prompts;
    for (std::uint64_t seed = 0; seed < 6; ++seed) prompts.push_back(simple_prompt(seed, 320));
    for (auto const& prompt : prompts) {
      nodes.one->serve(prompt);
      ASSERT_TRUE(Scene::drain(*nodes.one));
    }
    std::vector<std::optional<Fetch>> fetches;
    for (auto const& prompt : prompts) fetches.push_back(Scene::start(*nodes.two, prompt));
    // At the first chunks, in the middle, or after all.
    std::uint64_t const begun = static_cast<std::uint64_t>(round) * 15;
    EXPECT_TRUE(
        eventually([&] { return nodes.two->engine->counters().remote_read_chunks >= begun; }));
    nodes.server.kill();
    for (auto& fetch : fetches) {
      EXPECT_TRUE(!fetch || fetch->wait(EngineScene::kPatience));
      if (fetch) fetch->release();
    }
    EXPECT_TRUE(Scene::is_at_rest(*nodes.two));
    for (auto const& prompt : prompts) {
      auto const served = nodes.two->serve(prompt);
      EXPECT_TRUE(served.right && served.in_time);
    }
    EXPECT_EQ(nodes.two->engine->counters().remote_corrupt_chunks, 0u);
    EXPECT_TRUE(Scene::is_at_rest(*nodes.two));
  }
}

TEST(RemoteSide, WhatTheServerForgotIsAMiss) {
  LMC_NEEDS_REDIS();
  EngineShape shape;
  shape.options.remote_lookup_kept_ms = 100;
  Scene nodes{shape};
  auto const prompt = simple_prompt(1, 96);
  nodes.one->serve(prompt);
  ASSERT_TRUE(Scene::drain(*nodes.one));
  ASSERT_EQ(Scene::fetch(*nodes.two, prompt), 96u);
  RawRedis raw{nodes.server};
  raw.call({"FLUSHALL"});
  EXPECT_EQ(nodes.two->engine->clear(), 3u);
  auto const asked = nodes.two->engine->counters().remote_lookups;
  // First on the strength of what the server said before, then of what it says now.
  EXPECT_TRUE(eventually([&] {
    EXPECT_EQ(Scene::fetch(*nodes.two, prompt), 0u);
    return nodes.two->engine->counters().remote_lookups > asked;
  }));
  auto const counters = nodes.two->engine->counters();
  EXPECT_EQ(counters.remote_read_errors, 0u);
  EXPECT_EQ(counters.remote_corrupt_chunks, 0u);
  EXPECT_TRUE(Scene::is_at_rest(*nodes.two));
}

TEST(RemoteSide, ADamagedChunkIsAMissAndCounted) {
  LMC_NEEDS_REDIS();
  Scene nodes;
  auto const prompt = simple_prompt(1, 96);
  nodes.one->serve(prompt);
  ASSERT_TRUE(Scene::drain(*nodes.one));
  RawRedis raw{nodes.server};
  auto const chain = nodes.one->chain(prompt);
  auto const mask = must(lane_mask(nodes.one->space.root, {.rank = 0, .world_size = 1}));
  auto const name = redis_key(chain.keys()[1] ^ mask);
  auto value = raw.call({"GET", name}).text;
  ASSERT_GT(value.size(), 1000u);
  value[1000] = static_cast<char>(value[1000] ^ 4);
  raw.call({"SET", name, value});
  EXPECT_EQ(Scene::fetch(*nodes.two, prompt), 32u);
  EXPECT_EQ(nodes.two->engine->counters().remote_corrupt_chunks, 1u);
  EXPECT_TRUE(nodes.two->serve(prompt).right);
  EXPECT_TRUE(Scene::is_at_rest(*nodes.two));
}

TEST(RemoteSide, ClosingDoesNotWaitForAServerThatHangs) {
  LMC_NEEDS_REDIS();
  Scene nodes{large_chunks()};
  std::vector<TestPrompt> prompts;
  for (std::uint64_t seed = 0; seed < 4; ++seed) prompts.push_back(simple_prompt(seed, 320));
  for (auto const& prompt : prompts) nodes.one->serve(prompt);
  ASSERT_TRUE(Scene::drain(*nodes.one));
  ASSERT_EQ(Scene::fetch(*nodes.two, prompts[0].first(32)), 32u);
  nodes.server.pause();
  {
    std::vector<std::optional<Fetch>> fetches;
    for (auto const& prompt : prompts) fetches.push_back(Scene::start(*nodes.two, prompt));
    nodes.two->serve(simple_prompt(99, 320));
  }
  auto const started = std::chrono::steady_clock::now();
  nodes.two.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - started, 5s);
  nodes.server.resume();
}

TEST(RemoteSide, KeysExpireAsChunksDo) {
  LMC_NEEDS_REDIS();
  EngineShape shape;
  shape.options.ttl_seconds = 600;
  Scene nodes{shape};
  nodes.one->serve(simple_prompt(1, 96));
  ASSERT_TRUE(Scene::drain(*nodes.one));
  RawRedis raw{nodes.server};
  auto const names = raw.call({"KEYS", "lmcache:1:*"}).items;
  ASSERT_EQ(names.size(), 3u);
  for (auto const& name : names) {
    auto const ttl = raw.call({"TTL", name.text}).integer;
    EXPECT_TRUE(ttl > 500 && ttl <= 600) << ttl;
  }
}

TEST(RemoteSide, WrongOptionsAreRefused) {
  for (bool const url : {true, false}) {
    EngineOptions options{.capacity_bytes = 16u << 20, .copy_threads = 1};
    options.remote_url = url ? "http://127.0.0.1" : "redis://127.0.0.1";
    options.remote_serde = url ? "msgpack" : "pickle";
    auto const opened = Engine::open(options, {});
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code(), ErrorCode::kInvalidArgument);
  }
}

TEST(RemoteSide, UserAndPasswordComeFromTheOptionsWhereTheUrlHasNone) {
  LMC_NEEDS_REDIS();
  RedisServer const server{{"--requirepass", "right"}};
  EngineShape shape;
  shape.options.remote_url = server.socket_url();
  shape.options.remote_password = "right";
  EngineScene node{shape};
  EXPECT_TRUE(Scene::server_answers(node));
}

}  // namespace
}  // namespace lmcache::test
