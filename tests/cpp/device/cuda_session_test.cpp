// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/cuda_session.hpp>

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cuda_scene.hpp"

namespace lmcache::test {
namespace {

using detail::CudaSession;

struct CudaSessionTest : ::testing::Test {
  LogHook hook() {
    return [this](LogLevel, std::string_view text) { lines.emplace_back(text); };
  }
  std::vector<std::string> lines;
};

TEST_F(CudaSessionTest, HasTheKernelAndGivesEverythingBack) {
  CudaSim sim{{.kernels = sim_kernels()}};
  {
    auto const session =
        must(CudaSession::open(sim.api(), {.kernel_image = kAnyImage, .kernel_blocks = 3}, hook()));
    EXPECT_NE(session->kernel().function, nullptr);
    EXPECT_EQ(session->kernel().blocks, 3U);
    EXPECT_EQ(session->device_name(), "Simulated device");
    EXPECT_TRUE(lines.empty());
  }
  EXPECT_EQ(sim.alive(), 0U);
  EXPECT_TRUE(sim.violations().empty());
}

TEST_F(CudaSessionTest, DoesWithoutAKernelThatTheDriverRefuses) {
  CudaSim sim{{.loads_modules = false}};
  auto const session = must(CudaSession::open(sim.api(), {.kernel_image = kAnyImage}, hook()));
  EXPECT_EQ(session->kernel().function, nullptr);
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_NE(lines[0].find("copy engine"), std::string::npos);
}

TEST_F(CudaSessionTest, DoesWithoutAnImageThatLacksTheKernel) {
  CudaSim sim;
  auto const session = must(CudaSession::open(sim.api(), {.kernel_image = kAnyImage}, hook()));
  EXPECT_EQ(session->kernel().function, nullptr);
  EXPECT_EQ(lines.size(), 1U);
}

TEST_F(CudaSessionTest, ADeviceThatIsNotThereIsAnError) {
  CudaSim sim;
  auto const session = CudaSession::open(sim.api(), {.device = 7}, hook());
  ASSERT_FALSE(session);
  EXPECT_EQ(session.error().code(), ErrorCode::kCuda);
  sim.fail_call(2, CudaStatus::kOutOfMemory);
  auto const full = CudaSession::open(sim.api(), {}, hook());
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code(), ErrorCode::kOutOfMemory);
  EXPECT_EQ(sim.alive(), 0U);
}

TEST_F(CudaSessionTest, ARuntimeThatUnloadsIsNoTrouble) {
  CudaSim sim{{.kernels = sim_kernels()}};
  auto session = must(CudaSession::open(sim.api(), {.kernel_image = kAnyImage}, hook()));
  sim.unload();
  session.reset();
  EXPECT_TRUE(sim.violations().empty());
}

}  // namespace
}  // namespace lmcache::test
