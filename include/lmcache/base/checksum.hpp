// SPDX-License-Identifier: Apache-2.0
// The checksum of a stored chunk. It guards against torn writes, bit rot and wrong offsets, not
// against an adversary: keys are SHA-256, payloads are not authenticated.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace lmcache {

// The CRC-32C (Castagnoli) that iSCSI and ext4 use: init and final xor 0xFFFFFFFF. `crc` is the
// value of the bytes before, 0 at the start. SSE4.2 where the CPU has it, tables elsewhere.
[[nodiscard]] std::uint32_t crc32c(std::span<std::byte const> bytes,
                                   std::uint32_t crc = 0) noexcept;

// 64 bits out of three interleaved CRC-32Cs, because one alone waits 3 cycles on every instruction.
//   * the bytes are taken as u64 little-endian words; word i goes to stream i % 3;
//   * the 0..7 bytes after the last whole word go, zero-padded, as one more word to stream 0;
//   * a, b, c = the CRC registers of streams 0, 1, 2, begun at 0xFFFFFFFF, without final xor;
//   * h = ((a | b << 32) * K1 + c * K2) ^ (length * K3); h ^= h >> 32; h *= K1; h ^= h >> 29,
//     K1 = 0x9E3779B185EBCA87, K2 = 0xC2B2AE3D27D4EB4F, K3 = 0x165667B19E3779F9, modulo 2^64.
// Damage confined to one stream changes h with CRC-32C's guarantees. The value may be written to
// disk: it is the same on every CPU and never changes under this name.
[[nodiscard]] std::uint64_t checksum64(std::span<std::byte const> bytes) noexcept;

// checksum64() of bytes that come in pieces, each summed while the caches still hold it. Every
// piece but the last has a multiple of kPieceBytes. Externally synchronised.
class Checksum64 {
 public:
  static constexpr std::size_t kPieceBytes = 24;

  void add(std::span<std::byte const> piece) noexcept;
  [[nodiscard]] std::uint64_t value() const noexcept;

 private:
  std::array<std::uint32_t, 3> streams_{0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF};
  std::uint64_t size_bytes_{0};
  std::array<std::byte, kPieceBytes> rest_{};  // of the last piece
};

namespace detail {
// Both ways, so that a test can hold one against the other. The SSE4.2 one may be called only
// where has_crc32c_instruction() is true.
[[nodiscard]] bool has_crc32c_instruction() noexcept;
[[nodiscard]] std::uint64_t checksum64_table(std::span<std::byte const> bytes) noexcept;
[[nodiscard]] std::uint64_t checksum64_sse42(std::span<std::byte const> bytes) noexcept;
[[nodiscard]] std::uint32_t crc32c_table(std::span<std::byte const> bytes,
                                         std::uint32_t crc) noexcept;
[[nodiscard]] std::uint32_t crc32c_sse42(std::span<std::byte const> bytes,
                                         std::uint32_t crc) noexcept;
}  // namespace detail

}  // namespace lmcache
