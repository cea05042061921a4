// SPDX-License-Identifier: Apache-2.0
// Names one entry of the index for as long as it holds the same chunk.
#pragma once

#include <cstdint>

namespace lmcache {

inline constexpr std::uint32_t kNoEntry = 0xffff'ffff;

// Small enough to send to workers by the thousand. 0 = none: generations begin at 1.
struct ChunkRef {
  std::uint32_t index = 0;
  std::uint32_t generation = 0;

  [[nodiscard]] explicit operator bool() const noexcept { return generation != 0; }
  [[nodiscard]] friend bool operator==(ChunkRef const&, ChunkRef const&) noexcept = default;

  [[nodiscard]] std::uint64_t packed() const noexcept {
    return (std::uint64_t{generation} << 32) | index;
  }
  [[nodiscard]] static ChunkRef unpack(std::uint64_t packed) noexcept {
    return {static_cast<std::uint32_t>(packed), static_cast<std::uint32_t>(packed >> 32)};
  }
};

}  // namespace lmcache
