// SPDX-License-Identifier: Apache-2.0
#include <lmcache/layout/chunk_shape.hpp>

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

namespace lmcache {
namespace {

KvGroup group_of(std::uint32_t block_tokens, std::vector<std::uint64_t> plane_bytes) {
  return {.block_tokens = block_tokens, .plane_bytes = std::move(plane_bytes)};
}

void expect_refused(KvGroup const& group, std::uint32_t chunk_tokens, std::string const& part) {
  auto const shape = ChunkShape::create(group, chunk_tokens);
  ASSERT_FALSE(shape);
  EXPECT_EQ(shape.error().code(), ErrorCode::kInvalidArgument);
  EXPECT_NE(shape.error().message().find(part), std::string::npos) << shape.error().message();
}

TEST(ChunkShape, Sizes) {
  ChunkShape const shape = ChunkShape::create(group_of(16, {100, 7, 50}), 256).value();
  EXPECT_EQ(shape.chunk_tokens(), 256U);
  EXPECT_EQ(shape.block_tokens(), 16U);
  EXPECT_EQ(shape.blocks_per_chunk(), 16U);
  EXPECT_EQ(shape.plane_count(), 3U);
  EXPECT_EQ(shape.page_bytes(0), 100U);
  EXPECT_EQ(shape.page_bytes(1), 7U);
  EXPECT_EQ(shape.page_bytes(2), 50U);
  EXPECT_EQ(shape.block_bytes(), 157U);
  EXPECT_EQ(shape.payload_bytes(16), 157U * 16);
  EXPECT_EQ(shape.payload_bytes(0), 0U);
}

TEST(ChunkShape, BlocksForTokensRoundUp) {
  ChunkShape const shape = ChunkShape::create(group_of(16, {1}), 64).value();
  EXPECT_EQ(shape.blocks_for_tokens(0), 0U);
  EXPECT_EQ(shape.blocks_for_tokens(1), 1U);
  EXPECT_EQ(shape.blocks_for_tokens(16), 1U);
  EXPECT_EQ(shape.blocks_for_tokens(17), 2U);
  EXPECT_EQ(shape.blocks_for_tokens(0xFFFFFFFF), 0x10000000U);
}

TEST(ChunkShape, PagesTileThePayloadPlaneByPlane) {
  ChunkShape const shape = ChunkShape::create(group_of(4, {10, 3, 8}), 32).value();
  for (std::uint32_t n_blocks = 1; n_blocks <= shape.blocks_per_chunk(); ++n_blocks) {
    std::uint64_t expected = 0;
    for (std::uint32_t plane = 0; plane < 3; ++plane) {
      for (std::uint32_t block = 0; block < n_blocks; ++block) {
        EXPECT_EQ(shape.page_offset({.plane = plane, .block = block}, n_blocks), expected);
        expected += shape.page_bytes(plane);
      }
    }
    EXPECT_EQ(shape.payload_bytes(n_blocks), expected);
  }
}

TEST(ChunkShape, Refuses) {
  expect_refused(
      group_of(16, {1}), 100,
      "chunk_tokens is 100, allowed: positive multiples of the engine's block_tokens, 16");
  expect_refused(group_of(16, {1}), 8, "chunk_tokens is 8");
  expect_refused(group_of(16, {1}), 0, "chunk_tokens is 0");
  expect_refused(group_of(0, {1}), 16, "block_tokens is 0");
  expect_refused(group_of(16, {}), 16, "without planes");
  constexpr auto kMax = std::numeric_limits<std::uint64_t>::max();
  expect_refused(group_of(16, {kMax, 1}), 16, "does not fit in 64 bits");
  expect_refused(group_of(16, {kMax / 2 + 1}), 32, "does not fit in 64 bits");
}

}  // namespace
}  // namespace lmcache
