// SPDX-License-Identifier: Apache-2.0
#include <lmcache/layout/copy_plan.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <lmcache/layout/chunk_shape.hpp>

namespace lmcache {
namespace {

std::vector<std::byte> memory(1 << 16);

KvView view_of(std::vector<KvPlane> planes, std::uint32_t num_blocks) {
  return {.planes = std::move(planes), .num_blocks = num_blocks, .block_tokens = 16};
}

std::vector<CopyRun> runs_of(KvView const& view, std::vector<std::uint32_t> const& ids,
                             SlotWindow window) {
  std::vector<CopyRun> runs;
  EXPECT_TRUE(append_runs(runs, view, ids, window));
  return runs;
}

bool operator==(CopyRun const& a, CopyRun const& b) {
  return a.engine == b.engine && a.slot_offset == b.slot_offset && a.bytes == b.bytes &&
         a.plane == b.plane;
}

std::byte* at(std::size_t offset) { return memory.data() + offset; }

TEST(CopyPlan, ConsecutiveBlocksOfADensePlaneAreOneRun) {
  auto const view = view_of({{at(0), 8, 8}, {at(1000), 4, 4}}, 100);
  auto const runs = runs_of(view, {5, 6, 7, 20, 21, 3}, {.first_block = 0, .n_blocks_in_slot = 6});
  std::vector<CopyRun> const expected{{at(40), 0, 24, 0},   {at(160), 24, 16, 0},
                                      {at(24), 40, 8, 0},   {at(1020), 48, 12, 1},
                                      {at(1080), 60, 8, 1}, {at(1012), 68, 4, 1}};
  EXPECT_TRUE(std::equal(runs.begin(), runs.end(), expected.begin(), expected.end(),
                         [](auto const& a, auto const& b) { return a == b; }));
}

TEST(CopyPlan, StridesWithGapsAreNeverMerged) {
  auto const view = view_of({{at(0), 10, 8}}, 100);
  auto const runs = runs_of(view, {5, 6}, {.first_block = 0, .n_blocks_in_slot = 2});
  ASSERT_EQ(runs.size(), 2U);
  EXPECT_TRUE(runs[0] == (CopyRun{at(50), 0, 8, 0}));
  EXPECT_TRUE(runs[1] == (CopyRun{at(60), 8, 8, 0}));
}

TEST(CopyPlan, RepeatedAndDescendingIdsAreNotMerged) {
  auto const view = view_of({{at(0), 8, 8}}, 100);
  EXPECT_EQ(runs_of(view, {6, 5, 4}, {0, 3}).size(), 3U);
  EXPECT_EQ(runs_of(view, {6, 6}, {0, 2}).size(), 2U);
}

TEST(CopyPlan, WindowPlacesTheBlocksInsideTheChunk) {
  auto const view = view_of({{at(0), 8, 8}, {at(1000), 4, 4}}, 100);
  auto const runs = runs_of(view, {9}, {.first_block = 2, .n_blocks_in_slot = 5});
  ASSERT_EQ(runs.size(), 2U);
  EXPECT_TRUE(runs[0] == (CopyRun{at(72), 16, 8, 0}));
  EXPECT_TRUE(runs[1] == (CopyRun{at(1036), 40 + 8, 4, 1}));
}

TEST(CopyPlan, AppendsBehindWhatIsThereAndNothingForNoBlocks) {
  auto const view = view_of({{at(0), 8, 8}}, 100);
  std::vector<CopyRun> runs{{at(7), 1, 2, 3}};
  ASSERT_TRUE(append_runs(runs, view, {}, {.first_block = 0, .n_blocks_in_slot = 0}));
  EXPECT_EQ(runs.size(), 1U);
  std::vector<std::uint32_t> const ids{1};
  ASSERT_TRUE(append_runs(runs, view, ids, {.first_block = 0, .n_blocks_in_slot = 1}));
  ASSERT_EQ(runs.size(), 2U);
  EXPECT_TRUE(runs[0] == (CopyRun{at(7), 1, 2, 3}));
}

TEST(CopyPlan, RefusesBadIdsAndWindowsAndAppendsNothing) {
  auto const view = view_of({{at(0), 8, 8}}, 100);
  std::vector<CopyRun> runs;
  auto const refused = [&](std::vector<std::uint32_t> const& ids, SlotWindow window,
                           std::string const& part) {
    auto const result = append_runs(runs, view, ids, window);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(result.error().message().find(part), std::string::npos) << result.error().message();
    EXPECT_TRUE(runs.empty());
  };
  refused({1, 2, 100}, {0, 3}, "block id 100 at position 2, allowed: 0 to 99");
  refused({0xFFFFFFFF}, {0, 1}, "block id 4294967295 at position 0");
  refused({1, 2}, {0, 1}, "2 blocks from block 0 of the chunk on, but its slot has 1 blocks");
  refused({1, 2}, {3, 4}, "2 blocks from block 3");
  refused({1}, {0xFFFFFFFF, 4}, "1 blocks from block 4294967295");
}

TEST(CopyPlan, TableOfIdsUpToTheLastOne) {
  // Offsets are 64-bit: block 2^31 of a page of 8 bytes lies 16 GiB on (never dereferenced here).
  auto* const base = reinterpret_cast<std::byte*>(std::uintptr_t{1} << 40);
  auto const view = view_of({{base, 8, 8}}, 0xFFFFFFFF);
  auto const runs = runs_of(view, {0xFFFFFFFD, 0xFFFFFFFE, 0}, {0, 3});
  ASSERT_EQ(runs.size(), 2U);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(runs[0].engine),
            (std::uintptr_t{1} << 40) + 8 * std::uintptr_t{0xFFFFFFFD});
  EXPECT_EQ(runs[0].bytes, 16U);
}

// Property: copying along the runs moves exactly the bytes that a naive loop over single bytes
// moves, for any strides, overlapping planes and tables of ids.
class CopyPlanProperty : public testing::TestWithParam<unsigned> {};

struct Random {
  std::mt19937 engine;
  std::uint32_t operator()(std::uint32_t low, std::uint32_t high) {
    return std::uniform_int_distribution<std::uint32_t>{low, high}(engine);
  }
};

std::vector<std::uint32_t> random_ids(Random& random, std::uint32_t num_blocks, std::size_t n) {
  std::vector<std::uint32_t> ids;
  while (ids.size() < n) {
    std::uint32_t id = random(0, num_blocks - 1);  // starts of runs of random length
    for (std::uint32_t left = random(1, 6); left > 0 && id < num_blocks && ids.size() < n; --left) {
      ids.push_back(id++);
    }
  }
  return ids;
}

TEST_P(CopyPlanProperty, SameBytesAsANaiveLoop) {
  Random random{std::mt19937{GetParam()}};
  for (std::size_t i = 0; i < memory.size(); ++i)
    memory[i] = static_cast<std::byte>(random(0, 255));
  std::uint32_t const num_blocks = random(1, 40);
  KvView view = view_of({}, num_blocks);
  KvGroup group{.block_tokens = 16};
  for (std::uint32_t p = random(1, 5); p > 0; --p) {
    std::uint64_t const page = random(1, 64);
    std::int64_t const stride =
        static_cast<std::int64_t>(page) + (random(0, 1) != 0 ? random(0, 40) : 0);
    view.planes.push_back({at(random(0, 1 << 15)), stride, page});
    group.plane_bytes.push_back(page);
  }
  ASSERT_TRUE(validate(view));
  std::uint32_t const n_in_slot = random(1, 24);
  std::uint32_t const first = random(0, n_in_slot - 1);
  auto const ids = random_ids(random, num_blocks, random(1, n_in_slot - first));
  ChunkShape const shape = ChunkShape::create(group, 16 * 24).value();

  std::vector<std::byte> expected(shape.payload_bytes(n_in_slot), std::byte{0xEE});
  for (std::uint32_t p = 0; p < shape.plane_count(); ++p) {
    for (std::uint32_t b = 0; b < ids.size(); ++b) {
      std::uint64_t const offset = shape.page_offset({.plane = p, .block = first + b}, n_in_slot);
      for (std::uint64_t i = 0; i < shape.page_bytes(p); ++i) {
        expected[offset + i] =
            view.planes[p]
                .base[view.planes[p].block_stride_bytes * ids[b] + static_cast<std::int64_t>(i)];
      }
    }
  }
  std::vector<std::byte> slot(expected.size(), std::byte{0xEE});
  auto const runs = runs_of(view, ids, {.first_block = first, .n_blocks_in_slot = n_in_slot});
  std::uint32_t plane = 0;
  std::uint64_t total = 0;
  for (CopyRun const& run : runs) {
    EXPECT_GE(run.plane, plane) << "plane-major";
    plane = run.plane;
    total += run.bytes;
    ASSERT_LE(run.slot_offset + run.bytes, slot.size());
    std::memcpy(slot.data() + run.slot_offset, run.engine, run.bytes);
  }
  EXPECT_EQ(slot, expected);
  EXPECT_EQ(total, shape.payload_bytes(static_cast<std::uint32_t>(ids.size())));
  for (std::size_t i = 1; i < runs.size(); ++i) {  // nothing left to merge
    bool const touch = runs[i - 1].plane == runs[i].plane &&
                       runs[i - 1].engine + runs[i - 1].bytes == runs[i].engine &&
                       runs[i - 1].slot_offset + runs[i - 1].bytes == runs[i].slot_offset;
    EXPECT_FALSE(touch);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, CopyPlanProperty, testing::Range(0U, 200U));

TEST(CopyPlan, FewRunsForManyPlanes) {
  std::vector<KvPlane> planes;
  for (std::size_t p = 0; p < 64; ++p) planes.push_back({at(p * 1024), 4, 4});
  std::vector<std::uint32_t> ids(256);
  std::iota(ids.begin(), ids.end(), 0U);
  EXPECT_EQ(runs_of(view_of(planes, 256), ids, {0, 256}).size(), 64U);
}

}  // namespace
}  // namespace lmcache
