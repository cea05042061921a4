// SPDX-License-Identifier: Apache-2.0
// What lies before a chunk's record in a remote value. Both forms have a fixed length, so that the
// record can be sent from its slot and received into one.
//
//   naive    64 bytes, little-endian, then the record
//   msgpack  one map, as any msgpack library reads it:
//            {"lmcache": 1, "codec": 0, "geometry": bin 32, "length": n, "checksum": c,
//             "data": bin n, the record}
//
// Of a record of more than kRemotePartBytes only so much is in this value; the rest lies in parts
// of its own, without frames. A server gives blocks of 8 MiB and more back to its kernel at once,
// and has a limit for values.
//
// The record is that of index/chunk_record.hpp with generation 0: a header of 256 bytes with the
// full key, the payload, the token ids.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <lmcache/base/checksum.hpp>
#include <lmcache/base/result.hpp>
#include <lmcache/index/chunk_record.hpp>
#include <lmcache/key/chunk_key.hpp>

namespace lmcache {

enum class RemoteSerde : std::uint8_t { kMsgpack, kNaive };

// "msgpack", "naive". Errors: kInvalidArgument.
[[nodiscard]] Result<RemoteSerde> parse_remote_serde(std::string_view text);

inline constexpr std::uint32_t kRemoteFormatVersion = 1;
inline constexpr std::size_t kLongestFrameBytes = 128;
inline constexpr std::uint64_t kRemotePieceBytes = 43'690 * Checksum64::kPieceBytes;  // 1 MiB
inline constexpr std::uint64_t kRemotePartBytes = 5 * kRemotePieceBytes;

struct RemoteFrame {
  ChunkKey geometry_hash;
  std::uint64_t record_bytes = 0;
  std::uint64_t checksum = 0;  // of the record's payload and token ids, as in its header
  std::uint8_t codec = 0;      // 0 = as it is
  bool operator==(RemoteFrame const&) const = default;
};

// How many values a record of so many bytes is in, 1 at least.
[[nodiscard]] std::uint32_t part_count(std::uint64_t record_bytes) noexcept;
// Where in the record a part begins, and how long it is. The first has the record's header besides.
struct RecordPart {
  std::uint64_t first_byte;
  std::uint64_t size_bytes;
};
[[nodiscard]] RecordPart record_part(std::uint64_t record_bytes, std::uint32_t part) noexcept;

// Of either form; the same for every value.
[[nodiscard]] std::size_t frame_bytes(RemoteSerde serde) noexcept;
// `out` has frame_bytes(serde) at least.
void write_frame(RemoteSerde serde, RemoteFrame const& frame, std::span<std::byte> out) noexcept;
// `head` is the beginning of a value of `value_bytes`, frame_bytes(serde) of it at least; 0 = it is
// not known how long the value is. Errors:
// kCorrupted, naming what is wrong. A naive frame keeps the first 16 bytes of the geometry hash:
// those of `geometry_hash` are compared.
[[nodiscard]] Result<RemoteFrame> parse_frame(RemoteSerde serde, std::span<std::byte const> head,
                                              std::uint64_t value_bytes);

}  // namespace lmcache
