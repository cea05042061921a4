// SPDX-License-Identifier: Apache-2.0
// Copies that fail, are cancelled, or are under way when the jobs go.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "engine/job_scene.hpp"

namespace lmcache::test {
namespace {

TEST(TransferFailures, ACancelledStoreGivesItsSlotsBack) {
  GatedScene gated;
  auto& scene = gated.scene;
  auto const busy =
      must(scene.jobs->submit_store(scene.view, scene.computed(prompt_of(15, kChunk))));
  auto const prompt = prompt_of(16, 3 * kChunk);
  auto const job = must(scene.jobs->submit_store(scene.view, scene.computed(prompt)));
  ASSERT_EQ(scene.tiers.use().writing, 4u);
  scene.jobs->cancel(job);
  EXPECT_TRUE(scene.jobs->poll(job));
  EXPECT_EQ(scene.tiers.use().writing, 1u);
  EXPECT_EQ(scene.jobs->finish(job), (Items{0, 1, 2}));
  auto counters = scene.tiers.counters();
  EXPECT_EQ(counters.dropped(DropReason::kCancelled), 3u);
  EXPECT_EQ(counters.stored_chunks, 0u);
  gated.gate.open();
  EXPECT_EQ(scene.finish(busy), Items{});
  EXPECT_TRUE(scene.at_rest());
  // As if it had never been tried.
  EXPECT_EQ(scene.finish(must(scene.jobs->submit_store(scene.view, scene.computed(prompt)))),
            Items{});
  EXPECT_EQ(scene.tiers.use().ready, 4u);
}

TEST(TransferFailures, ACancelledLoadGivesItsLeasesBack) {
  GatedScene gated;
  auto& scene = gated.scene;
  auto const prompt = prompt_of(17, 3 * kChunk);
  scene.tiers.store(prompt);
  auto const found =
      scene.tiers.tier().lookup(scene.tiers.space, scene.tiers.chain(prompt), kNoLimit);
  auto const& refs = found.lanes[0];
  auto const busy = must(
      scene.jobs->submit_load(scene.view, std::vector<LoadItem>{{.ref = refs[0], .blocks = {0}}}));
  auto const job = must(scene.jobs->submit_load(
      scene.view,
      std::vector<LoadItem>{{.ref = refs[1], .blocks = {1}}, {.ref = refs[2], .blocks = {2}}}));
  scene.tiers.tier().release(refs);  // the jobs have leases of their own
  EXPECT_EQ(scene.tiers.use().leased, 3u);
  scene.jobs->cancel(job);
  EXPECT_EQ(scene.tiers.use().leased, 1u);
  EXPECT_EQ(scene.jobs->finish(job), (Items{0, 1}));
  EXPECT_EQ(scene.tiers.counters().failed(LoadFailure::kCancelled), 2u);
  gated.gate.open();
  EXPECT_EQ(scene.finish(busy), Items{});
  EXPECT_TRUE(scene.at_rest());
}

TEST(TransferFailures, AChunkWhoseCopyFailedIsAbandonedAndItsSlotFree) {
  auto owned = std::make_unique<FaultyCopier>(one_thread());
  auto& faulty = *owned;
  JobScene scene{std::move(owned)};
  auto const prompt = prompt_of(18, 4 * kChunk);
  auto const items = scene.computed(prompt);
  faulty.fail_items_of_next({1, 3});
  EXPECT_EQ(scene.finish(must(scene.jobs->submit_store(scene.view, items))), (Items{1, 3}));
  auto counters = scene.tiers.counters();
  EXPECT_EQ(counters.stored_chunks, 2u);
  EXPECT_EQ(counters.dropped(DropReason::kCopyFailed), 2u);
  EXPECT_EQ(scene.tiers.use().ready, 2u);
  EXPECT_EQ(scene.tiers.use().free_slots, 2u);
  EXPECT_TRUE(scene.at_rest());

  // What failed can be stored the next time, and only that.
  auto const again = scene.computed(prompt);
  EXPECT_EQ(again.size(), 2u);
  auto const refs = scene.tiers.reserve(prompt).front();
  EXPECT_TRUE(std::ranges::none_of(refs, [](ChunkRef ref) { return bool{ref}; }));
  for (auto const& item : again) scene.tiers.tier().cancel(item.ref);
}

TEST(TransferFailures, ALoadThatFailedSaysSoAndKeepsNoLease) {
  auto owned = std::make_unique<FaultyCopier>(one_thread());
  auto& faulty = *owned;
  JobScene scene{std::move(owned)};
  auto const items = scene.stored(prompt_of(19, 3 * kChunk));
  faulty.fail_items_of_next({2});
  auto const job = must(scene.jobs->submit_load(scene.view, items));
  EXPECT_FALSE(scene.jobs->wait_plane(job, 2, soon()));  // they never will
  EXPECT_EQ(scene.finish(job), Items{2});
  EXPECT_EQ(scene.tiers.counters().failed(LoadFailure::kCopyFailed), 1u);
  EXPECT_EQ(scene.tiers.counters().loaded_chunks, 2u);
  EXPECT_TRUE(scene.at_rest());
  EXPECT_EQ(scene.finish(must(scene.jobs->submit_load(scene.view, items))), Items{});
}

TEST(TransferFailures, ADeviceThatRefusesABatchCostsItsChunksOnly) {
  auto owned = std::make_unique<FaultyCopier>(one_thread());
  auto& faulty = *owned;
  JobScene scene{std::move(owned)};
  faulty.fail_next_submit();
  auto const refused =
      scene.jobs->submit_store(scene.view, scene.computed(prompt_of(20, 2 * kChunk)));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kUnavailable);
  EXPECT_EQ(scene.tiers.use().free_slots, 2u);
  EXPECT_EQ(scene.tiers.counters().dropped(DropReason::kCopyFailed), 2u);
  EXPECT_TRUE(scene.at_rest());

  auto const items = scene.stored(prompt_of(20, 2 * kChunk));
  faulty.fail_next_submit();
  EXPECT_FALSE(scene.jobs->submit_load(scene.view, items));
  EXPECT_EQ(scene.tiers.counters().failed(LoadFailure::kCopyFailed), 2u);
  EXPECT_TRUE(scene.at_rest());
}

TEST(TransferFailures, AChunkThatALockKeepsFromBeingWrittenIsGivenBack) {
  JobScene scene;
  auto const items = scene.computed(prompt_of(22, kChunk));
  {
    auto& index = scene.tiers.state().index;
    auto const stuck = must(index.lock(index.at(items[0].ref.index).key(), kLockTimeout));
    EXPECT_EQ(scene.finish(must(scene.jobs->submit_store(scene.view, items))), Items{0});
  }
  EXPECT_EQ(scene.tiers.use().writing, 1u);
  scene.tiers.tier().settle_debts();
  EXPECT_EQ(scene.tiers.counters().dropped(DropReason::kCancelled), 1u);
  EXPECT_EQ(scene.tiers.use().writing, 0u);
  EXPECT_TRUE(scene.at_rest());
}

TEST(TransferFailures, TheDestructorWaitsForJobsUnderWay) {
  JobScene scene{std::make_unique<ThrottledCopier>(one_thread(), std::chrono::milliseconds{2})};
  auto const prompt = prompt_of(21, 12 * kChunk);
  // A job for each chunk: when the first are being copied, the last have not begun.
  for (auto const& item : scene.computed(prompt))
    (void)must(scene.jobs->submit_store(scene.view, {&item, 1}));
  scene.jobs.reset();
  auto const use = scene.tiers.use();
  EXPECT_EQ(use.ready, 12u);
  EXPECT_EQ(use.writing, 0u);
  EXPECT_TRUE(scene.at_rest());
}

}  // namespace
}  // namespace lmcache::test
