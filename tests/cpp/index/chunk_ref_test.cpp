// SPDX-License-Identifier: Apache-2.0
#include <lmcache/index/chunk_ref.hpp>

#include <gtest/gtest.h>

namespace lmcache {
namespace {

TEST(ChunkRef, NoneIsZero) {
  EXPECT_FALSE(ChunkRef{});
  EXPECT_EQ(ChunkRef{}.packed(), 0U);
  EXPECT_FALSE(ChunkRef::unpack(0));
  EXPECT_TRUE((ChunkRef{.index = 0, .generation = 1})) << "entry 0 is an entry like any other";
}

TEST(ChunkRef, PackedAndBack) {
  for (std::uint32_t const index : {0U, 1U, 0x1234'5678U, kNoEntry}) {
    for (std::uint32_t const generation : {1U, 0x9abc'def0U, ~0U}) {
      ChunkRef const ref{.index = index, .generation = generation};
      EXPECT_EQ(ChunkRef::unpack(ref.packed()), ref);
      EXPECT_NE(ref.packed(), 0U);
    }
  }
  EXPECT_EQ((ChunkRef{.index = 2, .generation = 1}.packed()), 0x1'0000'0002U);
}

TEST(ChunkRef, AnotherGenerationIsAnotherChunk) {
  EXPECT_NE((ChunkRef{.index = 1, .generation = 1}), (ChunkRef{.index = 1, .generation = 2}));
  EXPECT_NE((ChunkRef{.index = 1, .generation = 1}), (ChunkRef{.index = 2, .generation = 1}));
}

}  // namespace
}  // namespace lmcache
