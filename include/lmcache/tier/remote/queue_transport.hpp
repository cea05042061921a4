// SPDX-License-Identifier: Apache-2.0
// Chunks in a store whose client is served by other threads (transport_queue.hpp). A value is the
// record alone, sealed with generation 0: its header has key, geometry, lengths and checksum.
#pragma once

#include <memory>

#include <lmcache/tier/remote/transport.hpp>
#include <lmcache/tier/remote/transport_queue.hpp>

namespace lmcache {

// Transports that post what they are asked for to `queue`. Making one asks nobody.
[[nodiscard]] TransportFactory queue_transport(std::shared_ptr<TransportQueue> queue);

}  // namespace lmcache
