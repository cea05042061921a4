// SPDX-License-Identifier: Apache-2.0
// What lies in a slot, and as it is in every tier below: one chunk with all that is needed to know
// it again.
//
//   [ChunkHeader, 256 B][payload][zeros to a multiple of 4][token ids, LE u32 each]
//
// Invariants: the header is written with the reservation, all but `checksum`, `generation` and
// `header_crc`, which whoever writes the record to another tier fills in (seal_record). A record
// that comes from outside is believed only after check_record().
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include <lmcache/base/result.hpp>
#include <lmcache/key/chunk_key.hpp>

namespace lmcache {

inline constexpr std::uint64_t kChunkMagic = 0x6b6e'7568'436d'4c01;  // "\1LmChunk"
inline constexpr std::uint32_t kChunkFormatVersion = 1;

// Trivially copyable and without padding.
struct ChunkHeader {
  std::uint64_t magic;
  std::uint32_t format_version;
  std::uint32_t header_crc;  // CRC-32C of the header with 0 here
  ChunkKey key;              // of the entry: chain key ^ lane mask
  ChunkKey parent;           // the same of the chunk before; all zero for the first of a chain
  ChunkKey root;             // of the namespace
  ChunkKey geometry_hash;
  std::uint64_t payload_bytes;
  std::uint64_t checksum;    // checksum64 of all that follows the header
  std::uint64_t generation;  // of the place it was written to, in a tier below
  std::uint32_t valid_tokens;
  std::uint32_t fingerprint;
  std::uint32_t expires_unix_s;  // 0 = never
  std::uint16_t lane;
  std::uint8_t flags;  // kAtRoot, kHasMedia
  std::uint8_t codec;  // 0 = as it is
  std::uint8_t reserved[72];
};
static_assert(sizeof(ChunkHeader) == 256);
static_assert(std::is_trivially_copyable_v<ChunkHeader>);

// Bytes of a record; the slot may be larger.
[[nodiscard]] constexpr std::uint64_t record_bytes(std::uint64_t payload_bytes,
                                                   std::uint64_t tokens) noexcept {
  return sizeof(ChunkHeader) + (payload_bytes + 3) / 4 * 4 + tokens * sizeof(std::uint32_t);
}

// Of a record in our own memory, where nothing needs to be checked.
[[nodiscard]] inline ChunkHeader peek_header(std::span<std::byte const> record) noexcept {
  ChunkHeader header;
  std::memcpy(&header, record.data(), sizeof header);
  return header;
}

[[nodiscard]] std::uint32_t header_crc(ChunkHeader const& header) noexcept;

// Fills in the checksum of a record that is complete, its generation and the header's own check.
void seal_record(std::span<std::byte> record, std::uint64_t generation) noexcept;

// The header that seal_record() would write, without touching the record: another tier may be
// sealing it.
[[nodiscard]] ChunkHeader sealed_copy(std::span<std::byte const> record,
                                      std::uint64_t generation) noexcept;

// Checks what the header alone says: magic, version, its own check, and lengths that fit
// `room_bytes`. Errors: kCorrupted, naming what is wrong.
[[nodiscard]] Result<ChunkHeader> parse_header(std::span<std::byte const> record,
                                               std::uint64_t room_bytes);

// The whole of it: that it is the record of `key` of that generation, and that not one bit of it
// changed. Reads all of it: 0.05 ms per MB. Errors: kCorrupted, naming what is wrong.
struct ExpectedRecord {
  ChunkKey key;
  std::uint64_t generation;
};
// The same of the header alone: whose it is. `room_bytes` as in parse_header().
[[nodiscard]] Result<ChunkHeader> check_header(std::span<std::byte const> header,
                                               std::uint64_t room_bytes,
                                               ExpectedRecord const& expected);
[[nodiscard]] Result<ChunkHeader> check_record(std::span<std::byte const> record,
                                               ExpectedRecord const& expected);

}  // namespace lmcache
