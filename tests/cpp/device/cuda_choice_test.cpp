// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/cuda_choice.hpp>

#include <gtest/gtest.h>

#include <limits>

#include "cuda_scene.hpp"

namespace lmcache::test {
namespace {

TEST(CudaChoiceTest, TheEngineTakesOverWhereItStaysWorthIt) {
  CopyMeasurement const measured{
      .store = {{.entry_bytes = 1000, .engine = 9, .kernel = 5},  // a lucky one below
                {.entry_bytes = 2000, .engine = 5, .kernel = 9},
                {.entry_bytes = 4000, .engine = 8.8, .kernel = 9},
                {.entry_bytes = 8000, .engine = 10, .kernel = 9}},
      .load = {{.entry_bytes = 1000, .engine = 1, .kernel = 9},
               {.entry_bytes = 2000, .engine = 2, .kernel = 9}}};
  auto const choice = choose(measured);
  EXPECT_EQ(choice.store.engine_from_bytes, 4000U);
  EXPECT_EQ(choice.load.engine_from_bytes, std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(choose({}).store.engine_from_bytes, 0U);
}

// The simulated device counts 5 us for each copy of the engine (and 12 for a kernel), so kernels
// win where entries are small; a kernel that costs 10 ms wins nowhere.
TEST(CudaChoiceTest, TheDeviceIsMeasured) {
  for (double const kernel_us : {12.0, 10'000.0}) {
    CudaSim sim{{.most_delay_us = 0, .kernels = sim_kernels(), .kernel_overhead_us = kernel_us}};
    CudaCopierOptions options = small_options();
    options.choice.reset();
    options.measure = {.bytes = 512 * 1024, .rounds = 1};
    auto const copier = must(CudaCopier::create(sim.api(), options, {}));
    auto const from = copier->choice().load.engine_from_bytes;
    if (kernel_us < 100) {
      EXPECT_GT(from, 64U * 1024);
    } else {
      EXPECT_EQ(from, 0U);
    }
    EXPECT_EQ(copier->choice().store.engine_from_bytes, from);
    EXPECT_TRUE(sim.violations().empty());
  }
}

TEST(CudaChoiceTest, WithoutAMeasurementTheCopierStillOpens) {
  CudaSim sim{{.most_delay_us = 0, .kernels = sim_kernels()}};
  sim.fail_call(1, CudaStatus::kOutOfMemory, "cuMemAlloc");
  CudaCopierOptions options = small_options();
  options.choice.reset();
  options.measure = {.bytes = 512 * 1024, .rounds = 1};
  auto const copier = must(CudaCopier::create(sim.api(), options, {}));
  EXPECT_EQ(copier->choice().load.engine_from_bytes, CopyChoice{}.load.engine_from_bytes);
}

TEST(CudaChoiceTest, WithoutKernelsNothingIsMeasured) {
  CudaSim sim{{.most_delay_us = 0, .loads_modules = false}};
  CudaCopierOptions options = small_options();
  options.choice.reset();
  options.measure = {.bytes = 512 * 1024, .rounds = 1};
  auto const copier = must(CudaCopier::create(sim.api(), options, {}));
  EXPECT_EQ(sim.calls("cuEventElapsedTime"), 0U);
}

}  // namespace
}  // namespace lmcache::test
