// SPDX-License-Identifier: Apache-2.0
// How a chunk of one group lies in its slot: payload [plane][block][page_bytes], so that the pages
// of consecutive blocks of a plane touch. A tail chunk of n blocks is laid out for n blocks, not
// for a full chunk: its planes are closer together.
#pragma once

#include <cstdint>
#include <vector>

#include <lmcache/base/result.hpp>
#include <lmcache/layout/kv_geometry.hpp>

namespace lmcache {

// Immutable. Thread-safe.
class ChunkShape {
 public:
  // kInvalidArgument unless chunk_tokens is a positive multiple of the group's block_tokens.
  [[nodiscard]] static Result<ChunkShape> create(KvGroup const& group, std::uint32_t chunk_tokens);

  [[nodiscard]] std::uint32_t chunk_tokens() const noexcept { return chunk_tokens_; }
  [[nodiscard]] std::uint32_t block_tokens() const noexcept { return block_tokens_; }
  [[nodiscard]] std::uint32_t blocks_per_chunk() const noexcept { return blocks_per_chunk_; }
  [[nodiscard]] std::uint32_t plane_count() const noexcept {
    return static_cast<std::uint32_t>(before_.size() - 1);
  }
  [[nodiscard]] std::uint64_t page_bytes(std::uint32_t plane) const noexcept {
    return before_[plane + 1] - before_[plane];
  }
  // Bytes of one block over all planes.
  [[nodiscard]] std::uint64_t block_bytes() const noexcept { return before_.back(); }

  // Blocks that hold `tokens` tokens; the last may be partly filled.
  [[nodiscard]] std::uint32_t blocks_for_tokens(std::uint32_t tokens) const noexcept {
    return tokens / block_tokens_ + (tokens % block_tokens_ != 0 ? 1 : 0);
  }

  // Payload bytes of a chunk of n blocks, without token ids.
  [[nodiscard]] std::uint64_t payload_bytes(std::uint32_t n_blocks) const noexcept {
    return before_.back() * n_blocks;
  }

  struct Page {
    std::uint32_t plane = 0;
    std::uint32_t block = 0;  // inside the chunk
  };
  // Where a page begins in the payload of a chunk of n blocks.
  [[nodiscard]] std::uint64_t page_offset(Page page, std::uint32_t n_blocks) const noexcept {
    return before_[page.plane] * n_blocks + page_bytes(page.plane) * page.block;
  }

 private:
  ChunkShape() = default;

  std::uint32_t chunk_tokens_ = 0;
  std::uint32_t block_tokens_ = 0;
  std::uint32_t blocks_per_chunk_ = 0;
  std::vector<std::uint64_t> before_;  // bytes of one block in the planes before; planes + 1 values
};

}  // namespace lmcache
