// SPDX-License-Identifier: Apache-2.0
// A store of whole chunks somewhere else, as one connection to it sees it. What a new kind of
// remote implements: Redis here; peers and object stores likewise.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <lmcache/base/result.hpp>
#include <lmcache/key/chunk_key.hpp>
#include <lmcache/net/stream.hpp>
#include <lmcache/tier/tier_outcome.hpp>

namespace lmcache {

// The record of a chunk (index/chunk_record.hpp) goes into `slot`, straight from the wire.
struct RemoteGet {
  ChunkKey key;
  std::byte* slot = nullptr;
  std::uint64_t slot_bytes = 0;
};
// `record` is read only: its header is sealed in a copy, since another tier may write it meanwhile.
struct RemotePut {
  ChunkKey key;
  std::span<std::byte const> record;
  std::uint32_t ttl_seconds = 0;  // 0 = for ever
};

struct RemoteDescription {
  std::string server;             // "redis 7.0.15"
  std::string role;               // "master"
  std::uint64_t used_bytes = 0;   // of its memory, whoever uses it
  std::uint64_t limit_bytes = 0;  // 0 = none
  std::uint64_t chunks = 0;       // of ours
  std::uint64_t orphans = 0;      // parts of large chunks whose first part is not there
};

// One thread at a time, but for shut(). Every call blocks, until the deadline at most. An error is
// one of the connection (kTimeout, kUnavailable, kIo, kCorrupted: what came is no answer) or says
// that we are not let in (kInvalidArgument); after it the transport is of no use any more.
class Transport {
 public:
  // Once for each item that was answered; after an error the others never are.
  using Done = std::function<void(std::uint32_t item, TierOutcome outcome)>;

  Transport() = default;
  Transport(Transport const&) = delete;
  Transport& operator=(Transport const&) = delete;
  virtual ~Transport() = default;

  [[nodiscard]] virtual Result<void> ping(Deadline deadline) = 0;
  // Bytes that the record of each key has there, 0 = it is not there. One round trip for all.
  [[nodiscard]] virtual Result<std::vector<std::uint64_t>> sizes(std::span<ChunkKey const> keys,
                                                                 Deadline deadline) = 0;
  // What arrived was checked: key, lengths and checksum. After anything but kDone the slot holds
  // rubbish.
  [[nodiscard]] virtual Result<void> get_into(std::span<RemoteGet const> items, Deadline deadline,
                                              Done const& done) = 0;
  [[nodiscard]] virtual Result<void> put(std::span<RemotePut const> items, Deadline deadline,
                                         Done const& done) = 0;
  // How many there were. An empty list removes nothing.
  [[nodiscard]] virtual Result<std::uint64_t> remove(std::span<ChunkKey const> keys,
                                                     Deadline deadline) = 0;
  // Whatever a put() of records of so many bytes may have left that did not end well.
  [[nodiscard]] virtual Result<void> discard(std::span<ChunkKey const> keys,
                                             std::span<std::uint64_t const> record_bytes,
                                             Deadline deadline) = 0;
  // Removes all chunks of ours, and nothing else that the server holds.
  [[nodiscard]] virtual Result<std::uint64_t> clear(Deadline deadline) = 0;
  [[nodiscard]] virtual Result<RemoteDescription> describe(Deadline deadline) = 0;
  // Ends calls that other threads are in. Thread-safe.
  virtual void shut() noexcept = 0;
};

// Makes a connection; blocks until the deadline at most.
using TransportFactory = std::function<Result<std::unique_ptr<Transport>>(Deadline deadline)>;

}  // namespace lmcache
