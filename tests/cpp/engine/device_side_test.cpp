// SPDX-License-Identifier: Apache-2.0
// The pool of a simulated device beside an engine. Where the bytes of a load came from is told by
// slots in DRAM that are spoilt in between.
#include <lmcache/engine/device_side.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "engine/cuda_engine_scene.hpp"
#include "engine/shared_scene.hpp"
#include "support/manual_clock.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint32_t kNoLimit = std::numeric_limits<std::uint32_t>::max();
using Scene = CudaEngineScene;
using Items = std::vector<std::uint32_t>;

struct Side : ::testing::Test {
  void open(std::uint64_t pool_chunks, int batch_version = 13) {
    scene = std::make_unique<Scene>(Scene::Options{.batch_version = batch_version,
                                                   .pool_chunks = pool_chunks,
                                                   .segment = "shared",
                                                   .directory = directory.path()});
    spoiler = must(DramTier::open(
        {.name = "shared", .directory = directory.path(), .capacity_bytes = 16u << 20}, clock, {}));
  }
  void store(TestPrompt const& prompt) {
    EXPECT_EQ(scene->engine->finish_job(scene->store(prompt, table(prompt))), Items{});
  }
  // Of another process, or of a disk: the pool knows nothing of it.
  void store_in_dram(TestPrompt const& prompt) {
    KvMemory host{scene->shape};
    host.compute(scene->states(prompt), 0, prompt.size(), table(prompt));
    auto const view = must(scene->engine->register_view(host.view()));
    auto const job = must(scene->engine->submit_store(view, scene->reserve(prompt, table(prompt))));
    ASSERT_TRUE(scene->engine->wait(job, Scene::kPatience));
    EXPECT_EQ(scene->engine->finish_job(job), Items{});
    scene->engine->unregister_view(view);
  }
  // Whatever was in the blocks is overwritten first.
  Items load(TestPrompt const& prompt) {
    scene->compute(scene->states(simple_prompt(999, prompt.size())), 0, table(prompt));
    auto const hit = scene->engine->lookup(scene->space, scene->chain(prompt), kNoLimit);
    EXPECT_EQ(hit.prefix_tokens(), prompt.size());
    auto const job = must(scene->engine->submit_load(
        scene->view, Scene::load_items(hit, table(prompt)), scene->stream()));
    EXPECT_TRUE(scene->engine->wait(job, Scene::kPatience));
    for (std::uint32_t plane = 0; plane < scene->shape.planes; ++plane)
      scene->attend(scene->states(prompt), table(prompt), plane);
    auto failed = scene->engine->finish_job(job);
    scene->sim.settle();
    return failed;
  }
  void spoil(TestPrompt const& prompt) {
    auto const hit = scene->engine->lookup(scene->space, scene->chain(prompt), kNoLimit);
    ASSERT_NE(hit.chunk_count(), 0u);
    for (auto const ref : hit.refs(0)) {
      auto const slot = spoiler->begin_read(ref);
      ASSERT_TRUE(slot);
      std::memset(slot->payload, 0x5a, slot->payload_bytes);
      ChunkRef const refs[] = {ref};
      spoiler->release(refs);
    }
  }
  [[nodiscard]] static Scene::Blocks table(TestPrompt const& prompt) {
    Scene::Blocks const all{3, 1, 4, 0, 5, 9, 2, 6, 8, 7, 11, 10};
    return {all.begin(), all.begin() + (prompt.size() + 3) / 4};
  }
  [[nodiscard]] ProcessStatus process() const {
    for (auto& process : must(scene->engine->status()).processes)
      if (process.device_capacity_bytes != 0) return process;
    return {};
  }
  [[nodiscard]] CountersSnapshot counters() const { return scene->engine->counters(); }
  [[nodiscard]] CudaStream foreground() const { return scene->sim.streams().at(1); }
  [[nodiscard]] CudaStream background() const { return scene->sim.streams().at(2); }

  TempDirectory directory;
  ManualClock clock;
  std::unique_ptr<Scene> scene;
  std::unique_ptr<DramTier> spoiler;
};

TEST_F(Side, WhatWasStoredIsLoadedFromThePool) {
  open(4);
  auto const prompt = simple_prompt(1, 20);  // two chunks and a tail
  store(prompt);
  EXPECT_EQ(process().device_capacity_bytes, 4 * Scene::kChunkBytes);
  EXPECT_EQ(process().device_chunks, 3u);
  EXPECT_EQ(process().device_used_bytes, 2 * Scene::kChunkBytes + Scene::kChunkBytes / 2);
  spoil(prompt);
  EXPECT_EQ(load(prompt), Items{});
  EXPECT_EQ(scene->wrong, 0);
  auto const counted = counters();
  EXPECT_EQ(counted.device_stored_chunks, 3u);
  EXPECT_EQ(counted.device_loaded_chunks, 3u);
  EXPECT_EQ(counted.device_loaded_tokens, 20u);
  EXPECT_EQ(counted.device_loaded_bytes, process().device_used_bytes);
  EXPECT_EQ(counted.loaded_chunks, 3u);
}

TEST_F(Side, EveryChunkIsInDramToo) {
  open(4);
  auto const prompt = simple_prompt(1, 16);
  store(prompt);
  KvMemory host{scene->shape};
  auto const view = must(scene->engine->register_view(host.view()));
  auto const hit = scene->engine->lookup(scene->space, scene->chain(prompt), kNoLimit);
  auto const job = must(scene->engine->submit_load(view, Scene::load_items(hit, table(prompt))));
  ASSERT_TRUE(scene->engine->wait(job, Scene::kPatience));
  EXPECT_EQ(host.first_wrong(scene->states(prompt), 0, 16, table(prompt)), std::nullopt);
  EXPECT_EQ(counters().device_loaded_chunks, 0u);
}

TEST_F(Side, WhatThePoolEvictedComesFromDram) {
  open(2);
  auto const first = simple_prompt(1, 16);
  auto const second = simple_prompt(2, 16);
  store(first);
  store(second);
  EXPECT_EQ(counters().device_evicted_chunks, 2u);
  spoil(second);
  EXPECT_EQ(load(second), Items{});
  EXPECT_EQ(load(first), Items{});
  EXPECT_EQ(scene->wrong, 0);
  EXPECT_EQ(counters().device_loaded_chunks, 2u);
  EXPECT_EQ(counters().loaded_chunks, 4u);
}

TEST_F(Side, WhatTheIndexForgotIsNotFoundAndWhatIsStoredAgainIsTheNewCopy) {
  open(8);
  auto const prompt = simple_prompt(1, 16);
  store(prompt);
  EXPECT_EQ(scene->engine->clear(), 2u);
  EXPECT_EQ(scene->engine->lookup(scene->space, scene->chain(prompt), kNoLimit).prefix_tokens(),
            0u);
  store(prompt);
  EXPECT_EQ(counters().device_stored_chunks, 4u);
  spoil(prompt);
  EXPECT_EQ(load(prompt), Items{});
  EXPECT_EQ(scene->wrong, 0);
}

TEST_F(Side, PartsOfChunksComeFromThePoolToo) {
  open(4);
  auto const prompt = simple_prompt(1, 16);
  store(prompt);
  spoil(prompt);
  auto const hit = scene->engine->lookup(scene->space, scene->chain(prompt), kNoLimit);
  // The second block of the second chunk goes where the test looks for tokens 0 to 3.
  std::vector<LoadItem> const items{{.ref = hit.refs(0)[1], .first_block = 1, .blocks = {3}}};
  auto const job = must(scene->engine->submit_load(scene->view, items, scene->stream()));
  ASSERT_TRUE(scene->engine->wait(job, Scene::kPatience));
  auto const states = scene->states(prompt);
  scene->attend({states.begin() + 12, states.end()}, {3}, 2);
  scene->sim.settle();
  EXPECT_EQ(scene->wrong, 0);
  EXPECT_EQ(counters().device_loaded_tokens, 4u);
}

TEST_F(Side, ACopyThatIsBeingReadIsNotOverwritten) {
  open(2);
  auto const read = simple_prompt(1, 16);
  auto const next = simple_prompt(2, 16);
  store(read);
  spoil(read);
  scene->sim.hold(foreground());
  {
    auto const hit = scene->engine->lookup(scene->space, scene->chain(read), kNoLimit);
    auto const job =
        must(scene->engine->submit_load(scene->view, Scene::load_items(hit, {3, 1, 4, 0})));
    scene->compute(scene->states(next), 0, {5, 9, 2, 6});
    auto const store = must(scene->engine->submit_store(
        scene->view, scene->reserve(next, {5, 9, 2, 6}), scene->stream()));
    ASSERT_TRUE(scene->engine->wait(store, Scene::kPatience));
    EXPECT_EQ(scene->engine->finish_job(store), Items{});
    EXPECT_EQ(counters().device_evicted_chunks, 0u);
    EXPECT_FALSE(scene->engine->poll(job));
    scene->sim.release(foreground());
    ASSERT_TRUE(scene->engine->wait(job, Scene::kPatience));
    EXPECT_EQ(scene->engine->finish_job(job), Items{});
  }
  for (std::uint32_t plane = 0; plane < 3; ++plane)
    scene->attend(scene->states(read), {3, 1, 4, 0}, plane);
  scene->sim.settle();
  EXPECT_EQ(scene->wrong, 0);
  EXPECT_EQ(load(next), Items{});  // it is in DRAM
  EXPECT_EQ(scene->wrong, 0);
}

TEST_F(Side, ACopyThatIsBeingWrittenIsNotRead) {
  open(4);
  auto const prompt = simple_prompt(1, 8);
  scene->sim.hold(background());
  scene->compute(scene->states(prompt), 0, table(prompt));
  auto const job = must(scene->engine->submit_store(
      scene->view, scene->reserve(prompt, table(prompt)), scene->stream()));
  EXPECT_EQ(process().device_chunks, 0u);
  scene->sim.release(background());
  ASSERT_TRUE(scene->engine->wait(job, Scene::kPatience));
  EXPECT_EQ(process().device_chunks, 1u);
}

TEST_F(Side, AStoreThatWasCancelledLeavesNothingInThePool) {
  open(4);
  auto const prompt = simple_prompt(1, 16);
  scene->sim.hold(scene->model_stream());
  scene->compute(scene->states(prompt), 0, table(prompt));
  auto const job = must(scene->engine->submit_store(
      scene->view, scene->reserve(prompt, table(prompt)), scene->stream()));
  std::thread cancels{[&] { scene->engine->cancel_job(job); }};
  scene->sim.release(scene->model_stream());
  cancels.join();
  auto const failed = scene->engine->finish_job(job);
  EXPECT_LE(process().device_chunks, 2u - failed.size());
  store(simple_prompt(2, 32));  // there is room for all of it
  EXPECT_EQ(process().device_chunks, 4u);
}

TEST_F(Side, ACopyThatFailedIsNeverResident) {
  open(16, 0);  // without batches each copy of the engine is a call
  std::uint64_t failures = 0;
  for (std::uint32_t call = 1; call <= 8; ++call) {
    auto const prompt = simple_prompt(call, 16);
    std::uint64_t const before = process().device_chunks;
    scene->compute(scene->states(prompt), 0, table(prompt));
    auto const items = scene->reserve(prompt, table(prompt));
    scene->sim.fail_call(call, CudaStatus::kInvalidValue, "cuMemcpyAsync");
    auto const job = must(scene->engine->submit_store(scene->view, items, scene->stream()));
    ASSERT_TRUE(scene->engine->wait(job, Scene::kPatience));
    scene->sim.stop_failing();
    if (!scene->engine->finish_job(job).empty()) {
      ++failures;
      EXPECT_EQ(process().device_chunks, before) << call;
      store(prompt);
    }
    EXPECT_EQ(process().device_chunks, 2 * call);
    spoil(prompt);
    EXPECT_EQ(load(prompt), Items{});
    EXPECT_EQ(scene->wrong, 0) << call;
  }
  EXPECT_GT(failures, 0u);
}

TEST_F(Side, AnErrorOfTheDeviceEndsThePool) {
  open(8);
  auto const kept = simple_prompt(1, 16);
  store(kept);
  EXPECT_EQ(process().device_chunks, 2u);
  auto const lost = simple_prompt(2, 16);
  auto const items = scene->reserve(lost, table(lost));
  scene->sim.hold(scene->model_stream());
  scene->compute({}, 0, {});
  auto const job = must(scene->engine->submit_store(scene->view, items, scene->stream()));
  scene->sim.fail_call(1, CudaStatus::kIllegalAddress);
  scene->sim.release(scene->model_stream());
  ASSERT_TRUE(scene->engine->wait(job, Scene::kPatience));
  EXPECT_EQ(scene->engine->finish_job(job), (Items{0, 1}));
  EXPECT_EQ(process().device_chunks, 2u);
  auto const hit = scene->engine->lookup(scene->space, scene->chain(kept), kNoLimit);
  EXPECT_FALSE(scene->engine->submit_load(scene->view, Scene::load_items(hit, table(kept))));
  EXPECT_EQ(process().device_chunks, 0u);
  EXPECT_EQ(process().device_used_bytes, 0u);
}

TEST_F(Side, MemoryThatTheDriverDoesNotGiveIsToldOnceAndDoneWithout) {
  open((std::uint64_t{512} << 20) / Scene::kChunkBytes);
  auto const lines = scene->lines();
  EXPECT_EQ(std::ranges::count_if(
                lines, [](auto const& line) { return line.find("no pool") != line.npos; }),
            1)
      << lines.size();
  auto const prompt = simple_prompt(1, 16);
  store(prompt);
  EXPECT_EQ(load(prompt), Items{});
  EXPECT_EQ(scene->wrong, 0);
  EXPECT_EQ(process().device_capacity_bytes, 0u);
  EXPECT_EQ(counters().device_loaded_chunks, 0u);
}

TEST_F(Side, WhatWasLoadedFromDramTwiceIsPromoted) {
  open(4);
  auto const prompt = simple_prompt(1, 20);
  store_in_dram(prompt);
  EXPECT_EQ(load(prompt), Items{});
  EXPECT_EQ(process().device_chunks, 0u);
  EXPECT_EQ(load(prompt), Items{});
  ASSERT_TRUE(eventually([&] { return process().device_chunks == 3; }));
  ASSERT_TRUE(eventually([&] { return must(scene->engine->status()).leased == 0; }));
  EXPECT_EQ(counters().device_stored_chunks, 3u);
  spoil(prompt);
  EXPECT_EQ(load(prompt), Items{});
  EXPECT_EQ(counters().device_loaded_chunks, 3u);
  EXPECT_EQ(scene->wrong, 0);
}

TEST_F(Side, ChunksAreLeasedWhileTheyArePromotedAndEnginesEndWithThemUnderWay) {
  open(4);
  auto const prompt = simple_prompt(1, 16);
  store_in_dram(prompt);
  EXPECT_EQ(load(prompt), Items{});
  scene->sim.hold(background());
  EXPECT_EQ(load(prompt), Items{});
  EXPECT_EQ(must(scene->engine->status()).leased, 2u);
  EXPECT_EQ(scene->engine->clear(), 0u);
  std::thread ends{[&] { scene->engine.reset(); }};
  scene->sim.release(background());
  ends.join();
  EXPECT_EQ(scene->wrong, 0);
  EXPECT_EQ(scene->held_by_engine(), 0u);
}

TEST_F(Side, APromotionThatFailsLeavesNothingBehind) {
  open(4, 0);
  auto const prompt = simple_prompt(1, 8);
  store_in_dram(prompt);
  EXPECT_EQ(load(prompt), Items{});
  scene->sim.hold(background());
  EXPECT_EQ(load(prompt), Items{});
  scene->sim.fail_call(1, CudaStatus::kIllegalAddress, "cuEventQuery");
  ASSERT_TRUE(eventually([&] { return must(scene->engine->status()).leased == 0; }));
  EXPECT_EQ(process().device_chunks, 0u);
  EXPECT_EQ(counters().device_stored_chunks, 0u);
}

}  // namespace
}  // namespace lmcache::test
