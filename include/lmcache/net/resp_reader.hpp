// SPDX-License-Identifier: Apache-2.0
// Reads the replies of a Redis server: small ones as values, a large bulk straight into memory of
// the caller. RESP2 and RESP3 as redis.io/docs/reference/protocol-spec has them, without streamed
// strings and aggregates, which no server sends.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <lmcache/net/resp_value.hpp>
#include <lmcache/net/stream.hpp>

namespace lmcache {

// Of a reply that is a bulk, null or an error. Null and errors have no bulk to read or to end.
struct BulkHeader {
  bool present = false;  // false: null, or an error
  std::uint64_t size_bytes = 0;
  std::optional<std::string> error;  // "WRONGTYPE Operation against ..."
};

// Push messages before a reply and attributes anywhere are skipped. Errors: those of the stream;
// kCorrupted, saying what was seen, for anything that is not RESP or larger than the limits;
// kInvalidArgument for calls out of order. After an error the reader is of no use any more.
// Externally synchronised.
class RespReader {
 public:
  static constexpr std::size_t kBufferBytes = 16 << 10;  // the longest line, too
  static constexpr unsigned kMaxNesting = 8;
  static constexpr std::uint64_t kMaxBulkBytes = 16 << 20;  // of read_value() only
  static constexpr std::uint64_t kMaxItems = 1 << 20;       // of a reply, at all levels

  // The stream outlives the reader.
  explicit RespReader(Stream& stream) : stream_{stream} {}
  RespReader(RespReader const&) = delete;
  RespReader& operator=(RespReader const&) = delete;

  // An error reply is a value, too.
  [[nodiscard]] Result<RespValue> read_value(Deadline deadline);

  // One bulk: its header, exactly size_bytes by any of the three calls after it, its end.
  [[nodiscard]] Result<BulkHeader> read_bulk_header(Deadline deadline);
  // Fills `into`: what is buffered is copied, the rest is received where it belongs.
  [[nodiscard]] Result<void> read_into(std::span<std::byte> into, Deadline deadline);
  // Blocks for one byte at least; 0 only when `into` is empty.
  [[nodiscard]] Result<std::size_t> read_some_into(std::span<std::byte> into, Deadline deadline);
  [[nodiscard]] Result<void> skip(std::uint64_t bytes, Deadline deadline);
  [[nodiscard]] Result<void> end_bulk(Deadline deadline);

  // True between replies, when nothing after the last one was received.
  [[nodiscard]] bool at_rest() const noexcept { return !in_bulk_ && begin_ == end_; }

 private:
  struct Walk {
    Deadline deadline;
    std::uint64_t items_left = kMaxItems;
    unsigned depth = 0;
  };

  [[nodiscard]] std::string_view buffered() const noexcept;
  [[nodiscard]] Result<void> fill(Deadline deadline);
  [[nodiscard]] std::size_t take_buffered(std::span<std::byte> into) noexcept;
  // What a line holds without its end; valid until the next fill().
  [[nodiscard]] Result<std::string_view> read_line(Deadline deadline);
  [[nodiscard]] Result<std::string_view> read_reply_line(Walk& walk);
  [[nodiscard]] Result<void> read_one(RespValue& value, Walk& walk);
  [[nodiscard]] Result<void> read_items(std::string_view line, std::vector<RespValue>& items,
                                        Walk& walk);
  [[nodiscard]] Result<void> read_text(std::string_view line, std::string& text, Deadline deadline);
  [[nodiscard]] Result<void> open_bulk(std::string_view line);
  [[nodiscard]] Result<void> expect_between_replies() const;

  Stream& stream_;
  bool in_bulk_ = false;
  std::uint64_t bulk_left_bytes_ = 0;
  std::size_t begin_ = 0;  // of what was received and not yet taken
  std::size_t end_ = 0;
  std::array<std::byte, kBufferBytes> buffer_;
};

}  // namespace lmcache
