// SPDX-License-Identifier: Apache-2.0
#include <lmcache/net/redis_connection.hpp>

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "net/escaped_text.hpp"

namespace lmcache {
namespace {

constexpr std::string_view kClientName = "lmcache";  // in CLIENT LIST
constexpr std::string_view kDefaultUser = "default";
constexpr std::size_t kMaxSaidBytes = 256;

// Redis 4 to 6 repeat the arguments of a command that they do not know: the password is one.
std::string said(std::string_view text, std::string_view password) {
  std::string out{text.substr(0, text.find(", with args beginning with"))};
  for (std::size_t at = 0;
       !password.empty() && (at = out.find(password, at)) != std::string::npos;) {
    out.replace(at, password.size(), "***");
    at += 3;
  }
  return escaped_text(out, kMaxSaidBytes);
}

// Retrying does not help until the configuration of one side is changed.
bool refuses_us(std::string_view text) {
  constexpr std::array<std::string_view, 4> kCodes{"WRONGPASS ", "NOAUTH ", "NOPERM ", "DENIED "};
  return std::any_of(kCodes.begin(), kCodes.end(),
                     [&](std::string_view code) { return text.starts_with(code); });
}

// HELLO came with Redis 6; proxies may know it, but not its options.
bool lacks_hello(std::string_view text) {
  if (text.starts_with("NOPROTO")) return true;
  if (!text.starts_with("ERR ")) return false;
  return text.find("unknown command") != std::string_view::npos ||
         text.find("yntax error") != std::string_view::npos;
}

enum class OtherErrors : std::uint8_t { kAreForNow, kAreForGood };

// OK unless `reply` is an error.
Result<void> accepted(RespValue const& reply, std::string_view command, RedisUrl const& url,
                      OtherErrors others) {
  if (!reply.is_error()) return {};
  bool const for_good = refuses_us(reply.text) ||
                        (others == OtherErrors::kAreForGood && reply.text.starts_with("ERR "));
  return Error{for_good ? ErrorCode::kInvalidArgument : ErrorCode::kUnavailable,
               std::string{command} + ": the server says: " + said(reply.text, url.password)};
}

std::string_view user_of(RedisUrl const& url) {
  return url.user.empty() ? kDefaultUser : std::string_view{url.user};
}

Result<std::unique_ptr<Stream>> connect(RedisUrl const& url, RedisUrl::Host const& host,
                                        Deadline deadline) {
  if (!url.socket_path.empty()) return connect_unix(url.socket_path, deadline);
  if (url.tls) return connect_tls(host.name, host.port, url.tls_options, deadline);
  return connect_tcp(host.name, host.port, deadline);
}

std::string place_of(RedisUrl const& url, RedisUrl::Host const& host) {
  if (!url.socket_path.empty()) return "redis " + url.socket_path;
  return "redis " + host.name + ":" + std::to_string(host.port);
}

}  // namespace

Result<std::unique_ptr<RedisConnection>> RedisConnection::open(RedisUrl const& url,
                                                               RedisUrl::Host const& host,
                                                               Deadline deadline) {
  auto stream = connect(url, host, deadline);
  if (!stream) return std::move(stream).error().with_context(place_of(url, host));
  auto connection = open_on(std::move(stream).value(), url, deadline);
  if (!connection) return std::move(connection).error().with_context(place_of(url, host));
  return connection;
}

Result<std::unique_ptr<RedisConnection>> RedisConnection::open_on(std::unique_ptr<Stream> stream,
                                                                  RedisUrl const& url,
                                                                  Deadline deadline) {
  std::unique_ptr<RedisConnection> connection{new RedisConnection{std::move(stream)}};
  LMC_TRY(connection->log_in(url, deadline));
  LMC_TRY(connection->select(url, deadline));
  return connection;
}

Result<void> RedisConnection::log_in(RedisUrl const& url, Deadline deadline) {
  RespBatch hello;
  hello.begin(url.password.empty() ? 4 : 7).arg("HELLO").arg("3");
  if (!url.password.empty()) hello.arg("AUTH").arg(user_of(url)).arg(url.password);
  hello.arg("SETNAME").arg(kClientName);
  LMC_TRY(send(hello, deadline));
  LMC_TRY_ASSIGN(RespValue const reply, reader_.read_value(deadline));
  if (reply.is_error() && lacks_hello(reply.text)) return log_in_resp2(url, deadline);
  LMC_TRY(accepted(reply, "HELLO", url, OtherErrors::kAreForNow));
  protocol_ = 3;
  return {};
}

Result<void> RedisConnection::log_in_resp2(RedisUrl const& url, Deadline deadline) {
  if (url.password.empty()) {  // would one be needed?
    LMC_TRY_ASSIGN(RespValue const reply, call({"PING"}, deadline));
    return accepted(reply, "PING", url, OtherErrors::kAreForNow);
  }
  // Redis before 6 has no users, and refuses a name.
  bool const named = user_of(url) != kDefaultUser;
  RespBatch auth;
  auth.begin(named ? 3 : 2).arg("AUTH");
  if (named) auth.arg(url.user);
  auth.arg(url.password);
  LMC_TRY(send(auth, deadline));
  LMC_TRY_ASSIGN(RespValue const reply, reader_.read_value(deadline));
  return accepted(reply, "AUTH", url, OtherErrors::kAreForGood);
}

Result<void> RedisConnection::select(RedisUrl const& url, Deadline deadline) {
  if (url.database == 0) return {};
  std::string const number = std::to_string(url.database);
  LMC_TRY_ASSIGN(RespValue const reply, call({"SELECT", number}, deadline));
  return accepted(reply, "SELECT " + number, url, OtherErrors::kAreForGood);
}

Result<void> RedisConnection::send(RespBatch const& batch, Deadline deadline) {
  if (!batch.complete()) {
    return Error{ErrorCode::kInvalidArgument, "a command lacks arguments or has too many"};
  }
  auto const pieces = batch.pieces();
  return stream_->write_all(pieces, deadline);
}

Result<RespValue> RedisConnection::call(std::initializer_list<std::string_view> command,
                                        Deadline deadline) {
  RespBatch batch;
  batch.begin(command.size());
  for (std::string_view const argument : command) batch.arg(argument);
  LMC_TRY(send(batch, deadline));
  return reader_.read_value(deadline);
}

}  // namespace lmcache
