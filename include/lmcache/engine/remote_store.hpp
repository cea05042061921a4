// SPDX-License-Identifier: Apache-2.0
// A remote store without an engine: for those who look after one, and for measuring.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <lmcache/base/log.hpp>
#include <lmcache/base/result.hpp>
#include <lmcache/key/chunk_key.hpp>

namespace lmcache {

class RemoteTier;
class Transport;
class TransportQueue;

struct RemoteStoreOptions {
  std::string url;
  std::string user{};  // where the URL names none
  std::string password{};
  std::string serde = "msgpack";
  std::uint32_t connections = 4;
  bool overwrites = false;                // write() writes what is there already, too
  std::uint32_t timeout_ms = 10'000;      // of connecting, and of any call
  std::uint32_t transfer_timeout_ms = 0;  // of write() and read(); 0 = the same
  std::uint32_t ttl_seconds = 0;          // of what is written; 0 = for ever
  // Instead of what says where it is, as in EngineOptions.
  std::shared_ptr<TransportQueue> calls{};
};

// A batch of chunks in one piece of memory, a slot each.
struct RemoteSlots {
  std::byte* data = nullptr;
  std::uint64_t slot_bytes = 0;
  std::uint64_t payload_bytes = 0;  // of each chunk
};

struct RemoteStoreUse {
  std::string name;  // the URL without its password
  std::string server;
  std::string role;
  std::uint64_t used_bytes = 0;
  std::uint64_t limit_bytes = 0;  // 0 = none
  std::uint64_t chunks = 0;
  std::uint64_t orphans = 0;  // parts of large chunks whose first part is not there
};

// One thread at a time. All calls block, until the timeout at most.
class RemoteStore {
 public:
  // Errors: kInvalidArgument (URL, serde, refused password), kUnavailable (also: the client's error
  // message), kTimeout.
  [[nodiscard]] static Result<std::unique_ptr<RemoteStore>> open(RemoteStoreOptions options,
                                                                 LogHook log);
  ~RemoteStore();
  RemoteStore(RemoteStore&&) = delete;

  // For messages: the URL without its password.
  [[nodiscard]] std::string const& name() const noexcept { return name_; }
  // Nanoseconds of a round trip.
  [[nodiscard]] Result<std::uint64_t> ping();
  [[nodiscard]] Result<RemoteStoreUse> stat();
  // How many chunks were removed: all of ours, nothing else.
  [[nodiscard]] Result<std::uint64_t> clear();
  // How many there were. Also what write() left of them when it failed halfway.
  [[nodiscard]] Result<std::uint64_t> remove(std::span<ChunkKey const> keys);
  // How many are there, by one round trip.
  [[nodiscard]] Result<std::uint64_t> find(std::span<ChunkKey const> keys);
  // Slot i gets the header of a chunk keys[i] and is written. How many are there then.
  [[nodiscard]] std::uint64_t write(std::span<ChunkKey const> keys, RemoteSlots const& slots);
  // How many arrived and are right.
  [[nodiscard]] std::uint64_t read(std::span<ChunkKey const> keys, RemoteSlots const& slots);

 private:
  RemoteStore(RemoteStoreOptions options, std::string name, std::unique_ptr<Transport> transport,
              std::unique_ptr<RemoteTier> tier) noexcept;

  RemoteStoreOptions options_;
  std::string name_;
  std::unique_ptr<Transport> transport_;
  std::uint64_t longest_record_bytes_{0};  // that write() was given
  std::unique_ptr<RemoteTier> tier_;
};

}  // namespace lmcache
