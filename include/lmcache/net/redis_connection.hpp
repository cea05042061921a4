// SPDX-License-Identifier: Apache-2.0
// One connection to a Redis or Valkey server, logged in and on its database.
#pragma once

#include <initializer_list>
#include <memory>
#include <string_view>

#include <lmcache/net/redis_url.hpp>
#include <lmcache/net/resp_command.hpp>
#include <lmcache/net/resp_reader.hpp>
#include <lmcache/net/stream.hpp>

namespace lmcache {

// After an error of the stream or the reader the connection is of no use any more: replies would
// answer the wrong commands. Error replies of the server are values, not errors.
// Externally synchronised, but for shut().
class RedisConnection {
 public:
  // To `host`, which is one of the URL's or where the server redirected to, or to the URL's socket.
  // RESP3 where the server has it (Redis 6), RESP2 elsewhere. Blocks.
  // Errors: those of Stream and RespReader; kUnavailable when the server refuses for now (too many
  // clients); kInvalidArgument when it refuses us (wrong password, no permission, no such
  // database), with what it said, but never the password.
  [[nodiscard]] static Result<std::unique_ptr<RedisConnection>> open(RedisUrl const& url,
                                                                     RedisUrl::Host const& host,
                                                                     Deadline deadline);
  // The same over a stream that is connected already.
  [[nodiscard]] static Result<std::unique_ptr<RedisConnection>> open_on(
      std::unique_ptr<Stream> stream, RedisUrl const& url, Deadline deadline);

  // One reply per command of the batch is to be read afterwards. A batch must not be larger than
  // what socket buffers hold, unless its replies are short: nobody reads while it is written.
  [[nodiscard]] Result<void> send(RespBatch const& batch, Deadline deadline);
  [[nodiscard]] RespReader& reader() noexcept { return reader_; }
  // One command and its reply.
  [[nodiscard]] Result<RespValue> call(std::initializer_list<std::string_view> command,
                                       Deadline deadline);

  // False when the server closed the connection while it was idle, or sent something unasked.
  // Never blocks.
  [[nodiscard]] bool idle_ok() { return reader_.at_rest() && !stream_->readable(); }
  // Ends calls that other threads are in, and all later ones. Thread-safe.
  void shut() noexcept { stream_->shut(); }
  [[nodiscard]] Stream& stream() noexcept { return *stream_; }
  // 2 or 3.
  [[nodiscard]] int protocol() const noexcept { return protocol_; }

 private:
  explicit RedisConnection(std::unique_ptr<Stream> stream)
      : stream_{std::move(stream)}, reader_{*stream_} {}
  [[nodiscard]] Result<void> log_in(RedisUrl const& url, Deadline deadline);
  [[nodiscard]] Result<void> log_in_resp2(RedisUrl const& url, Deadline deadline);
  [[nodiscard]] Result<void> select(RedisUrl const& url, Deadline deadline);

  std::unique_ptr<Stream> stream_;
  RespReader reader_;
  int protocol_ = 2;
};

}  // namespace lmcache
