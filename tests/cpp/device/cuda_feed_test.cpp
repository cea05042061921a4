// SPDX-License-Identifier: Apache-2.0
// What goes wrong while copies are under way: the engine goes on, every item is reported once, and
// what is reported as copied is.
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "copier_conformance.hpp"
#include "cuda_scene.hpp"

namespace lmcache::test {
namespace {

struct Outcome {
  bool submitted = false;
  std::uint32_t copied = 0;
  std::uint32_t failed = 0;
};

constexpr std::uint32_t kChunks = 6;

Outcome store_once(CudaWorld& world, CopyScene<CudaEngineMemory>& scene, CopyDirection direction) {
  Outcome outcome;
  ItemLog log{kChunks};
  CudaStream const engine = world.sim().make_engine_stream();
  auto batch = scene.batch(direction);
  batch.on_item = log.callback();
  batch.engine_stream = EngineStream{.handle = reinterpret_cast<std::uintptr_t>(engine)};
  auto const ticket = world.copier().submit(std::move(batch));
  outcome.submitted = ticket.has_value();
  if (!ticket) return outcome;
  EXPECT_TRUE(world.copier().wait(ticket.value(), soon()).value());
  auto const told = log.told();
  for (std::uint32_t item = 0; item < kChunks; ++item) {
    EXPECT_EQ(told[item].size(), 1U);
    if (told[item].size() != 1) continue;
    EXPECT_EQ(told[item][0], world.copier().item_status(ticket.value(), item));
    if (told[item][0] == CopyStatus::kFailed) ++outcome.failed;
    if (told[item][0] != CopyStatus::kCopied) continue;
    ++outcome.copied;
    EXPECT_TRUE(scene.same(item, scene.shape().planes));
  }
  EXPECT_EQ(outcome.copied + outcome.failed, kChunks);
  world.copier().retire(ticket.value());
  return outcome;
}

struct Failure {
  CudaStatus status;
  CopyDirection direction;
};

class CudaFailures : public ::testing::TestWithParam<Failure> {};

// Each call of the whole transfer fails once.
TEST_P(CudaFailures, EveryCallMayFail) {
  auto const [status, direction] = GetParam();
  bool failed_before = false;
  std::uint64_t n = 1;
  for (; n < 400; ++n) {
    CudaWorld world{
        {.batch_version = n % 2 == 0 ? 13 : 0, .engine_from_bytes = 800, .most_delay_us = 5}};
    CopyScene<CudaEngineMemory> scene{
        {.planes = 3, .blocks_per_chunk = 2, .chunks = kChunks, .largest_page = 1600}, n};
    auto const before = world.sim().calls();
    world.sim().fail_call(n, status);
    auto const outcome = store_once(world, scene, direction);
    auto const used = world.sim().calls() - before;
    bool const all = outcome.submitted && outcome.copied == kChunks;
    if (is_sticky(status) && used >= n && !world.copier().off()) {
      // Seen by a thread that only waits: the next batch finds out.
      (void)store_once(world, scene, direction);
    }
    if (world.copier().off()) {
      EXPECT_FALSE(world.copier().submit(scene.batch(direction)));
      EXPECT_EQ(world.lines().size(), 1U);
    } else if (!is_sticky(status) && used >= n) {
      EXPECT_TRUE(world.lines().empty());
      EXPECT_EQ(store_once(world, scene, direction).copied, kChunks) << "after call " << n;
    }
    failed_before = failed_before || !all;
    world.sim().stop_failing();
    if (used < n) break;
  }
  EXPECT_TRUE(failed_before);
  EXPECT_LT(n, 400U);
}

INSTANTIATE_TEST_SUITE_P(
    EveryKind, CudaFailures,
    ::testing::Values(Failure{CudaStatus::kOutOfMemory, CopyDirection::kEngineToSlot},
                      Failure{CudaStatus::kOutOfMemory, CopyDirection::kSlotToEngine},
                      Failure{CudaStatus::kIllegalAddress, CopyDirection::kEngineToSlot},
                      Failure{CudaStatus::kDeinitialized, CopyDirection::kSlotToEngine}));

TEST(CudaFeedTest, ADeviceThatIsLostSwitchesCopiesOffWithOneLine) {
  CudaWorld world;
  CopyScene<CudaEngineMemory> scene{{.chunks = kChunks}, 1};
  world.sim().hold(world.background());
  std::vector<CopyTicket> tickets;
  for (int i = 0; i < 3; ++i) {
    auto batch = scene.batch(CopyDirection::kEngineToSlot, CopyPriority::kBackground);
    tickets.push_back(world.copier().submit(std::move(batch)).value());
  }
  world.sim().unload();
  for (CopyTicket const ticket : tickets) {
    EXPECT_TRUE(world.copier().wait(ticket, soon()).value());
    EXPECT_EQ(world.copier().item_status(ticket, 0), CopyStatus::kFailed);
    EXPECT_EQ(world.copier().wait_plane(ticket, 0, soon()).error().code(), ErrorCode::kCancelled);
  }
  EXPECT_TRUE(world.copier().off());
  EXPECT_EQ(world.copier().submit(scene.batch(CopyDirection::kSlotToEngine)).error().code(),
            ErrorCode::kUnavailable);
  EXPECT_EQ(world.lines().size(), 1U);
}

TEST(CudaFeedTest, TheDestructorAcceptsARuntimeThatUnloads) {
  CudaWorld world;
  CopyScene<CudaEngineMemory> scene{{.chunks = kChunks}, 1};
  world.sim().hold(world.background());
  ItemLog log{kChunks};
  auto batch = scene.batch(CopyDirection::kEngineToSlot, CopyPriority::kBackground);
  batch.on_item = log.callback();
  ASSERT_TRUE(world.copier().submit(std::move(batch)));
  world.sim().unload();
  world.end_copier();
  log.expect_all(CopyStatus::kFailed);
}

TEST(CudaFeedTest, OpeningFailsCleanlyAtEveryCall) {
  std::uint64_t n = 1;
  std::optional<std::uint64_t> opened_at;
  for (; n < 100 && !opened_at; ++n) {
    CudaSim sim{{.kernels = sim_kernels()}};
    sim.fail_call(n, CudaStatus::kOutOfMemory);
    auto made = CudaCopier::create(sim.api(), small_options(), {});
    if (made) made = Error{ErrorCode::kCancelled, "enough"};  // ends it
    // Where the context cannot be made current to give things back, that fails, too.
    for (auto const& violation : sim.violations()) {
      EXPECT_NE(violation.find("without a context"), std::string::npos) << violation;
    }
    auto const all = sim.calls();
    // The call that failed may be one that gives something back, or end without effect.
    if (all < n) opened_at = n;
  }
  EXPECT_TRUE(opened_at);
}

}  // namespace
}  // namespace lmcache::test
