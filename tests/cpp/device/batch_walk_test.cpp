// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/batch_walk.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "copy_scene.hpp"

namespace lmcache::detail {
namespace {

std::vector<CopyPart> walk_all(BatchWalk& walk, std::uint64_t piece) {
  std::vector<CopyPart> parts;
  while (!walk.at_end()) {
    std::size_t const before = parts.size();
    walk.next(piece, parts);
    EXPECT_GT(parts.size(), before);
    std::uint64_t bytes = 0;
    for (std::size_t i = before; i < parts.size(); ++i) bytes += parts[i].bytes;
    EXPECT_LE(bytes, piece);
  }
  return parts;
}

class BatchWalkTest : public ::testing::Test {
 protected:
  CopyRun run(std::size_t at, std::uint64_t bytes, std::uint32_t plane) {
    return {.engine = engine + at, .slot_offset = at, .bytes = bytes, .plane = plane};
  }
  using Order = std::vector<std::pair<std::uint32_t, std::uint32_t>>;  // (item, plane)
  static Order order(std::vector<CopyPart> const& parts) {
    Order seen;
    for (CopyPart const& part : parts) {
      if (seen.empty() || seen.back() != std::pair{part.item, part.plane}) {
        seen.emplace_back(part.item, part.plane);
      }
    }
    return seen;
  }
  std::vector<CopyItem> two_items() {
    return {{.slot = slot, .runs = {run(0, 10, 0), run(10, 10, 1), run(20, 10, 2)}},
            {.slot = slot + 50, .runs = {run(0, 10, 0), run(10, 10, 1), run(20, 10, 2)}}};
  }

  std::byte engine[100]{};
  std::byte slot[100]{};
};

TEST_F(BatchWalkTest, LoadsGoPlaneByPlane) {
  BatchWalk walk{CopyDirection::kSlotToEngine, 3, two_items()};
  EXPECT_EQ(order(walk_all(walk, 7)), (Order{{0, 0}, {1, 0}, {0, 1}, {1, 1}, {0, 2}, {1, 2}}));
}

TEST_F(BatchWalkTest, StoresGoItemByItem) {
  BatchWalk walk{CopyDirection::kEngineToSlot, 3, two_items()};
  EXPECT_EQ(order(walk_all(walk, 7)), (Order{{0, 0}, {0, 1}, {0, 2}, {1, 0}, {1, 1}, {1, 2}}));
}

TEST_F(BatchWalkTest, UnsortedLoadIsSorted) {
  std::vector<CopyItem> items{{.slot = slot, .runs = {run(20, 5, 2), run(0, 5, 0), run(10, 5, 1)}},
                              {.slot = slot, .runs = {run(25, 5, 2), run(5, 5, 0)}}};
  BatchWalk walk{CopyDirection::kSlotToEngine, 4, std::move(items)};
  EXPECT_EQ(order(walk_all(walk, 100)), (Order{{0, 0}, {1, 0}, {0, 1}, {0, 2}, {1, 2}}));
}

TEST_F(BatchWalkTest, LongRunIsCutAndItsAddressesFollow) {
  for (auto const direction : {CopyDirection::kEngineToSlot, CopyDirection::kSlotToEngine}) {
    BatchWalk walk{direction, 1, {{.slot = slot, .runs = {run(4, 25, 0)}}}};
    auto const parts = walk_all(walk, 10);
    ASSERT_EQ(parts.size(), 3U);
    bool const load = direction == CopyDirection::kSlotToEngine;
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(parts[i].bytes, i < 2 ? 10U : 5U);
      EXPECT_EQ(parts[i].to, (load ? engine : slot) + 4 + 10 * i);
      EXPECT_EQ(parts[i].from, (load ? slot : engine) + 4 + 10 * i);
    }
  }
}

TEST_F(BatchWalkTest, NothingToWalk) {
  for (auto const direction : {CopyDirection::kEngineToSlot, CopyDirection::kSlotToEngine}) {
    EXPECT_TRUE((BatchWalk{direction, 0, {}}.at_end()));
    EXPECT_TRUE((BatchWalk{direction, 0, {{}, {}}}.at_end()));
    EXPECT_TRUE((BatchWalk{direction, 3, {{}, {.slot = slot, .runs = {run(0, 0, 2)}}}}.at_end()));
  }
}

TEST_F(BatchWalkTest, EmptyRunsAndItemsAreSkipped) {
  for (auto const direction : {CopyDirection::kEngineToSlot, CopyDirection::kSlotToEngine}) {
    std::vector<CopyItem> items{
        {}, {.slot = slot, .runs = {run(0, 0, 0), run(3, 4, 1), run(0, 0, 2)}}, {}};
    BatchWalk walk{direction, 3, std::move(items)};
    EXPECT_EQ(order(walk_all(walk, 100)), (Order{{1, 1}}));
  }
}

TEST_F(BatchWalkTest, PieceOfTinyRunsIsBounded) {
  std::vector<CopyRun> const runs(3 * BatchWalk::kMaxParts, run(0, 1, 0));
  BatchWalk walk{CopyDirection::kEngineToSlot, 1, {{.slot = slot, .runs = runs}}};
  std::vector<CopyPart> parts;
  walk.next(1 << 20, parts);
  EXPECT_EQ(parts.size(), BatchWalk::kMaxParts);
}

TEST(BatchWalkSceneTest, EveryByteOnceWhateverThePiece) {
  for (std::uint64_t const piece : {1U, 100U, 4096U, 1U << 20}) {
    test::CopyScene<test::HostEngineMemory> scene{{.largest_page = 300}, piece};
    for (auto const direction : {CopyDirection::kEngineToSlot, CopyDirection::kSlotToEngine}) {
      scene.refill_engine();
      auto batch = scene.batch(direction);
      BatchWalk walk{direction, batch.plane_count, std::move(batch.items)};
      std::uint32_t plane = 0;
      for (CopyPart const& part : walk_all(walk, piece)) {
        std::copy_n(part.from, part.bytes, part.to);
        if (direction == CopyDirection::kSlotToEngine) {
          EXPECT_GE(part.plane, plane);
          plane = part.plane;
        }
      }
      EXPECT_TRUE(scene.all_same());
      EXPECT_TRUE(scene.rest_of_engine_untouched());
    }
  }
}

}  // namespace
}  // namespace lmcache::detail
