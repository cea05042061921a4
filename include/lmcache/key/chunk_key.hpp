// SPDX-License-Identifier: Apache-2.0
// The 32 bytes by which a chunk is known in every process and on every machine.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include <lmcache/base/bytes.hpp>

namespace lmcache {

// A SHA-256 digest, or two of them xored (an entry's key is its chain key xor its lane's mask).
// Trivially copyable and without padding: it lies in shared memory and on disk as it is.
struct ChunkKey {
  std::array<std::uint8_t, 32> bytes{};

  [[nodiscard]] friend bool operator==(ChunkKey const&, ChunkKey const&) noexcept = default;
  [[nodiscard]] friend auto operator<=>(ChunkKey const&, ChunkKey const&) noexcept = default;

  [[nodiscard]] friend ChunkKey operator^(ChunkKey const& a, ChunkKey const& b) noexcept {
    ChunkKey out;
    for (std::size_t i = 0; i < out.bytes.size(); ++i) {
      out.bytes[i] = static_cast<std::uint8_t>(a.bytes[i] ^ b.bytes[i]);
    }
    return out;
  }

  // The key is a digest already, so its first 8 bytes are as good a hash as any.
  [[nodiscard]] std::uint64_t prefix64() const noexcept {
    return load_le<std::uint64_t>(bytes.data());
  }
};

static_assert(sizeof(ChunkKey) == 32);

[[nodiscard]] inline std::string to_hex(ChunkKey const& key) {
  return to_hex(std::span{key.bytes});
}

struct ChunkKeyHash {
  [[nodiscard]] std::size_t operator()(ChunkKey const& key) const noexcept {
    return key.prefix64();
  }
};

}  // namespace lmcache
