// SPDX-License-Identifier: Apache-2.0
// What lies before a chunk's record in a remote value. Both forms have a fixed length, so that the
// record can be sent from its slot and received into one.
//
//   naive    64 bytes, little-endian, then the record
//   msgpack  one map, as any msgpack library reads it:
//            {"lmcache": 1, "codec": 0, "geometry": bin 32, "length": n, "checksum": c,
//             "data": bin n, the record}
//
// The record is that of index/chunk_record.hpp with generation 0: a header of 256 bytes with the
// full key, the payload, the token ids.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <lmcache/base/result.hpp>
#include <lmcache/key/chunk_key.hpp>

namespace lmcache {

enum class RemoteSerde : std::uint8_t { kMsgpack, kNaive };

// "msgpack", "naive". Errors: kInvalidArgument.
[[nodiscard]] Result<RemoteSerde> parse_remote_serde(std::string_view text);

inline constexpr std::uint32_t kRemoteFormatVersion = 1;
inline constexpr std::size_t kLongestFrameBytes = 128;

struct RemoteFrame {
  ChunkKey geometry_hash;
  std::uint64_t record_bytes = 0;
  std::uint64_t checksum = 0;  // of the record's payload and token ids, as in its header
  std::uint8_t codec = 0;      // 0 = as it is
  bool operator==(RemoteFrame const&) const = default;
};

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
