// SPDX-License-Identifier: Apache-2.0
#include <lmcache/net/redis_sentinel.hpp>

#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "net/escaped_text.hpp"
#include "net/resp_number.hpp"

namespace lmcache {
namespace {

constexpr std::size_t kMaxSaidBytes = 256;

Error unavailable(std::string what) { return Error{ErrorCode::kUnavailable, std::move(what)}; }

Result<std::unique_ptr<RedisConnection>> open_sentinel(RedisUrl const& url,
                                                       RedisUrl::Host const& host,
                                                       Deadline deadline) {
  RedisUrl own = url;
  own.database = 0;  // it has none
  own.user.clear();
  own.password.clear();
  auto connection = RedisConnection::open(own, host, deadline);
  bool const wants_password =
      !connection && connection.error().code() == ErrorCode::kInvalidArgument;
  if (!wants_password || url.password.empty()) return connection;
  own.user = url.user;
  own.password = url.password;
  return RedisConnection::open(own, host, deadline);
}

Result<RedisUrl::Host> ask_sentinel(RedisUrl const& url, RedisUrl::Host const& host,
                                    Deadline deadline) {
  LMC_TRY_ASSIGN(auto const connection, open_sentinel(url, host, deadline));
  LMC_TRY_ASSIGN(auto const reply,
                 connection->call({"SENTINEL", "get-master-addr-by-name", url.master}, deadline));
  if (reply.is_error()) {
    return unavailable("it says: " + escaped_text(reply.text, kMaxSaidBytes));
  }
  if (reply.kind == RespValue::Kind::kNull) {
    return unavailable("it knows no master '" + url.master + "'");
  }
  auto const port = reply.items.size() == 2 ? parse_resp_length(reply.items[1].text) : std::nullopt;
  if (!port || *port == 0 || *port > std::numeric_limits<std::uint16_t>::max()) {
    return Error{ErrorCode::kCorrupted, "it names no address"};
  }
  return RedisUrl::Host{.name = reply.items[0].text, .port = static_cast<std::uint16_t>(*port)};
}

Result<SentinelMaster> connect_named(RedisUrl const& url, RedisUrl::Host const& sentinel,
                                     Deadline deadline) {
  LMC_TRY_ASSIGN(auto host, ask_sentinel(url, sentinel, deadline));
  LMC_TRY_ASSIGN(auto connection, RedisConnection::open(url, host, deadline));
  LMC_TRY_ASSIGN(auto const role, connection->call({"ROLE"}, deadline));
  if (role.items.empty() || role.items[0].text != "master") {
    auto const said = role.items.empty() ? role.text : role.items[0].text;
    return unavailable(host.name + ":" + std::to_string(host.port) +
                       " is no master, but: " + escaped_text(said, kMaxSaidBytes));
  }
  return SentinelMaster{.host = std::move(host), .connection = std::move(connection)};
}

}  // namespace

Result<SentinelMaster> connect_master(RedisUrl const& url, Deadline deadline) {
  std::optional<Error> last;
  auto left = static_cast<int>(url.hosts.size());
  for (auto const& sentinel : url.hosts) {
    auto const now = std::chrono::steady_clock::now();
    auto const until = deadline <= now ? deadline : now + (deadline - now) / left--;
    auto found = connect_named(url, sentinel, until);
    if (found) return found;
    last = std::move(found).error().with_context(std::string{"sentinel "}
                                                     .append(sentinel.name)
                                                     .append(":")
                                                     .append(std::to_string(sentinel.port)));
  }
  if (last) return std::move(*last);
  return Error{ErrorCode::kInvalidArgument, "the URL names no sentinel"};
}

Result<RedisUrl::Host> find_master(RedisUrl const& url, Deadline deadline) {
  LMC_TRY_ASSIGN(auto found, connect_master(url, deadline));
  return std::move(found.host);
}

}  // namespace lmcache
