// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <lmcache/engine/engine.hpp>

#include "engine/shared_scene.hpp"
#include "support/child_process.hpp"
#include "support/log_lines.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint32_t kNoLimit = std::numeric_limits<std::uint32_t>::max();
constexpr auto kPatience = EngineScene::kPatience;

std::uint32_t found(EngineScene& scene, TestPrompt const& prompt, std::uint32_t limit = kNoLimit) {
  return scene.engine->lookup(scene.space, scene.chain(prompt), limit).prefix_tokens();
}

std::string why_not(EngineOptions const& options) {
  auto const opened = Engine::open(options, {});
  if (opened) return "opened";
  EXPECT_EQ(opened.error().code(), ErrorCode::kInvalidArgument);
  return opened.error().message();
}

KvGeometry geometry_of(KvShape const& shape) {
  return {.dtype = "bfloat16", .layout = "test", .groups = {shape.group()}};
}

TEST(Engine, ServesFromTwoLanesExactToTheToken) {
  EngineScene scene{{.lanes = 2}};
  auto const prompt = simple_prompt(1, 107);
  auto const first = scene.serve(prompt);
  EXPECT_EQ(first.hit_tokens, 0u);
  EXPECT_EQ(first.stored_chunks, 8u);
  EXPECT_TRUE(first.in_time);
  for (std::uint32_t const tokens : {107u, 96u, 50u, 31u}) {
    auto const again = scene.serve(prompt.first(tokens));
    EXPECT_EQ(again.hit_tokens, tokens);
    EXPECT_TRUE(again.right && again.in_time) << tokens;
  }
  EXPECT_EQ(found(scene, prompt, 41), 41u);
  EXPECT_EQ(found(scene, simple_prompt(2, 107)), 0u);

  auto const counters = scene.engine->counters();
  EXPECT_EQ(counters.lookups, 7u);
  EXPECT_EQ(counters.hit_tokens, 107u + 96 + 50 + 31 + 41);
  EXPECT_EQ(counters.stored_chunks, 8u);
  EXPECT_EQ(counters.loaded_chunks, 2u * (4 + 3 + 2 + 1));
  EXPECT_EQ(counters.lost_stores(), 0u);
  EXPECT_GT(counters.lookup_ns, 0u);
}

TEST(Engine, AnUnknownViewIsAnErrorAndABadBlockCostsItsItemOnly) {
  EngineScene scene{{}};
  auto const refs = scene.engine->reserve(scene.space, scene.chain(simple_prompt(1, 64)),
                                          {.first_chunk = 0, .end_token = 64});
  auto items = scene.store_items(refs[0], scene.random_blocks(16));
  auto const refused = scene.engine->submit_store(scene.views[0] + 7, items);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kInvalidArgument);
  items[1].blocks[3] = KvShape{}.num_blocks;
  auto const job = must(scene.engine->submit_store(scene.views[0], items));
  ASSERT_TRUE(scene.engine->wait(job, kPatience));
  EXPECT_TRUE(scene.engine->poll(job));
  EXPECT_EQ(scene.engine->finish_job(job), std::vector<std::uint32_t>{1});
  EXPECT_TRUE(scene.engine->is_ready(refs[0][0]));
  EXPECT_FALSE(scene.engine->is_ready(refs[0][1]));
  auto const status = must(scene.engine->status());
  EXPECT_EQ(status.writing, 0u);
  EXPECT_EQ(status.leased, 0u);
}

TEST(Engine, AReservationThatIsCancelledIsFree) {
  EngineScene scene{{}};
  auto const keys = scene.chain(simple_prompt(1, 96));
  auto const refs = scene.engine->reserve(scene.space, keys, {.first_chunk = 0, .end_token = 96});
  EXPECT_EQ(must(scene.engine->status()).writing, 3u);
  // Another request with the same prompt has nothing to write.
  auto const second = scene.engine->reserve(scene.space, keys, {.first_chunk = 0, .end_token = 96});
  EXPECT_EQ(second[0], std::vector<ChunkRef>(3));
  scene.engine->cancel(refs[0]);
  EXPECT_EQ(must(scene.engine->status()).writing, 0u);
  auto counters = scene.engine->counters();
  EXPECT_EQ(counters.dropped(DropReason::kCancelled), 3u);
  EXPECT_EQ(scene.serve(simple_prompt(1, 96)).stored_chunks, 3u);
}

TEST(Engine, AHitKeepsItsChunksUntilItIsReleased) {
  EngineScene scene{{}};
  (void)scene.serve(simple_prompt(1, 64));
  (void)scene.serve(simple_prompt(2, 32));
  auto hit = scene.engine->lookup(scene.space, scene.chain(simple_prompt(1, 64)), kNoLimit);
  EXPECT_EQ(hit.chunk_count(), 2u);
  EXPECT_TRUE(hit.refs(1).empty());  // no such lane
  EXPECT_EQ(scene.engine->clear(), 1u);
  auto moved = std::move(hit);
  EXPECT_EQ(hit.prefix_tokens(), 0u);  // NOLINT(bugprone-use-after-move): that it is empty
  hit.release();
  EXPECT_EQ(must(scene.engine->status()).leased, 2u);
  moved = scene.engine->lookup(scene.space, scene.chain(simple_prompt(3, 64)), kNoLimit);
  EXPECT_EQ(must(scene.engine->status()).leased, 0u);  // what it held before
  EXPECT_EQ(scene.engine->clear(), 2u);
  EXPECT_EQ(must(scene.engine->status()).entries, 0u);
}

TEST(Engine, ClearsOneNamespace) {
  EngineScene scene{{}};
  auto const other = must(
      scene.engine->open_namespace({.model = "other", .chunk_tokens = 32}, geometry_of(KvShape{})));
  must(scene.engine->declare_lane(other, 0, KvShape{}.block_bytes()));
  (void)scene.serve(simple_prompt(1, 64));
  EXPECT_EQ(scene.engine->clear(other), 0u);
  EXPECT_EQ(found(scene, simple_prompt(1, 64)), 64u);
  EXPECT_EQ(scene.engine->clear(scene.space), 2u);
  EXPECT_EQ(found(scene, simple_prompt(1, 64)), 0u);
}

TEST(Engine, OpeningANamespaceTwiceGivesTheSame) {
  EngineScene scene{{}};
  auto const open = [&](NamespaceSpec const& spec, KvShape const& shape) {
    return must(scene.engine->open_namespace(spec, geometry_of(shape)));
  };
  auto const same = open({.model = "model", .chunk_tokens = 32}, {});
  EXPECT_EQ(same.slot, scene.space.slot);
  EXPECT_EQ(same.id, scene.space.id);
  EXPECT_EQ(same.root, scene.space.root);
  EXPECT_NE(open({.model = "model", .chunk_tokens = 32}, {.planes = 2}).root, same.root);
  EXPECT_NE(open({.model = "model", .chunk_tokens = 64}, {}).root, same.root);
  EXPECT_NE(open({.model = "model", .chunk_tokens = 32, .lora = "a"}, {}).id, same.id);
  auto const ranks = open({.model = "model", .chunk_tokens = 32, .world_size = 3}, {});
  EXPECT_EQ(ranks.lanes, 3u);
  EXPECT_EQ(must(scene.engine->status()).namespaces.size(), 5u);
}

TEST(Engine, NothingIsStoredBeforeAllLanesAreDeclared) {
  EngineScene scene{{}};
  auto const space = must(scene.engine->open_namespace(
      {.model = "late", .chunk_tokens = 32, .world_size = 2}, geometry_of(KvShape{})));
  auto chain = must(scene.engine->new_chain(space));
  must(chain.append(random_tokens(1, 32)));
  auto const reserve = [&] {
    return scene.engine->reserve(space, chain, {.first_chunk = 0, .end_token = 32});
  };
  EXPECT_FALSE(scene.engine->declare_lane(space, 2, 384));
  must(scene.engine->declare_lane(space, 0, 384));
  EXPECT_EQ(scene.engine->lane_block_bytes(space), (std::vector<std::uint64_t>{384, 0}));
  EXPECT_FALSE(reserve()[0][0]);
  auto counters = scene.engine->counters();
  EXPECT_EQ(counters.dropped(DropReason::kLaneUndeclared), 2u);  // one a lane
  must(scene.engine->declare_lane(space, 1, 192));
  auto const refs = reserve();
  EXPECT_TRUE(refs[0][0] && refs[1][0]);
}

TEST(Engine, WrongOptionsAreNamed) {
  EXPECT_NE(why_not({.capacity_bytes = 8u << 20, .eviction = "best"}).find("policy 'best'"),
            std::string::npos);
  EXPECT_NE(why_not({.segment = "a/b", .capacity_bytes = 8u << 20}).find("a/b"), std::string::npos);
  EXPECT_NE(why_not({.capacity_bytes = 8u << 20, .copy_threads = 100'000})
                .find("copy threads must be 1..256"),
            std::string::npos);
  EXPECT_NE(why_not({.capacity_bytes = 0}).find("too small"), std::string::npos);

  EngineScene scene{{}};
  auto const odd =
      scene.engine->open_namespace({.model = "model", .chunk_tokens = 30}, geometry_of(KvShape{}));
  ASSERT_FALSE(odd);
  EXPECT_EQ(odd.error().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(odd.error().message(), "chunk_size 30 is not a multiple of the engine's block size 4");
  EXPECT_FALSE(scene.engine->open_namespace({.model = "model"}, {.dtype = "f", .layout = "x"}));
  EXPECT_FALSE(scene.engine->open_namespace({.model = ""}, geometry_of(KvShape{})));
  EXPECT_EQ(must(scene.engine->status()).namespaces.size(), 1u);
}

TEST(Engine, CountsWhatTheServingEngineMeasured) {
  EngineScene scene{{}};
  scene.engine->count_prefill(100, 5000);
  scene.engine->count_request({.prompt_tokens = 70, .hit_tokens = 60, .load_ns = 9});
  scene.engine->count_request({.prompt_tokens = 30, .hit_tokens = 0, .load_ns = 0});
  auto const counters = scene.engine->counters();
  EXPECT_EQ(counters.prefill_tokens, 100u);
  EXPECT_EQ(counters.prefill_ns, 5000u);
  EXPECT_EQ(counters.requests, 2u);
  EXPECT_EQ(counters.request_tokens, 100u);
  EXPECT_EQ(counters.request_hit_tokens, 60u);
  EXPECT_EQ(counters.request_load_ns, 9u);
}

TEST(Engine, TwoInOneProcessShareASegment) {
  TempDirectory const directory;
  auto writer = std::make_unique<EngineScene>(shared_shape(directory), 1);
  EngineScene reader{shared_shape(directory), 2};
  auto const prompt = simple_prompt(1, 90);
  EXPECT_EQ(writer->serve(prompt).stored_chunks, 3u);
  auto const served = reader.serve(prompt);
  EXPECT_EQ(served.hit_tokens, 90u);
  EXPECT_TRUE(served.right);
  EXPECT_EQ(must(reader.engine->status()).processes.size(), 2u);
  EXPECT_EQ(reader.engine->counters().stored_chunks, 0u);
  // The leases of one are not given back with those of the other.
  auto const hit = reader.engine->lookup(reader.space, reader.chain(prompt), kNoLimit);
  auto theirs = writer->engine->lookup(writer->space, writer->chain(prompt), kNoLimit);
  theirs.forget();
  writer.reset();
  EXPECT_EQ(must(reader.engine->status()).processes.size(), 1u);
  EXPECT_EQ(must(reader.engine->status()).leased, 3u);
  EXPECT_EQ(reader.engine->clear(), 0u);
}

TEST(Engine, PrivateMemoryIsSharedWithNobody) {
  EngineScene one{{}};
  EngineScene other{{}};
  (void)one.serve(simple_prompt(1, 64));
  EXPECT_EQ(found(other, simple_prompt(1, 64)), 0u);
  EXPECT_EQ(must(other.engine->status()).path, "");
}

TEST(Engine, TheLastToLeaveRemovesTheSegment) {
  TempDirectory const directory;
  auto first = std::make_unique<EngineScene>(shared_shape(directory, false));
  auto second = std::make_unique<EngineScene>(shared_shape(directory, false));
  (void)first->serve(simple_prompt(1, 64));
  first.reset();
  EXPECT_TRUE(std::filesystem::exists(shared_path(directory)));
  EXPECT_EQ(found(*second, simple_prompt(1, 64)), 64u);
  second.reset();
  EXPECT_EQ(directory.file_count(), 0u);
}

TEST(Engine, ASegmentThatIsKeptIsThereForTheNext) {
  TempDirectory const directory;
  auto const prompt = simple_prompt(1, 75);
  (void)EngineScene{shared_shape(directory)}.serve(prompt);
  EXPECT_EQ(directory.file_count(), 1u);
  EngineScene next{shared_shape(directory), 2};
  auto const served = next.serve(prompt);
  EXPECT_EQ(served.hit_tokens, 75u);
  EXPECT_TRUE(served.right);
}

TEST(Engine, AskingForAnotherSizeIsSaidOnceAndChangesNothing) {
  TempDirectory const directory;
  EngineScene const first{shared_shape(directory)};
  auto shape = shared_shape(directory);
  LogLines quiet;
  {
    EngineScene const same{shape, 1, quiet.hook()};
  }
  EXPECT_EQ(quiet.lines(), std::vector<std::string>{});
  shape.options.capacity_bytes = 64u << 20;
  LogLines log;
  EngineScene const other{shape, 1, log.hook()};
  auto const lines = log.lines();
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_NE(lines[0].find("exists with 8 MB; the 67 MB asked for"), std::string::npos) << lines[0];
  EXPECT_EQ(must(other.engine->status()).capacity_bytes, 8u << 20);
}

TEST(Engine, ClosingFinishesTheJobsUnderWayAndGivesBackTheRest) {
  TempDirectory const directory;
  EngineScene observer{shared_shape(directory), 2};
  auto const prompt = simple_prompt(1, 640);
  {
    EngineScene scene{shared_shape(directory)};
    auto const table = scene.random_blocks(160);
    scene.memory[0]->compute(scene.states(prompt), 0, 640, table);
    auto const refs = scene.engine->reserve(scene.space, scene.chain(prompt),
                                            {.first_chunk = 0, .end_token = 640});
    (void)must(scene.engine->submit_store(scene.views[0], scene.store_items(refs[0], table)));
    (void)scene.engine->reserve(scene.space, scene.chain(simple_prompt(2, 64)),
                                {.first_chunk = 0, .end_token = 64});
    scene.engine.reset();  // before the memory that the copies read
  }
  auto const status = must(observer.engine->status());
  EXPECT_EQ(status.ready, 20u);
  EXPECT_EQ(status.writing, 0u);
  EXPECT_EQ(status.leased, 0u);
  auto const served = observer.serve(prompt);
  EXPECT_EQ(served.hit_tokens, 640u);
  EXPECT_TRUE(served.right);
}

TEST(Engine, WhatACrashedProcessHeldIsTakenBackByAnother) {
  TempDirectory const directory;
  Milestone ready;
  auto const prompt = simple_prompt(1, 100);
  ChildProcess child{[&] {
    EngineScene scene{shared_shape(directory, false)};
    (void)scene.serve(prompt);
    auto const hit = scene.engine->lookup(scene.space, scene.chain(prompt), kNoLimit);
    (void)scene.engine->reserve(scene.space, scene.chain(simple_prompt(2, 64)),
                                {.first_chunk = 0, .end_token = 64});
    ready.reach();
    wait_to_be_killed();
    return 0;
  }};
  ready.await();
  {
    EngineScene scene{shared_shape(directory, false), 2};
    EXPECT_EQ(must(scene.engine->status()).writing, 2u);
    child.kill();
    EXPECT_TRUE(eventually([&] { return must(scene.engine->status()).processes.size() == 1; }));
    auto const status = must(scene.engine->status());
    EXPECT_EQ(status.total.reaped_processes, 1u);
    EXPECT_EQ(status.total.stored_chunks, 4u);  // what it did still counts
    EXPECT_EQ(status.writing, 0u);
    EXPECT_EQ(status.leased, 0u);
    auto const served = scene.serve(prompt);
    EXPECT_EQ(served.hit_tokens, 100u);
    EXPECT_TRUE(served.right);
  }
  EXPECT_EQ(directory.file_count(), 0u);
}

TEST(Engine, AForkEndsWithoutIt) {
  EngineScene scene{{}};
  TestPrompt const prompt{.tokens = random_tokens(1, 64), .items = {}};
  EXPECT_EQ(scene.serve(prompt).stored_chunks, 2u);
  ChildProcess child{[&] {
    scene.engine.reset();
    return 0;
  }};
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(scene.serve(prompt).hit_tokens, 64u);
}

TEST(Engine, FourThreadsAtOnce) {
  EngineScene scene{{}};
  auto& engine = *scene.engine;
  // Prompts of which half are everybody's.
  auto const run = [&](std::uint64_t thread) {
    KvMemory memory{KvShape{}};
    auto const view = must(engine.register_view(memory.view()));
    std::vector<std::uint32_t> table(38);
    for (std::uint32_t i = 0; i < 38; ++i) table[i] = i * 37 % 256;
    bool right = true;
    for (std::uint64_t round = 0; round < 30; ++round) {
      auto const prompt = simple_prompt(round % 2 == 0 ? round : 100 * thread + round, 150);
      auto const states = scene.states(prompt);
      auto const keys = scene.chain(prompt);
      {
        auto const hit = engine.lookup(scene.space, keys, kNoLimit);
        memory.wipe();
        auto const job = must(engine.submit_load(view, scene.load_items(hit, 0, table)));
        right &= engine.wait(job, kPatience) && engine.finish_job(job).empty();
        right &= !memory.first_wrong(states, 0, hit.prefix_tokens(), table).has_value();
      }
      memory.compute(states, 0, prompt.size(), table);
      auto const refs = engine.reserve(scene.space, keys, {.first_chunk = 0, .end_token = 150});
      auto const job = must(engine.submit_store(view, scene.store_items(refs[0], table)));
      right &= engine.wait(job, kPatience) && engine.finish_job(job).empty();
    }
    engine.unregister_view(view);
    return right;
  };
  std::vector<int> right(4);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < right.size(); ++i)
    threads.emplace_back([&, i] { right[i] = run(i + 1) ? 1 : 0; });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(right, std::vector<int>(4, 1));
  auto const status = must(engine.status());
  EXPECT_EQ(status.ready, (15u + 4 * 15) * 5);
  EXPECT_EQ(status.writing, 0u);
  EXPECT_EQ(status.leased, 0u);
  EXPECT_EQ(status.total.lost_stores(), 0u);
}

}  // namespace
}  // namespace lmcache::test
