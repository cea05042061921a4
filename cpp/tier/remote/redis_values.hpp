// SPDX-License-Identifier: Apache-2.0
// A chunk as one connection to a Redis server moves it: between the slot and the wire, whichever
// server it is that has the key.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <lmcache/base/checksum.hpp>
#include <lmcache/index/chunk_record.hpp>
#include <lmcache/net/redis_connection.hpp>
#include <lmcache/tier/remote/remote_framing.hpp>
#include <lmcache/tier/remote/transport.hpp>

namespace lmcache::detail {

// What goes before the record's payload on the wire.
struct ValueHead {
  std::array<std::byte, kLongestFrameBytes + sizeof(ChunkHeader)> bytes;
  std::size_t size = 0;
};

// What a reply says: how it went, or the server's error.
struct ValueReply {
  TierOutcome outcome = TierOutcome::kDone;
  std::optional<std::string> error{};  // outcome is kNoSpace or kIoError then
};

void add_strlen(RespBatch& batch, ChunkKey const& key);
void add_get(RespBatch& batch, ChunkKey const& key);
// `head` is filled in; it and the record stay as they are until the batch was sent.
void add_set(RespBatch& batch, RemoteSerde serde, RemotePut const& item, ValueHead& head);

// Of STRLEN: the bytes of the record; 0 for an error, too.
[[nodiscard]] std::uint64_t size_of_record(RespValue const& reply, RemoteSerde serde) noexcept;
[[nodiscard]] ValueReply reply_to_set(RespValue const& reply);
// A value on its way into its slot, whole or in the pieces that add_get() asked for. Every byte is
// summed right after it came, while the caches still hold it. A value that is not what we asked for
// costs nothing but itself: it is read to its end. Externally synchronised.
class ValueReceiver {
 public:
  ValueReceiver(RemoteSerde serde, RemoteGet const& item) noexcept : serde_{serde}, item_{item} {}

  // The reply to the next piece. Errors: those of RespReader.
  [[nodiscard]] Result<void> receive(RespReader& reader, Deadline deadline, bool whole);
  // After the last one.
  [[nodiscard]] ValueReply finish();

 private:
  [[nodiscard]] Result<bool> begin(RespReader& reader, std::uint64_t& left,
                                   std::uint64_t value_bytes, Deadline deadline);

  RemoteSerde const serde_;
  RemoteGet const& item_;
  std::array<std::byte, kLongestFrameBytes> frame_;
  ChunkHeader header_{};
  Checksum64 sum_;
  std::uint64_t record_bytes_ = 0;
  std::uint64_t received_bytes_ = 0;  // of the record
  bool begun_ = false;
  bool broken_ = false;
  bool cut_ = false;  // a piece was not there
  std::optional<std::string> error_;
};

// Pieces of this size keep what the server copies for a reply in its caches; a whole value of 32
// MiB costs it 4 times as much. The first has the frame and the record's header besides.
inline constexpr std::uint64_t kPieceBytes = 43'690 * Checksum64::kPieceBytes;  // 1 MiB
// How many pieces a value may have that fills its slot.
[[nodiscard]] std::uint32_t piece_count(RemoteGet const& item) noexcept;
void add_get_piece(RespBatch& batch, RemoteSerde serde, RemoteGet const& item, std::uint32_t piece);

// Of a whole value. Errors: those of RespReader.
[[nodiscard]] Result<ValueReply> receive_value(RespReader& reader, RemoteSerde serde,
                                               RemoteGet const& item, Deadline deadline);

// kUnavailable with what the server said.
[[nodiscard]] Error refused(RespValue const& reply);
// True for what a master says that is one no more: others know where the new one is.
[[nodiscard]] bool says_readonly(RespValue const& reply) noexcept;

// Visits the names of all keys of ours on this server, some at a time; one may come twice. `visit`
// may use the connection. Errors: those of the connection and of `visit`, refused().
using VisitNames = std::function<Result<void>(std::vector<std::string> const& names)>;
[[nodiscard]] Result<void> scan_names(RedisConnection& connection, Deadline deadline,
                                      VisitNames const& visit);
// Counts what is ours, with a scan. Errors: those of scan_names().
[[nodiscard]] Result<RemoteDescription> describe_server(RedisConnection& connection,
                                                        Deadline deadline);

}  // namespace lmcache::detail
