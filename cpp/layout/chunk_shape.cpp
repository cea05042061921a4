// SPDX-License-Identifier: Apache-2.0
#include <string>

#include <lmcache/base/bytes.hpp>
#include <lmcache/layout/chunk_shape.hpp>

namespace lmcache {

Result<ChunkShape> ChunkShape::create(KvGroup const& group, std::uint32_t chunk_tokens) {
  if (group.block_tokens == 0) {
    return Error{ErrorCode::kInvalidArgument, "block_tokens is 0, allowed: at least 1"};
  }
  if (chunk_tokens == 0 || chunk_tokens % group.block_tokens != 0) {
    return Error{ErrorCode::kInvalidArgument,
                 "chunk_tokens is " + std::to_string(chunk_tokens) +
                     ", allowed: positive multiples of the engine's block_tokens, " +
                     std::to_string(group.block_tokens)};
  }
  if (group.plane_bytes.empty()) {
    return Error{ErrorCode::kInvalidArgument, "a KV group without planes, allowed: at least 1"};
  }
  ChunkShape shape;
  shape.chunk_tokens_ = chunk_tokens;
  shape.block_tokens_ = group.block_tokens;
  shape.blocks_per_chunk_ = chunk_tokens / group.block_tokens;
  shape.before_.reserve(group.plane_bytes.size() + 1);
  shape.before_.push_back(0);
  for (std::uint64_t const bytes : group.plane_bytes) {
    LMC_TRY_ASSIGN(std::uint64_t const sum, checked_add(shape.before_.back(), bytes));
    shape.before_.push_back(sum);
  }
  // Once and for all, so that payload_bytes and page_offset need no check.
  LMC_TRY(checked_multiply(shape.before_.back(), shape.blocks_per_chunk_));
  return shape;
}

}  // namespace lmcache
