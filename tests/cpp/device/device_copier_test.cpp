// SPDX-License-Identifier: Apache-2.0
// The suite over decorated copiers (a slow device, one that may fail), and failing devices.
#include <lmcache/device/device_copier.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <memory>

#include <lmcache/device/host_copier.hpp>

#include "copier_conformance.hpp"
#include "copier_decorators.hpp"

namespace lmcache::test {
namespace {

std::unique_ptr<DeviceCopier> host() {
  return std::move(HostCopier::create({.threads = 2, .piece_bytes = 4096})).value();
}

struct SlowDevice {
  using EngineMemory = HostEngineMemory;
  static std::unique_ptr<DeviceCopier> make() {
    return std::make_unique<ThrottledCopier>(host(), std::chrono::microseconds{100});
  }
};

struct FaultlessDevice {
  using EngineMemory = HostEngineMemory;
  static std::unique_ptr<DeviceCopier> make() { return std::make_unique<FaultyCopier>(host()); }
};

TEST(FailingDevice, RefusedBatchIsCountedAndNothingIsReported) {
  FaultyCopier copier{host()};
  CopyScene<HostEngineMemory> scene{{}, 1};
  ItemLog log{scene.shape().chunks};
  auto batch = scene.batch(CopyDirection::kEngineToSlot);
  batch.on_item = log.callback();
  copier.fail_next_submit();
  EXPECT_EQ(copier.submit(std::move(batch)).error().code(), ErrorCode::kUnavailable);
  EXPECT_EQ(copier.stats().rejected_batches, 1U);
  for (auto const& times : log.told()) EXPECT_TRUE(times.empty());
  auto const ticket = copier.submit(scene.batch(CopyDirection::kEngineToSlot)).value();
  EXPECT_TRUE(copier.wait(ticket, soon()).value());
  EXPECT_TRUE(scene.all_same());
}

TEST(FailingDevice, FailedItemsAreToldApartAndTheRestArrives) {
  FaultyCopier copier{host()};
  CopyScene<HostEngineMemory> scene{{.planes = 3, .chunks = 5}, 2};
  ItemLog log{5};
  auto batch = scene.batch(CopyDirection::kEngineToSlot);
  batch.on_item = log.callback();
  copier.fail_items_of_next({1, 3});
  auto const ticket = copier.submit(std::move(batch)).value();
  EXPECT_TRUE(copier.wait(ticket, soon()).value());
  for (std::uint32_t item = 0; item < 5; ++item) {
    auto const expected = item % 2 == 1 ? CopyStatus::kFailed : CopyStatus::kCopied;
    EXPECT_EQ(log.told()[item], std::vector{expected});
    EXPECT_EQ(copier.item_status(ticket, item), expected);
    EXPECT_EQ(scene.same(item, 3), item % 2 == 0);
  }
  EXPECT_FALSE(copier.plane_done(ticket, 0));
  EXPECT_EQ(copier.wait_plane(ticket, 0, soon()).error().code(), ErrorCode::kCancelled);
}

}  // namespace

INSTANTIATE_TYPED_TEST_SUITE_P(Slow, CopierConformance, SlowDevice);
INSTANTIATE_TYPED_TEST_SUITE_P(Faultless, CopierConformance, FaultlessDevice);

}  // namespace lmcache::test
