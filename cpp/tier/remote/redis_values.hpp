// SPDX-License-Identifier: Apache-2.0
// A chunk as one connection to a Redis server moves it: between the slot and the wire, whichever
// server it is that has the key.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
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

// The name of a chunk's value, or of another part of it than the first.
[[nodiscard]] std::string part_name(ChunkKey const& key, std::uint32_t part);
// False for another part of a chunk than the first.
[[nodiscard]] bool is_chunk_name(std::string_view name) noexcept;
// The chunk of which this is another part than the first; nothing for any other name.
[[nodiscard]] std::optional<ChunkKey> chunk_of_part(std::string_view name) noexcept;
// All that chunks of these sizes have there.
[[nodiscard]] std::vector<std::string> names_of(std::span<ChunkKey const> keys,
                                                std::span<std::uint64_t const> sizes);
void add_get_frame(RespBatch& batch, RemoteSerde serde, ChunkKey const& key);
void add_get(RespBatch& batch, ChunkKey const& key, std::uint32_t part = 0);
// One part of it, of part_count(). `head` is filled in for the first; it and the record stay as
// they are until the batch was sent. The first goes last: whoever finds it finds the others. Those
// expire even where the chunk does not, until add_persist(): whoever dies on the way leaves nothing
// for ever. `checksum`: checksum64() of what follows the record's header; summed here without it.
void add_set(RespBatch& batch, RemoteSerde serde, RemotePut const& item, std::uint32_t part,
             ValueHead& head, std::optional<std::uint64_t> checksum = {});
// What the record has in that part after its header: in the order of parts, the checksum of it.
[[nodiscard]] std::span<std::byte const> summed_bytes(RemotePut const& item,
                                                      std::uint32_t part) noexcept;

// For how long a part stays whose first one never came.
inline constexpr std::uint32_t kPartSeconds = 3600;
// True for a record whose parts need add_persist() once the first is on its way.
[[nodiscard]] bool needs_persist(RemotePut const& item) noexcept;
// For a part that is not the first. Who may not is answered with an error, and the chunk lasts as
// long as its parts.
void add_persist(RespBatch& batch, ChunkKey const& key, std::uint32_t part);

// Of add_get_frame(): the bytes of the record, 0 = there is none, or an error. What is no frame of
// this form counts as 1: reading it tells.
[[nodiscard]] std::uint64_t size_of_record(RespValue const& reply, RemoteSerde serde);
[[nodiscard]] ValueReply reply_to_set(RespValue const& reply);
// A value on its way into its slot, whole or in the pieces that add_get_piece() asked for. Every
// byte is summed right after it came, while the caches still hold it. A value that is not what we
// asked for costs nothing but itself: it is read to its end. Externally synchronised.
class ValueReceiver {
 public:
  ValueReceiver(RemoteSerde serde, RemoteGet const& item) noexcept;

  // The reply to the next piece. Errors: those of RespReader.
  [[nodiscard]] Result<void> receive(RespReader& reader, Deadline deadline, bool whole);
  // After the last one.
  [[nodiscard]] ValueReply finish();

 private:
  RemoteSerde const serde_;
  RemoteGet const& item_;
  ChunkKey const geometry_hash_;
  ChunkHeader header_{};
  Checksum64 sum_;
  std::uint64_t record_bytes_ = 0;
  std::uint64_t received_bytes_ = 0;  // of the record
  bool begun_ = false;
  bool broken_ = false;
  bool cut_ = false;  // a piece was not there
  std::optional<std::string> error_;
};

// How many pieces a value may have that fills its slot: of kRemotePieceBytes, which keep what the
// server copies for a reply in its caches. The first has the frame and the record's header besides.
[[nodiscard]] std::uint32_t piece_count(RemoteGet const& item) noexcept;
void add_get_piece(RespBatch& batch, RemoteSerde serde, RemoteGet const& item, std::uint32_t piece);

// A value whose parts come whole and in any order, from several servers. Externally synchronised.
class PartsReceiver {
 public:
  PartsReceiver(RemoteSerde serde, RemoteGet const& item);

  // As many as a record may have that fills the slot.
  [[nodiscard]] std::uint32_t count() const noexcept {
    return static_cast<std::uint32_t>(received_bytes_.size());
  }
  // May be called again for a part that failed. Errors: those of RespReader.
  [[nodiscard]] Result<ValueReply> receive(RespReader& reader, std::uint32_t part,
                                           Deadline deadline);
  // That part was answered for good. True: it was the last.
  [[nodiscard]] bool answered(TierOutcome outcome) noexcept;
  // After the last one.
  [[nodiscard]] TierOutcome finish() const;

 private:
  RemoteSerde const serde_;
  RemoteGet item_;
  ChunkKey geometry_hash_;
  std::vector<std::uint64_t> received_bytes_;  // of each part, 0 = none came
  std::uint32_t answered_ = 0;
  TierOutcome worst_ = TierOutcome::kDone;
};

// kUnavailable with what the server said.
[[nodiscard]] Error refused(RespValue const& reply);
// True for what a master says that is one no more: others know where the new one is.
[[nodiscard]] bool says_readonly(RespValue const& reply) noexcept;

// Visits the names of all keys of ours on this server, some at a time; one may come twice. `visit`
// may use the connection. Errors: those of the connection and of `visit`, refused().
using VisitNames = std::function<Result<void>(std::vector<std::string> const& names)>;
[[nodiscard]] Result<void> scan_names(RedisConnection& connection, Deadline deadline,
                                      VisitNames const& visit);
// How many other parts than the first there are of each chunk that has any.
using PartCounts = std::map<ChunkKey, std::uint64_t>;
// Counts what is ours, with a scan; adds to `parts`. Errors: those of scan_names().
[[nodiscard]] Result<RemoteDescription> describe_server(RedisConnection& connection,
                                                        Deadline deadline, PartCounts& parts);
// Those whose chunk has no first part, by asking `transport` for these.
[[nodiscard]] Result<std::uint64_t> count_orphans(Transport& transport, PartCounts const& parts,
                                                  Deadline deadline);

}  // namespace lmcache::detail
