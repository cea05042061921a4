// SPDX-License-Identifier: Apache-2.0
// A serving engine's paged KV memory of one lane: blocks in any order, planes with gaps between
// their pages.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include <lmcache/layout/kv_geometry.hpp>
#include <lmcache/layout/kv_view.hpp>

#include "support/causal_kv.hpp"

namespace lmcache::test {

struct KvShape {
  std::uint32_t planes = 3;
  std::uint32_t block_tokens = 4;
  std::uint32_t token_bytes = 24;  // of one token in plane 0; plane p has 8 * p more
  std::uint32_t num_blocks = 256;
  std::uint32_t gap_bytes = 40;  // between two pages of a plane
  std::uint32_t lane = 0;

  [[nodiscard]] std::uint64_t page_bytes(std::uint32_t plane) const {
    return std::uint64_t{token_bytes + 8 * plane} * block_tokens;
  }
  [[nodiscard]] std::uint64_t block_bytes() const {
    std::uint64_t sum = 0;
    for (std::uint32_t plane = 0; plane < planes; ++plane) sum += page_bytes(plane);
    return sum;
  }
  [[nodiscard]] KvGroup group() const {
    KvGroup out{.block_tokens = block_tokens};
    for (std::uint32_t plane = 0; plane < planes; ++plane)
      out.plane_bytes.push_back(page_bytes(plane));
    return out;
  }
};

class KvMemory {
 public:
  explicit KvMemory(KvShape shape) : shape_{shape}, planes_(shape.planes) {
    for (std::uint32_t plane = 0; plane < shape.planes; ++plane) {
      planes_[plane].resize(stride(plane) * shape.num_blocks, kUntouched);
    }
  }

  [[nodiscard]] KvView view() {
    KvView out{.num_blocks = shape_.num_blocks, .block_tokens = shape_.block_tokens};
    for (std::uint32_t plane = 0; plane < shape_.planes; ++plane) {
      out.planes.push_back({.base = planes_[plane].data(),
                            .block_stride_bytes = static_cast<std::int64_t>(stride(plane)),
                            .page_bytes = shape_.page_bytes(plane)});
    }
    return out;
  }

  // `blocks` hold the tokens from `first` on, whose states these are.
  void compute(std::span<std::uint64_t const> states, std::uint32_t first, std::uint32_t end,
               std::span<std::uint32_t const> blocks) {
    for (std::uint32_t plane = 0; plane < shape_.planes; ++plane) {
      for (std::uint32_t token = first; token < end; ++token) {
        write_cell(cell(plane, token - first, blocks), states[token], shape_.lane * 64 + plane);
      }
    }
  }
  [[nodiscard]] std::optional<std::uint32_t> first_wrong(std::span<std::uint64_t const> states,
                                                         std::uint32_t first, std::uint32_t end,
                                                         std::span<std::uint32_t const> blocks,
                                                         std::uint32_t planes = ~0u) {
    for (std::uint32_t plane = 0; plane < std::min(planes, shape_.planes); ++plane) {
      for (std::uint32_t token = first; token < end; ++token) {
        if (!cell_is(cell(plane, token - first, blocks), states[token], shape_.lane * 64 + plane))
          return token;
      }
    }
    return std::nullopt;
  }

  void wipe() {
    for (auto& plane : planes_) std::ranges::fill(plane, kUntouched);
  }
  // Whether the gaps and all blocks but these are as they were after wipe().
  [[nodiscard]] bool untouched_but(std::span<std::uint32_t const> blocks) const {
    std::vector<bool> named(shape_.num_blocks);
    for (auto const block : blocks) named[block] = true;
    for (std::uint32_t plane = 0; plane < shape_.planes; ++plane) {
      for (std::uint32_t block = 0; block < shape_.num_blocks; ++block) {
        auto const from = named[block] ? shape_.page_bytes(plane) : 0;
        auto const page =
            std::span{planes_[plane]}.subspan(block * stride(plane), stride(plane)).subspan(from);
        if (!std::ranges::all_of(page, [](std::byte b) { return b == kUntouched; })) return false;
      }
    }
    return true;
  }

  [[nodiscard]] KvShape const& shape() const { return shape_; }

 private:
  static constexpr std::byte kUntouched{0xEE};

  [[nodiscard]] std::uint64_t stride(std::uint32_t plane) const {
    return shape_.page_bytes(plane) + shape_.gap_bytes;
  }
  [[nodiscard]] std::span<std::byte> cell(std::uint32_t plane, std::uint32_t token,
                                          std::span<std::uint32_t const> blocks) {
    auto const bytes = shape_.page_bytes(plane) / shape_.block_tokens;
    auto const at =
        blocks[token / shape_.block_tokens] * stride(plane) + token % shape_.block_tokens * bytes;
    return std::span{planes_[plane]}.subspan(at, bytes);
  }

  KvShape shape_;
  std::vector<std::vector<std::byte>> planes_;
};

}  // namespace lmcache::test
