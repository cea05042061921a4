// SPDX-License-Identifier: Apache-2.0
// Which server is the master now, as the sentinels of a redis-sentinel:// URL say
// (redis.io/docs/reference/sentinel-clients).
#pragma once

#include <memory>

#include <lmcache/net/redis_connection.hpp>
#include <lmcache/net/redis_url.hpp>

namespace lmcache {

struct SentinelMaster {
  RedisUrl::Host host;
  std::unique_ptr<RedisConnection> connection;
};

// Asks the URL's hosts in turn until one names a server that says itself that it is a master: for a
// while after a failover some sentinels name the old one. User and password are the master's; a
// sentinel gets them only if it wants some. Each has its share of the time. Blocks. Errors: those
// of RedisConnection::open(), of the last sentinel asked; kUnavailable when none knows a master.
[[nodiscard]] Result<SentinelMaster> connect_master(RedisUrl const& url, Deadline deadline);
[[nodiscard]] Result<RedisUrl::Host> find_master(RedisUrl const& url, Deadline deadline);

}  // namespace lmcache
