// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/cuda_report.hpp>

#include <gtest/gtest.h>

#include "cuda_scene.hpp"

namespace lmcache::test {
namespace {

constexpr CopyMeasureOptions kSmall{.bytes = 512 * 1024, .rounds = 1};

TEST(CudaReportTest, SaysWhatWasMeasured) {
  CudaSim sim{{.most_delay_us = 0, .batch_version = 12, .kernels = sim_kernels()}};
  {
    auto const report = must(report_gpu(sim.api(), {.kernel_image = kAnyImage}, {}, kSmall));
    EXPECT_EQ(report.device, "Simulated device");
    EXPECT_EQ(report.driver_version, 12080);
    EXPECT_TRUE(report.batch_copies);
    EXPECT_TRUE(report.kernels);
    ASSERT_EQ(report.measured.load.size(), 8U);
    EXPECT_EQ(report.measured.load[0].entry_bytes, 2048U);
    // As the simulation counts: 256 copies at 5 us each; one kernel and its list.
    EXPECT_NEAR(report.measured.load[0].engine, 256 * 2048 / (256 * 5.0 + 256 * 2048 / 50e3), 1);
    EXPECT_GT(report.measured.load[0].kernel, 10 * report.measured.load[0].engine);
    EXPECT_GT(report.measured.store_limit, report.measured.store[0].engine);
    EXPECT_EQ(report.choice.load.engine_from_bytes, choose(report.measured).load.engine_from_bytes);
    ASSERT_EQ(report.measured.inside.size(), 8U);
    EXPECT_GT(report.measured.inside_limit, report.measured.inside[0].engine);
  }
  EXPECT_EQ(sim.alive(), 0U);
  EXPECT_TRUE(sim.violations().empty());
}

TEST(CudaReportTest, WithoutKernelsOnlyTheEngineIsMeasured) {
  CudaSim sim{{.most_delay_us = 0, .batch_version = 0, .loads_modules = false}};
  auto const report = must(report_gpu(sim.api(), {.kernel_image = kAnyImage}, {}, kSmall));
  EXPECT_FALSE(report.kernels);
  EXPECT_FALSE(report.batch_copies);
  EXPECT_EQ(report.measured.load[3].kernel, 0);
  EXPECT_GT(report.measured.load[3].engine, 0);
}

TEST(CudaReportTest, AnyCallMayFail) {
  for (std::uint64_t n = 1; n < 60; n += 3) {
    CudaSim sim{{.most_delay_us = 0, .kernels = sim_kernels()}};
    sim.fail_call(n, CudaStatus::kIllegalAddress);
    auto const report = report_gpu(sim.api(), {.kernel_image = kAnyImage}, {}, kSmall);
    EXPECT_FALSE(report) << n;
  }
}

}  // namespace
}  // namespace lmcache::test
