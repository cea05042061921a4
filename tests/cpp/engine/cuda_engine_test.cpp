// SPDX-License-Identifier: Apache-2.0
// An engine over the simulated CUDA device. The model's stream and ours run late and in random
// order, so that only events keep tokens and their KV together.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "engine/cuda_engine_scene.hpp"
#include "engine/shared_scene.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint32_t kNoLimit = std::numeric_limits<std::uint32_t>::max();
using Scene = CudaEngineScene;

std::string failure(auto const& result) { return result ? "it worked" : result.error().message(); }

template <class T>
std::vector<T> part(std::vector<T> const& all, std::size_t first, std::size_t end) {
  return {all.begin() + static_cast<std::ptrdiff_t>(first),
          all.begin() + static_cast<std::ptrdiff_t>(end)};
}

// A serving engine that never waits for its device: prompts of a small set are looked up, loaded,
// computed and stored, and their blocks given to the next request at once.
class Serving {
 public:
  explicit Serving(Scene::Options options) : scene{options}, random_{options.seed} {}

  void serve(std::uint32_t which) {
    auto const prompt = simple_prompt(which, 17 + which % 3 * 8);
    auto const states = scene.states(prompt);
    auto const table = blocks((prompt.size() + 3) / 4);
    auto hit = scene.engine->lookup(scene.space, scene.chain(prompt), kNoLimit);
    std::uint32_t const known = hit.prefix_tokens();
    if (known != 0) load(std::move(hit), part(states, 0, known), table);
    scene.compute(part(states, known, states.size()), known, table);
    auto const items = scene.reserve(prompt, table);
    if (items.empty()) return;
    auto const job = must(scene.engine->submit_store(scene.view, items, scene.stream()));
    stored += items.size();
    stores_.push_back(job);
    if (stores_.size() > 3) end_store();  // else the host would be done before a chunk is published
    // What comes next on the stream writes other KV into these blocks.
    ASSERT_TRUE(
        must(scene.engine->stream_wait_plane(job, kNoLimit, scene.stream(), Scene::kPatience)));
  }
  void end() {
    while (!stores_.empty()) end_store();
    while (!loads_.empty()) end_load();
    scene.sim.settle();
  }

  Scene scene;
  std::uint64_t stored = 0;
  std::uint64_t loaded = 0;

 private:
  void load(Hit hit, Scene::States const& states, Scene::Blocks const& table) {
    auto const used = part(table, 0, (states.size() + 3) / 4);
    auto const job =
        must(scene.engine->submit_load(scene.view, Scene::load_items(hit, used), scene.stream()));
    loaded += states.size();
    for (std::uint32_t plane = 0; plane < scene.shape.planes; ++plane) {
      ASSERT_TRUE(
          must(scene.engine->stream_wait_plane(job, plane, scene.stream(), Scene::kPatience)));
      scene.attend(states, used, plane);
    }
    loads_.emplace_back(job, std::move(hit));
    if (loads_.size() > 3) end_load();
  }
  void end_store() {
    finish(stores_.front());
    stores_.pop_front();
  }
  void end_load() {
    finish(loads_.front().first);
    loads_.pop_front();
  }
  void finish(JobId job) {
    EXPECT_TRUE(scene.engine->wait(job, Scene::kPatience));
    EXPECT_TRUE(scene.engine->finish_job(job).empty());
  }
  Scene::Blocks blocks(std::uint32_t count) {
    Scene::Blocks all(Scene::kBlocks);
    std::iota(all.begin(), all.end(), 0u);
    std::shuffle(all.begin(), all.end(), random_);
    all.resize(count);
    return all;
  }

  std::mt19937_64 random_;
  std::deque<JobId> stores_;
  std::deque<std::pair<JobId, Hit>> loads_;
};

void serve_many(std::uint64_t seed, std::uint64_t pool_chunks) {
  Serving serving{
      {.seed = seed, .batch_version = seed % 2 == 0 ? 13 : 0, .pool_chunks = pool_chunks}};
  std::mt19937_64 random{seed};
  // How many find their chunks in the pool depends on how late copies into it are.
  auto const pool_is_used = [&] {
    auto const counters = serving.scene.engine->counters();
    return counters.device_loaded_chunks > 5 && counters.device_evicted_chunks > 5;
  };
  for (int i = 0; i < 40 || (pool_chunks != 0 && i < 2000 && !pool_is_used()); ++i) {
    serving.serve(static_cast<std::uint32_t>(1 + random() % 8));
    if (::testing::Test::HasFatalFailure()) return;
  }
  serving.end();
  EXPECT_EQ(serving.scene.wrong, 0);
  EXPECT_GT(serving.stored, 15u);
  EXPECT_GT(serving.loaded, 100u);
  auto const counters = serving.scene.engine->counters();
  EXPECT_EQ(counters.stored_chunks, serving.stored);
  EXPECT_EQ(counters.lost_stores(), 0u);
  EXPECT_EQ(pool_is_used(), pool_chunks != 0);
  ASSERT_TRUE(eventually([&] { return must(serving.scene.engine->status()).leased == 0; }));
  auto const status = must(serving.scene.engine->status());
  EXPECT_EQ(status.leased, 0u);
  EXPECT_EQ(status.writing, 0u);
  serving.scene.engine.reset();
  EXPECT_EQ(serving.scene.held_by_engine(), 0u);
}

struct CudaServing : ::testing::TestWithParam<std::uint64_t> {};
TEST_P(CudaServing, EveryTokenReadsItsOwnKvThoughTheHostWaitsForNothing) {
  serve_many(GetParam(), 0);
}
TEST_P(CudaServing, EveryTokenReadsItsOwnKvFromAPoolThatIsTooSmall) { serve_many(GetParam(), 7); }
INSTANTIATE_TEST_SUITE_P(Seeds, CudaServing, ::testing::Range<std::uint64_t>(1, 7));

TEST(CudaEngine, BlocksMayBeOverwrittenOnceTheirStoreIsOver) {
  Scene scene;
  auto const prompt = simple_prompt(1, 24);
  Scene::Blocks const table{3, 1, 4, 0, 5, 9};
  scene.compute(scene.states(prompt), 0, table);
  auto const job =
      must(scene.engine->submit_store(scene.view, scene.reserve(prompt, table), scene.stream()));
  ASSERT_TRUE(scene.engine->wait(job, Scene::kPatience));
  EXPECT_EQ(scene.engine->finish_job(job), std::vector<std::uint32_t>{});
  scene.compute(scene.states(simple_prompt(2, 24)), 0, table);  // somebody else's prefill

  // What was stored is what the first prompt had: in host memory, by the same engine.
  KvMemory host{scene.shape};
  auto const host_view = must(scene.engine->register_view(host.view()));
  auto const hit = scene.engine->lookup(scene.space, scene.chain(prompt), kNoLimit);
  ASSERT_EQ(hit.prefix_tokens(), 24u);
  auto const load = must(scene.engine->submit_load(host_view, Scene::load_items(hit, table)));
  ASSERT_TRUE(scene.engine->wait(load, Scene::kPatience));
  EXPECT_EQ(host.first_wrong(scene.states(prompt), 0, 24, table), std::nullopt);
}

TEST(CudaEngine, AStoreIsNotBegunBeforeItsBlocksAreComputed) {
  Scene scene;
  scene.sim.hold(scene.model_stream());
  auto const prompt = simple_prompt(1, 16);
  Scene::Blocks const table{2, 7, 6, 8};
  scene.compute(scene.states(prompt), 0, table);
  auto const items = scene.reserve(prompt, table);
  auto const job = must(scene.engine->submit_store(scene.view, items, scene.stream()));
  scene.sim.settle();
  EXPECT_FALSE(scene.engine->poll(job));
  EXPECT_FALSE(scene.engine->is_ready(items[0].ref));
  scene.sim.release(scene.model_stream());
  ASSERT_TRUE(scene.engine->wait(job, Scene::kPatience));
  EXPECT_TRUE(scene.engine->is_ready(items[0].ref));
}

TEST(CudaEngine, AnErrorOfTheDeviceDropsWhatIsUnderWayAndPublishesNothing) {
  Scene scene;
  auto const kept = simple_prompt(1, 16);
  Scene::Blocks const table{2, 7, 6, 8};
  (void)scene.engine->finish_job(scene.store(kept, table));

  auto const lost = simple_prompt(2, 16);
  scene.compute(scene.states(lost), 0, {0, 1, 3, 4});
  auto const items = scene.reserve(lost, {0, 1, 3, 4});
  scene.sim.hold(scene.model_stream());
  scene.compute({}, 0, {});  // so that the store cannot be over before the error
  auto const job = must(scene.engine->submit_store(scene.view, items, scene.stream()));
  scene.sim.fail_call(1, CudaStatus::kIllegalAddress);
  scene.sim.release(scene.model_stream());
  ASSERT_TRUE(scene.engine->wait(job, Scene::kPatience));
  EXPECT_FALSE(must(scene.engine->stream_wait_plane(job, 0, scene.stream(), Scene::kPatience)));
  EXPECT_EQ(scene.engine->finish_job(job), (std::vector<std::uint32_t>{0, 1}));
  EXPECT_FALSE(scene.engine->is_ready(items[0].ref));
  EXPECT_EQ(scene.engine->counters().dropped(DropReason::kCopyFailed), 2u);

  // From now on nothing is taken, and each refusal is counted.
  auto const more = scene.reserve(simple_prompt(3, 8), {0, 1});
  auto const refused = scene.engine->submit_store(scene.view, more, scene.stream());
  EXPECT_NE(failure(refused).find("CUDA"), std::string::npos) << failure(refused);
  EXPECT_EQ(scene.engine->counters().dropped(DropReason::kCopyFailed), 3u);
  {
    auto const hit = scene.engine->lookup(scene.space, scene.chain(kept), kNoLimit);
    ASSERT_EQ(hit.prefix_tokens(), 16u);
    EXPECT_FALSE(
        scene.engine->submit_load(scene.view, Scene::load_items(hit, table), scene.stream()));
    EXPECT_EQ(scene.engine->counters().failed(LoadFailure::kCopyFailed), 2u);
    // What was stored before is there, for whoever has memory that can be reached.
    KvMemory host{scene.shape};
    auto const view = must(scene.engine->register_view(host.view()));
    auto const load = must(scene.engine->submit_load(view, Scene::load_items(hit, table)));
    ASSERT_TRUE(scene.engine->wait(load, Scene::kPatience));
    EXPECT_EQ(host.first_wrong(scene.states(kept), 0, 16, table), std::nullopt);
  }
  auto const status = must(scene.engine->status());
  EXPECT_EQ(status.writing, 0u);
  EXPECT_EQ(status.leased, 0u);
}

TEST(CudaEngine, ALoadThatWasDroppedIsOverAndAStreamThatDidNotWaitIsTold) {
  Scene scene;
  auto const prompt = simple_prompt(1, 16);
  Scene::Blocks const table{2, 7, 6, 8};
  (void)scene.engine->finish_job(scene.store(prompt, table));
  auto const hit = scene.engine->lookup(scene.space, scene.chain(prompt), kNoLimit);
  auto const job = must(scene.engine->submit_load(scene.view, Scene::load_items(hit, table)));
  scene.engine->cancel_job(job);
  auto const waits =
      must(scene.engine->stream_wait_plane(job, 0, scene.stream(), Scene::kPatience));
  EXPECT_TRUE(scene.engine->poll(job));
  auto const failed = scene.engine->finish_job(job);  // none if the copies were quicker
  EXPECT_TRUE(failed.empty() || !waits);
  EXPECT_TRUE(must(scene.engine->stream_wait_plane(job, 0, scene.stream(), Scene::kPatience)));
}

TEST(CudaEngine, EndsWithADriverThatIsUnloadingUnderIt) {
  Scene scene;
  auto const prompt = simple_prompt(1, 16);
  Scene::Blocks const table{2, 7, 6, 8};
  scene.sim.hold(scene.model_stream());
  scene.compute(scene.states(prompt), 0, table);
  auto const items = scene.reserve(prompt, table);
  (void)must(scene.engine->submit_store(scene.view, items, scene.stream()));
  scene.sim.unload();
  scene.engine.reset();  // returns
}

TEST(CudaEngine, WithoutADriverItSaysWhyAndServesHostMemory) {
  auto const engine =
      must(Engine::open({.capacity_bytes = 16u << 20,
                         .copy_threads = 1,
                         .cuda_source = []() -> Result<CudaApi> {
                           return Error{ErrorCode::kUnavailable, "there is no driver"};
                         }},
                        {}));
  KvMemory memory{KvShape{}};
  auto view = memory.view();
  EXPECT_TRUE(engine->register_view(view));
  view.device = {.kind = KvDeviceKind::kCuda, .ordinal = 3};
  EXPECT_EQ(failure(engine->register_view(view)), "CUDA device 3: there is no driver");
}

}  // namespace
}  // namespace lmcache::test
