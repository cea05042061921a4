// SPDX-License-Identifier: Apache-2.0
// Chunks in Redis or Valkey: one string per chunk, "lmcache:1:<key, 64 hexadecimal digits>", that
// holds a frame and the record (remote_framing.hpp).
#pragma once

#include <string>

#include <lmcache/net/redis_url.hpp>
#include <lmcache/tier/remote/remote_framing.hpp>
#include <lmcache/tier/remote/transport.hpp>

namespace lmcache {

// Of kRemoteFormatVersion; all that clear() removes begins with it.
inline constexpr std::string_view kRedisKeyPrefix = "lmcache:1:";

[[nodiscard]] std::string redis_key(ChunkKey const& key);

// Connections to what the URL names: one server; the master that its sentinels name at the time
// (kUnavailable after it became a replica, so that the next connection goes to the new one); all
// masters of a cluster (redis_cluster_transport.hpp).
[[nodiscard]] TransportFactory redis_transport(RedisUrl url, RemoteSerde serde);

}  // namespace lmcache
