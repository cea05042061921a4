// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/cuda_pieces.hpp>

#include <gtest/gtest.h>

#include <vector>

namespace lmcache::test {
namespace {

using detail::BatchWalk;
using detail::CudaPiece;
using detail::CudaPieces;
using detail::PlaneEvents;

// Two items of three planes with `bytes` each; addresses are only compared.
std::vector<CopyItem> two_items(std::uint64_t bytes) {
  std::vector<CopyItem> items;
  for (std::uint64_t i = 0; i < 2; ++i) {
    CopyItem item{.slot = reinterpret_cast<std::byte*>(0x1000 * (i + 1))};
    for (std::uint32_t plane = 0; plane < 3; ++plane) {
      item.runs.push_back(
          {.engine = reinterpret_cast<std::byte*>(0x100000 * (i + 1) + plane * bytes),
           .slot_offset = plane * bytes,
           .bytes = bytes,
           .plane = plane});
    }
    items.push_back(std::move(item));
  }
  return items;
}

std::vector<std::vector<CudaPiece>> all_pieces(CopyDirection direction, std::uint64_t bytes,
                                               detail::CudaPieceSizes sizes) {
  CudaPieces pieces{direction, BatchWalk{direction, 3, two_items(bytes)}};
  std::vector<std::vector<CudaPiece>> out(1);
  while (!pieces.at_end()) {
    EXPECT_FALSE(pieces.front(sizes).parts.empty());
    out[0].push_back(pieces.pop());
    EXPECT_EQ(out[0].back().direction, direction);
  }
  return out;
}

std::uint64_t bytes_of(CudaPiece const& piece) {
  std::uint64_t bytes = 0;
  for (auto const& part : piece.parts) bytes += part.bytes;
  return bytes;
}

TEST(CudaPiecesTest, APieceOfALoadEndsWithAPlane) {
  auto const pieces =
      all_pieces(CopyDirection::kSlotToEngine, 100, {.piece_bytes = 10'000, .plane_bytes = 200});
  ASSERT_EQ(pieces[0].size(), 3U);
  for (std::uint32_t plane = 0; plane < 3; ++plane) {
    for (auto const& part : pieces[0][plane].parts) EXPECT_EQ(part.plane, plane);
    EXPECT_EQ(bytes_of(pieces[0][plane]), 200U);
  }
}

TEST(CudaPiecesTest, SmallPlanesShareAPiece) {
  auto const pieces =
      all_pieces(CopyDirection::kSlotToEngine, 100, {.piece_bytes = 10'000, .plane_bytes = 201});
  ASSERT_EQ(pieces[0].size(), 2U);
  EXPECT_EQ(bytes_of(pieces[0][0]), 400U);
  EXPECT_EQ(bytes_of(pieces[0][1]), 200U);
}

TEST(CudaPiecesTest, AStoreIsCutByBytesOnly) {
  auto const one =
      all_pieces(CopyDirection::kEngineToSlot, 100, {.piece_bytes = 10'000, .plane_bytes = 1});
  ASSERT_EQ(one[0].size(), 1U);
  auto const many =
      all_pieces(CopyDirection::kEngineToSlot, 100, {.piece_bytes = 250, .plane_bytes = 1});
  ASSERT_EQ(many[0].size(), 3U);
  EXPECT_EQ(bytes_of(many[0][0]), 250U);
  EXPECT_EQ(bytes_of(many[0][2]), 100U);
}

CudaEvent event(std::uintptr_t number) { return reinterpret_cast<CudaEvent>(number); }

TEST(CudaPiecesTest, APlaneHasTheEventOfItsLastByte) {
  PlaneEvents planes{3, two_items(100)};
  EXPECT_EQ(planes.planes_issued(), 0U);
  auto const piece = [](std::vector<std::uint32_t> const& of, std::uintptr_t number) {
    CudaPiece made{.event = event(number)};
    for (std::uint32_t const plane : of) made.parts.push_back({.bytes = 100, .plane = plane});
    return made;
  };
  EXPECT_FALSE(planes.issued(piece({0}, 1)));
  EXPECT_TRUE(planes.issued(piece({0, 1}, 2)));
  EXPECT_EQ(planes.planes_issued(), 1U);
  EXPECT_EQ(planes.event(1), event(2));
  EXPECT_TRUE(planes.issued(piece({1, 2, 2}, 3)));
  EXPECT_EQ(planes.planes_issued(), 3U);
  EXPECT_EQ(planes.event(1), event(2));
  EXPECT_EQ(planes.event(2), event(3));
  EXPECT_EQ(planes.event(3), event(3));
}

TEST(CudaPiecesTest, PlanesWithoutBytesWaitForThoseBefore) {
  std::byte byte{};
  std::vector<CopyItem> items{{.slot = &byte, .runs = {{.engine = &byte, .bytes = 1, .plane = 1}}}};
  PlaneEvents planes{3, items};
  EXPECT_EQ(planes.planes_issued(), 1U);
  EXPECT_EQ(planes.event(1), nullptr);
  EXPECT_TRUE(planes.issued({.parts = {{.bytes = 1, .plane = 1}}, .event = event(5)}));
  EXPECT_EQ(planes.planes_issued(), 3U);
  EXPECT_EQ(planes.event(3), event(5));
}

}  // namespace
}  // namespace lmcache::test
