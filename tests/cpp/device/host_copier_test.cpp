// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/host_copier.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <memory>

#include "copier_conformance.hpp"

namespace lmcache::test {
namespace {

template <std::uint32_t kThreads>
struct HostDevice {
  using EngineMemory = HostEngineMemory;
  static std::unique_ptr<DeviceCopier> make() {
    // Pieces far smaller than the default, so that small scenes are cut, too.
    return std::move(HostCopier::create({.threads = kThreads, .piece_bytes = 3000})).value();
  }
};

using OneThread = HostDevice<1>;
using TwoThreads = HostDevice<2>;
using FourThreads = HostDevice<4>;

TEST(HostCopierTest, RefusesOptionsOutOfRange) {
  for (HostCopierOptions const options :
       {HostCopierOptions{.threads = 0}, HostCopierOptions{.threads = 257},
        HostCopierOptions{.piece_bytes = 0}, HostCopierOptions{.background_nice = -1},
        HostCopierOptions{.background_nice = 20}}) {
    auto const copier = HostCopier::create(options);
    ASSERT_FALSE(copier);
    EXPECT_EQ(copier.error().code(), ErrorCode::kInvalidArgument);
  }
}

TEST(HostCopierTest, DefaultOptionsMoveLargeRuns) {
  auto copier = std::move(HostCopier::create()).value();
  CopyScene<HostEngineMemory> scene{{.planes = 2, .chunks = 3, .largest_page = 900'000}, 1};
  auto const ticket = copier->submit(scene.batch(CopyDirection::kEngineToSlot)).value();
  EXPECT_TRUE(copier->wait(ticket, soon()).value());
  EXPECT_TRUE(scene.all_same());
}

// Host memory has no streams: the call returns when the planes are there.
TEST(HostCopierTest, AStreamThatWaitsIsTheHost) {
  auto copier = std::move(HostCopier::create()).value();
  CopyScene<HostEngineMemory> scene{{.planes = 3}, 2};
  auto batch = scene.batch(CopyDirection::kSlotToEngine);
  batch.engine_stream = EngineStream{.handle = 0};
  auto const ticket = copier->submit(std::move(batch)).value();
  EXPECT_TRUE(copier->stream_wait_plane(ticket, 1, {}, soon()).value());
  EXPECT_TRUE(copier->plane_done(ticket, 1));
  EXPECT_TRUE(copier->stream_wait_plane(ticket, 77, {}, soon()).value());
  EXPECT_TRUE(scene.all_same());
  EXPECT_EQ(copier->stream_wait_plane({987}, 0, {}, soon()).error().code(),
            ErrorCode::kInvalidArgument);
}

}  // namespace

INSTANTIATE_TYPED_TEST_SUITE_P(HostOneThread, CopierConformance, OneThread);
INSTANTIATE_TYPED_TEST_SUITE_P(HostTwoThreads, CopierConformance, TwoThreads);
INSTANTIATE_TYPED_TEST_SUITE_P(HostFourThreads, CopierConformance, FourThreads);

}  // namespace lmcache::test
