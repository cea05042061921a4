// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include <lmcache/device/cuda_copier.hpp>
#include <lmcache/device/host_copier.hpp>
#include <lmcache/engine/device_copiers.hpp>

#include "cuda_sim/cuda_sim.hpp"
#include "support/must.hpp"

namespace lmcache::test {
namespace {

constexpr KvDevice kHost{};
constexpr KvDevice cuda(int ordinal) { return {.kind = KvDeviceKind::kCuda, .ordinal = ordinal}; }

struct Copiers : ::testing::Test {
  CudaSim sim;
  int asked = 0;
  bool there = true;
  alignas(4096) std::array<std::byte, 3 * 4096> slots{};
  DeviceCopiers copiers{must(HostCopier::create({.threads = 1})),
                        {.source = [this]() -> Result<CudaApi> {
                           ++asked;
                           if (there) return sim.api();
                           return Error{ErrorCode::kUnavailable, "no driver"};
                         },
                         .slots = slots,
                         .slots_piece_bytes = 4096}};
};

TEST_F(Copiers, TheDriverIsAskedForWhenMemoryOfADeviceIs) {
  auto* const host = must(copiers.of(kHost));
  EXPECT_EQ(must(copiers.of(kHost)), host);
  EXPECT_EQ(asked, 0);
  EXPECT_EQ(sim.calls(), 0u);
  auto* const device = must(copiers.of(cuda(0)));
  EXPECT_NE(device, host);
  EXPECT_EQ(must(copiers.of(cuda(0))), device);
  EXPECT_EQ(asked, 1);
}

TEST_F(Copiers, ADeviceThatCannotBeUsedIsAnErrorThatNamesIt) {
  there = false;
  EXPECT_EQ(copiers.of(cuda(0)).error().message(), "CUDA device 0: no driver");
  there = true;
  auto const refused = copiers.of(cuda(7));  // the simulation has one
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().message().starts_with("CUDA device 7: "))
      << refused.error().message();
  EXPECT_TRUE(copiers.of(cuda(0)));  // asking again tries again
}

TEST_F(Copiers, SlotsArePinnedPieceByPieceWhenTheyAreUsed) {
  auto& pinned = static_cast<CudaCopier&>(*must(copiers.of(cuda(0)))).pinned();
  EXPECT_EQ(pinned.pinned_bytes(), 0u);
  EXPECT_FALSE(pinned.find(slots.data() + 5000));
  pinned.settle();
  EXPECT_EQ(pinned.pinned_bytes(), 4096u);
  auto const range = pinned.find(slots.data() + 5000);
  ASSERT_TRUE(range);
  EXPECT_EQ(range->begin, slots.data() + 4096);
}

}  // namespace
}  // namespace lmcache::test
