// SPDX-License-Identifier: Apache-2.0
// Chunks in a Redis or Valkey cluster: as in one server (redis_transport.hpp), each at the master
// that has its key's slot.
#pragma once

#include <lmcache/net/redis_url.hpp>
#include <lmcache/tier/remote/remote_framing.hpp>
#include <lmcache/tier/remote/transport.hpp>

namespace lmcache {

// A transport has one connection to each master and follows slots that move. A node that fails
// costs what is on it: its chunks are missing for sizes() and kIoError for get_into() and put(),
// and nobody waits for it for a while. Calls return an error only when no node answers; remove()
// and clear() do after some node could not be reached, having done the others. describe() sums up
// the masters that answer, and its role says how many they are.
[[nodiscard]] TransportFactory redis_cluster_transport(RedisUrl url, RemoteSerde serde);

}  // namespace lmcache
