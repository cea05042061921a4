// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "engine/job_scene.hpp"

namespace lmcache::test {
namespace {

TEST(TransferJobs, BytesComeBackToOtherBlocksAndNothingElseIsTouched) {
  JobScene scene;
  auto const prompt = prompt_of(1, 3 * kChunk + 10);  // a tail of 10 tokens in 3 blocks
  auto const items = scene.stored(prompt);
  ASSERT_EQ(items.size(), 4u);
  EXPECT_EQ(items[3].blocks.size(), 3u);
  EXPECT_EQ(scene.finish(must(scene.jobs->submit_load(scene.view, items))), Items{});

  auto const table = JobScene::scattered(27, 100);
  EXPECT_EQ(scene.memory.first_wrong(scene.states(prompt), 0, prompt.size(), table), std::nullopt);
  EXPECT_TRUE(scene.memory.untouched_but(table));
  EXPECT_TRUE(scene.at_rest());
}

TEST(TransferJobs, ALoadMayBeginInTheMiddleOfAChunk) {
  JobScene scene;
  auto const prompt = prompt_of(2, kChunk);
  auto items = scene.stored(prompt);
  items[0].first_block = 5;
  items[0].blocks = {200, 3};
  EXPECT_EQ(scene.finish(must(scene.jobs->submit_load(scene.view, items))), Items{});
  EXPECT_EQ(scene.memory.first_wrong(scene.states(prompt), 20, 28, items[0].blocks), std::nullopt);
  EXPECT_TRUE(scene.memory.untouched_but(items[0].blocks));
  EXPECT_EQ(scene.tiers.counters().loaded_tokens, 8u);
}

TEST(TransferJobs, CountsWhatItMoved) {
  Gate gate;
  JobScene scene{std::make_unique<GatedCopier>(one_thread(), gate)};
  auto const prompt = prompt_of(3, 2 * kChunk + 4);
  auto const items = scene.computed(prompt);
  auto const job = must(scene.jobs->submit_store(scene.view, items));
  scene.clock.advance_seconds(2);
  gate.open();
  EXPECT_EQ(scene.finish(job), Items{});
  auto const after_store = scene.tiers.counters();
  EXPECT_EQ(after_store.stored_chunks, 3u);
  EXPECT_EQ(after_store.stored_tokens, 68u);
  EXPECT_EQ(after_store.stored_bytes, 68u * 96);
  EXPECT_EQ(after_store.store_ns, 2'000'000'000u);
  EXPECT_EQ(after_store.loaded_chunks, 0u);

  // One block of the first chunk, and the tail.
  std::vector<LoadItem> const wanted{{.ref = items[0].ref, .first_block = 1, .blocks = {9}},
                                     {.ref = items[2].ref, .first_block = 0, .blocks = {11}}};
  EXPECT_EQ(scene.finish(must(scene.jobs->submit_load(scene.view, wanted))), Items{});
  auto const after_load = scene.tiers.counters();
  EXPECT_EQ(after_load.loaded_chunks, 2u);
  EXPECT_EQ(after_load.loaded_tokens, 8u);
  EXPECT_EQ(after_load.loaded_bytes, 8u * 96);
  EXPECT_EQ(after_load.stored_chunks, 3u);
  EXPECT_EQ(after_load.lost_stores(), 0u);
  auto& state = scene.tiers.state();
  auto const& latencies = state.processes.record(state.process).latencies;
  EXPECT_EQ(latencies.store.snapshot().count(), 1u);
  EXPECT_EQ(latencies.load.snapshot().count(), 1u);
}

TEST(TransferJobs, StoresThatDoNotFitFailAlone) {
  JobScene scene;
  auto const prompt = prompt_of(4, 6 * kChunk);
  auto items = scene.computed(prompt);
  ASSERT_EQ(items.size(), 6u);
  scene.tiers.tier().cancel(items[1].ref);  // 1: gone
  items[2].blocks.pop_back();               // 2: a block too few
  items[3].blocks.push_back(7);             // 3: one too many
  items[4].blocks[7] = 256;                 // 4: no block of the view
  items.push_back(items[0]);                // 6: written already by item 0
  auto const before = scene.tiers.counters();
  EXPECT_EQ(scene.finish(must(scene.jobs->submit_store(scene.view, items))),
            (Items{1, 2, 3, 4, 6}));

  auto counters = scene.tiers.counters();
  EXPECT_EQ(counters.stored_chunks, 2u);
  EXPECT_EQ(counters.dropped(DropReason::kCopyFailed), 3u);
  EXPECT_EQ(counters.dropped_stores[static_cast<std::size_t>(DropReason::kCancelled)] -
                before.dropped_stores[static_cast<std::size_t>(DropReason::kCancelled)],
            0u)
      << "item 1 was counted when it was cancelled, item 6 is stored";
  EXPECT_TRUE(scene.tiers.tier().is_ready(items[0].ref));
  EXPECT_TRUE(scene.tiers.tier().is_ready(items[5].ref));
  EXPECT_FALSE(scene.tiers.tier().is_ready(items[2].ref));
  EXPECT_EQ(scene.tiers.use().ready, 2u);
  EXPECT_TRUE(scene.at_rest());
}

TEST(TransferJobs, LoadsThatDoNotFitFailAlone) {
  JobScene scene;
  auto const prompt = prompt_of(5, 5 * kChunk);
  auto items = scene.stored(prompt);
  auto const lost = scene.stored(prompt_of(6, kChunk));
  auto const index = lost[0].ref.index;
  ASSERT_TRUE(SlotAllocator{scene.tiers.state()}.remove(index, RemovalReason::kCleared));
  items[1].blocks.push_back(9);     // 1: more than the chunk has
  items[2].first_block = 1;         // 2: the last block is beyond the chunk
  items[3].blocks[0] = 0xFFFFFFFF;  // 3: no block of the view
  items.push_back(lost[0]);         // 5: gone
  auto const table = JobScene::scattered(5 * kBlocks, 100);
  EXPECT_EQ(scene.finish(must(scene.jobs->submit_load(scene.view, items))), (Items{1, 2, 3, 5}));

  Items right = items[0].blocks;
  right.insert(right.end(), items[4].blocks.begin(), items[4].blocks.end());
  auto const states = scene.states(prompt);
  EXPECT_EQ(scene.memory.first_wrong(states, 0, kChunk, items[0].blocks), std::nullopt);
  EXPECT_EQ(scene.memory.first_wrong(states, 4 * kChunk, 5 * kChunk, items[4].blocks),
            std::nullopt);
  EXPECT_TRUE(scene.memory.untouched_but(right));
  auto counters = scene.tiers.counters();
  EXPECT_EQ(counters.failed(LoadFailure::kGone), 1u);
  EXPECT_EQ(counters.failed(LoadFailure::kCopyFailed), 3u);
  EXPECT_EQ(counters.loaded_chunks, 2u);
  EXPECT_TRUE(scene.at_rest());
}

TEST(TransferJobs, AViewOfAnotherGeometryGetsNothing) {
  JobScene scene;
  auto const prompt = prompt_of(7, 2 * kChunk);
  auto const items = scene.stored(prompt);
  KvMemory other{{.planes = 2}};
  other.wipe();
  auto const foreign = must(scene.jobs->register_view(other.view()));
  EXPECT_EQ(scene.finish(must(scene.jobs->submit_load(foreign, items))), (Items{0, 1}));
  EXPECT_TRUE(other.untouched_but({}));

  auto const store = scene.computed(prompt_of(8, kChunk));
  EXPECT_EQ(scene.finish(must(scene.jobs->submit_store(foreign, store))), Items{0});
  EXPECT_EQ(scene.tiers.use().ready, 2u);
  EXPECT_TRUE(scene.at_rest());
}

TEST(TransferJobs, UnknownViewsAreRefusedAndTheirItemsLeftAlone) {
  JobScene scene;
  auto const items = scene.computed(prompt_of(9, kChunk));
  auto const refused = scene.jobs->submit_store(scene.view + 1, items);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kInvalidArgument);
  EXPECT_NE(refused.error().message().find("view 2 is not registered"), std::string::npos);
  EXPECT_EQ(scene.finish(must(scene.jobs->submit_store(scene.view, items))), Items{});

  scene.jobs->unregister_view(scene.view);
  EXPECT_FALSE(scene.jobs->submit_store(scene.view, items));
  EXPECT_FALSE(scene.jobs->submit_load(
      scene.view, std::vector<LoadItem>{{.ref = items[0].ref, .blocks = items[0].blocks}}));
  auto const next = must(scene.jobs->register_view(scene.memory.view()));
  EXPECT_NE(next, scene.view);  // never the number of another
  EXPECT_FALSE(scene.jobs->register_view({}));
  EXPECT_TRUE(scene.at_rest());
}

TEST(TransferJobs, JobsWithNothingToCopyAndUnknownOnesAreOver) {
  JobScene scene;
  auto const none = must(scene.jobs->submit_load(scene.view, {}));
  auto const gone = must(scene.jobs->submit_store(
      scene.view, std::vector<StoreItem>{{.ref = ChunkRef{}, .blocks = {1}}}));
  for (JobId const job : {none, gone, gone + 1000}) {
    EXPECT_TRUE(scene.jobs->poll(job));
    EXPECT_TRUE(scene.jobs->wait(job, now()));
    EXPECT_TRUE(scene.jobs->wait_plane(job, 0, now()));
    scene.jobs->cancel(job);
  }
  EXPECT_EQ(scene.jobs->finish(none), Items{});
  EXPECT_EQ(scene.jobs->finish(gone), Items{0});
  EXPECT_EQ(scene.jobs->finish(gone), Items{});  // forgotten
  EXPECT_EQ(scene.jobs->finish(gone + 1000), Items{});
}

TEST(TransferJobs, WaitsEndAtTheDeadlineAndFinishLeavesARunningJobAlone) {
  GatedScene gated;
  auto& scene = gated.scene;
  auto const job = must(scene.jobs->submit_store(scene.view, scene.computed(prompt_of(10, 64))));
  EXPECT_FALSE(scene.jobs->poll(job));
  EXPECT_FALSE(scene.jobs->wait(job, now()));
  EXPECT_FALSE(scene.jobs->wait(job, now() + std::chrono::milliseconds{20}));
  EXPECT_EQ(scene.jobs->finish(job), Items{});
  EXPECT_FALSE(scene.jobs->poll(job));  // finish() was too early: it is still known
  EXPECT_EQ(scene.tiers.use().writing, 2u);
  gated.gate.open();
  EXPECT_TRUE(scene.jobs->wait(job, soon()));
  EXPECT_TRUE(scene.jobs->poll(job));
  EXPECT_EQ(scene.jobs->finish(job), Items{});
  EXPECT_EQ(scene.tiers.use().ready, 2u);
  EXPECT_TRUE(scene.at_rest());
}

TEST(TransferJobs, AJobMayOutliveItsView) {
  GatedScene gated;
  auto& scene = gated.scene;
  auto const prompt = prompt_of(11, 4 * kChunk);
  auto const job = must(scene.jobs->submit_store(scene.view, scene.computed(prompt)));
  scene.jobs->unregister_view(scene.view);
  gated.gate.open();
  EXPECT_EQ(scene.finish(job), Items{});
  EXPECT_EQ(scene.tiers.use().ready, 4u);
}

TEST(TransferJobs, PlanesArriveInOrder) {
  GatedScene gated;
  auto& scene = gated.scene;
  auto const prompt = prompt_of(12, 8 * kChunk);
  scene.tiers.store(prompt_of(13, kChunk));
  auto const found = scene.tiers.tier().lookup(scene.tiers.space,
                                               scene.tiers.chain(prompt_of(13, kChunk)), kNoLimit);
  // Keeps the one thread that loads busy, behind the gate.
  auto const first = must(scene.jobs->submit_load(
      scene.view, std::vector<LoadItem>{{.ref = found.lanes[0][0], .blocks = {255}}}));
  scene.tiers.store(prompt);
  auto const refs =
      scene.tiers.tier().lookup(scene.tiers.space, scene.tiers.chain(prompt), kNoLimit);
  auto const table = JobScene::scattered(8 * kBlocks);
  std::vector<LoadItem> items;
  for (std::uint32_t i = 0; i < 8; ++i)
    items.push_back({.ref = refs.lanes[0][i], .blocks = JobScene::part(table, i)});
  auto const job = must(scene.jobs->submit_load(scene.view, items));
  EXPECT_FALSE(scene.jobs->wait_plane(job, 0, now() + std::chrono::milliseconds{10}));
  gated.gate.open();
  for (std::uint32_t plane = 0; plane < 3; ++plane)
    EXPECT_TRUE(scene.jobs->wait_plane(job, plane, soon())) << plane;
  EXPECT_TRUE(scene.jobs->wait_plane(job, 99, soon()));  // beyond the last: all of them
  EXPECT_EQ(scene.finish(job), Items{});
  EXPECT_EQ(scene.finish(first), Items{});
  scene.tiers.tier().release(found.lanes[0]);
  scene.tiers.tier().release(refs.lanes[0]);
  EXPECT_TRUE(scene.at_rest());
}

TEST(TransferJobs, APlaneThatHasArrivedIsBitExact) {
  JobScene scene{std::make_unique<ThrottledCopier>(one_thread(), std::chrono::microseconds{200})};
  auto const prompt = prompt_of(14, 16 * kChunk);
  auto const job = must(scene.jobs->submit_load(scene.view, scene.stored(prompt)));
  auto const table = JobScene::scattered(16 * kBlocks, 100);
  for (std::uint32_t plane = 0; plane < 3; ++plane) {
    ASSERT_TRUE(scene.jobs->wait_plane(job, plane, soon()));
    EXPECT_EQ(scene.memory.first_wrong(scene.states(prompt), 0, prompt.size(), table, plane + 1),
              std::nullopt)
        << plane;
  }
  EXPECT_EQ(scene.finish(job), Items{});
}

TEST(TransferJobs, FourThreadsAtOnce) {
  JobScene scene{must(HostCopier::create({.threads = 2}))};
  auto const run = [&](std::uint64_t seed) {
    KvMemory memory{KvShape{}};
    auto const view = must(scene.jobs->register_view(memory.view()));
    bool right = true;
    for (std::uint64_t round = 0; round < 10; ++round) {
      auto const prompt = prompt_of(1000 * seed + round, 4 * kChunk + 6);
      auto const states = scene.states(prompt);
      auto const table = JobScene::scattered(34, static_cast<std::uint32_t>(7 * round));
      memory.compute(states, 0, prompt.size(), table);
      auto refs = scene.tiers.reserve(prompt).front();
      // On a busy machine a lock may not come free in time: what is missing is asked for again.
      while (std::ranges::find(refs, ChunkRef{}) != refs.end()) {
        auto const more = scene.tiers.reserve(prompt).front();
        for (std::size_t i = 0; i < refs.size(); ++i)
          if (!refs[i]) refs[i] = more[i];
      }
      std::vector<StoreItem> store;
      std::vector<LoadItem> load;
      auto const other = JobScene::scattered(34, static_cast<std::uint32_t>(7 * round + 90));
      for (std::uint32_t i = 0; i < refs.size(); ++i) {
        store.push_back({.ref = refs[i], .blocks = JobScene::part(table, i)});
        load.push_back({.ref = refs[i], .blocks = JobScene::part(other, i)});
      }
      auto const stored = must(scene.jobs->submit_store(view, store));
      right &= scene.jobs->wait(stored, soon()) && scene.jobs->finish(stored).empty();
      auto const loaded = must(scene.jobs->submit_load(view, load));
      right &= scene.jobs->wait_plane(loaded, 0, soon());
      right &= scene.jobs->wait(loaded, soon()) && scene.jobs->finish(loaded).empty();
      right &= !memory.first_wrong(states, 0, prompt.size(), other).has_value();
    }
    scene.jobs->unregister_view(view);
    return right;
  };
  std::vector<std::thread> threads;
  std::vector<int> right(4);
  for (std::size_t i = 0; i < right.size(); ++i)
    threads.emplace_back([&, i] { right[i] = run(i + 1) ? 1 : 0; });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(right, std::vector<int>(4, 1));
  EXPECT_EQ(scene.tiers.counters().stored_chunks, 200u);
  EXPECT_TRUE(scene.at_rest());
}

}  // namespace
}  // namespace lmcache::test
