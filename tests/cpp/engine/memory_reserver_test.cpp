// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/memory_reserver.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <stop_token>
#include <thread>
#include <vector>

#include <lmcache/base/cpu_load.hpp>

#include "engine/shared_scene.hpp"
#include "support/child_process.hpp"
#include "support/tier_scene.hpp"

namespace lmcache::test {
namespace {

TEST(MemoryReserver, BacksTheExtentThatItWasGiven) {
  TierScene scene;
  std::atomic<int> calls{0};
  MemoryReserver reserver{scene.tier().segment(), [&] { ++calls; }};
  EXPECT_TRUE(reserver.ready());
  EXPECT_FALSE(reserver.take_outcome());
  for (std::uint32_t const extent : {1u, 0u}) {
    reserver.start(extent);
    EXPECT_FALSE(reserver.ready());
    std::optional<MemoryReserver::Outcome> outcome;
    ASSERT_TRUE(eventually([&] { return (outcome = reserver.take_outcome()).has_value(); }));
    EXPECT_EQ(outcome->extent, extent);
    EXPECT_TRUE(outcome->reserved);
    EXPECT_TRUE(reserver.ready());
    EXPECT_FALSE(reserver.take_outcome());
  }
  EXPECT_TRUE(eventually([&] { return calls == 2; }));
}

// Threads that want every CPU, so that ours is preempted.
class BusyCpus {
 public:
  BusyCpus() {
    for (unsigned i = 0; i < 2 * std::thread::hardware_concurrency(); ++i) {
      threads_.emplace_back([](std::stop_token const& stop) {
        while (!stop.stop_requested()) {
        }
      });
    }
  }

 private:
  std::vector<std::jthread> threads_;
};

TEST(MemoryReserver, MakesWayWhileCpusAreWanted) {
  BusyCpus const busy;
  ASSERT_TRUE(eventually([] { return cpus_are_wanted(); }));
  TierScene scene{{.options = {.capacity_bytes = 64u << 20}}};
  MemoryReserver reserver{scene.tier().segment(), [] {}};
  reserver.hurry(false);
  reserver.start(0);
  ASSERT_TRUE(eventually([&] { return reserver.pauses() > 2; }));
  EXPECT_FALSE(reserver.take_outcome());
}

TEST(MemoryReserver, GoesOnWhileCpusAreWantedIfThereIsAHurry) {
  TierScene scene{{.options = {.capacity_bytes = 64u << 20}}};
  BusyCpus const busy;
  MemoryReserver reserver{scene.tier().segment(), [] {}};
  reserver.hurry(false);
  reserver.start(0);
  // It pauses for as long as they are wanted; to hurry ends that.
  reserver.hurry(true);
  EXPECT_TRUE(eventually([&] { return reserver.take_outcome().has_value(); }));
}

TEST(MemoryReserver, EndsAtOnceWhateverItDoes) {
  TierScene scene;
  BusyCpus const busy;
  for (int i = 0; i < 50; ++i) {
    MemoryReserver reserver{scene.tier().segment(), [] {}};
    reserver.hurry(i % 3 == 0);
    if (i % 2 == 0) reserver.start(0);
  }
}

}  // namespace
}  // namespace lmcache::test
