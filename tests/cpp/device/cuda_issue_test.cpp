// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/cuda_issue.hpp>

#include <gtest/gtest.h>

#include <vector>

#include "cuda/copy_kernel.hpp"
#include "cuda_scene.hpp"

namespace lmcache::test {
namespace {

using detail::CudaCopy;
using detail::CudaIssuer;

TEST(CudaIssueTest, NeighboursOnBothSidesBecomeOne) {
  std::vector<CudaCopy> copies{
      {.to = 100, .from = 900, .bytes = 10}, {.to = 110, .from = 910, .bytes = 5},
      {.to = 115, .from = 915, .bytes = 0},  {.to = 115, .from = 915, .bytes = 5},
      {.to = 120, .from = 921, .bytes = 1},  // a gap in the source
      {.to = 122, .from = 922, .bytes = 1},  // a gap in the target
      {.to = 50, .from = 50, .bytes = 0}};
  CudaIssuer::merge(copies);
  ASSERT_EQ(copies.size(), 3U);
  EXPECT_EQ(copies[0].bytes, 20U);
  EXPECT_EQ(copies[1].to, 120U);
  EXPECT_EQ(copies[2].to, 122U);
}

TEST(CudaIssueTest, SizeNumberAndPathDecide) {
  CopyChoice const choice{.store = {.engine_from_bytes = 1000, .fewest = 2},
                          .load = {.engine_from_bytes = 100, .fewest = 2},
                          .inside = {.engine_from_bytes = 2000, .fewest = 1}};
  auto* const function = reinterpret_cast<CudaFunction>(&const_cast<CopyChoice&>(choice));
  CudaApi const api;
  CudaIssuer const with{api, nullptr, {.function = function}, choice};
  CudaIssuer const without{api, nullptr, {}, choice};
  std::vector<CudaCopy> const two{{.bytes = 500}, {.bytes = 700}};
  std::vector<CudaCopy> const large{{.bytes = 1500}, {.bytes = 700}};
  std::vector<CudaCopy> const one{{.bytes = 5}};
  EXPECT_EQ(with.way(CopyPath::kStore, two), CudaIssuer::Way::kKernel);
  EXPECT_EQ(with.way(CopyPath::kLoad, two), CudaIssuer::Way::kEngine);
  EXPECT_EQ(with.way(CopyPath::kStore, large), CudaIssuer::Way::kEngine);
  EXPECT_EQ(with.way(CopyPath::kStore, one), CudaIssuer::Way::kEngine);
  EXPECT_EQ(with.way(CopyPath::kInside, large), CudaIssuer::Way::kKernel);
  EXPECT_EQ(with.way(CopyPath::kInside, one), CudaIssuer::Way::kKernel);
  EXPECT_EQ(with.way(CopyPath::kStore, {}), CudaIssuer::Way::kEngine);
  EXPECT_EQ(without.way(CopyPath::kStore, two), CudaIssuer::Way::kEngine);
}

TEST(CudaIssueTest, LongCopiesAreSeveralEntries) {
  std::vector<CudaCopy> const copies{
      {.bytes = 1}, {.bytes = kCopyEntryBytes}, {.bytes = kCopyEntryBytes + 1}};
  EXPECT_EQ(CudaIssuer::entry_bytes(copies), 4 * sizeof(CopyEntry));
}

// One launch, or one batch, for all copies of a piece, and the driver's loop where it has no batch.
TEST(CudaIssueTest, OneCallForManyCopies) {
  struct Expected {
    CudaWay way;
    std::uint64_t launches;
    std::uint64_t batches;
    std::uint64_t single;
  };
  for (auto const& expected : {Expected{{.engine_from_bytes = 1 << 30}, 1, 0, 1},
                               Expected{{.batch_version = 13, .engine_from_bytes = 0}, 0, 1, 0},
                               Expected{{.batch_version = 12, .engine_from_bytes = 0}, 0, 1, 0},
                               Expected{{.batch_version = 0, .kernels = false}, 0, 0, 12}}) {
    CudaWorld world{expected.way};
    CopyScene<CudaPinnedMemory> scene{
        {.planes = 2, .blocks_per_chunk = 2, .chunks = 3, .largest_page = 300}, 1};
    auto const ticket = world.copier().submit(scene.batch(CopyDirection::kEngineToSlot)).value();
    ASSERT_TRUE(world.copier().wait(ticket, CopyDeadline::max()).value());
    EXPECT_TRUE(scene.all_same());
    EXPECT_EQ(world.sim().calls("cuLaunchKernel"), expected.launches);
    EXPECT_EQ(world.sim().calls("cuMemcpyBatchAsync"), expected.batches);
    EXPECT_EQ(world.sim().calls("cuMemcpyAsync"), expected.single);
    EXPECT_EQ(world.sim().calls("cuStreamSynchronize"), 0U);
  }
}

}  // namespace
}  // namespace lmcache::test
