// SPDX-License-Identifier: Apache-2.0
// Where a Redis or Valkey is and who we are there:
//   redis://[user[:password]@]host[:port][/database]     valkey:// likewise
//   rediss://... valkeys://...                           with TLS
//   unix:///path/of.sock[?db=1]
//   redis-cluster://host[:port][,host[:port]...]         rediss-cluster:// with TLS
//   redis-sentinel://host[:port][,host...]/master[/database]
// Query: ca, cert, key (files), verify=no, db.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <lmcache/base/result.hpp>
#include <lmcache/net/stream.hpp>

namespace lmcache {

struct RedisUrl {
  enum class Mode : std::uint8_t { kSingle, kCluster, kSentinel };
  struct Host {
    std::string name;  // without the brackets of IPv6
    std::uint16_t port = 0;
    bool operator==(Host const&) const = default;
  };
  std::string scheme;
  Mode mode = Mode::kSingle;
  bool tls = false;
  TlsOptions tls_options{};
  std::vector<Host> hosts;  // one at least, unless there is a socket
  std::string socket_path;  // of unix://
  std::string user;         // percent-decoded
  std::string password;
  std::uint32_t database = 0;
  std::string master;  // of redis-sentinel://

  // For messages: as it was given, without user's password.
  [[nodiscard]] std::string text() const;
};

// Ports are 6379 where none is given, 26379 for sentinels. A user and password that the URL lacks
// are not looked up anywhere. Errors: kInvalidArgument, saying what is wrong and what is allowed; a
// password is never part of a message.
[[nodiscard]] Result<RedisUrl> parse_redis_url(std::string_view text);

}  // namespace lmcache
