// SPDX-License-Identifier: Apache-2.0
// All that an engine does with its remote tier.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>

#include <lmcache/base/clock.hpp>
#include <lmcache/base/log.hpp>
#include <lmcache/engine/engine_options.hpp>
#include <lmcache/engine/write_behind.hpp>
#include <lmcache/tier/dram/dram_tier.hpp>
#include <lmcache/tier/remote/remote_tier.hpp>
#include <lmcache/tier/remote/transport_queue.hpp>

namespace lmcache {

// Thread-safe. The DRAM tier must outlive it.
class RemoteSide {
 public:
  // Waits for no server. Errors: kInvalidArgument (URL, serde), kUnavailable (no thread).
  [[nodiscard]] static Result<std::unique_ptr<RemoteSide>> open(EngineOptions const& options,
                                                                DramTier& dram, Clock const& clock,
                                                                LogHook const& log);
  // Sends what was handed over, for 2 s at most; waits for calls that other threads are in with
  // memory of ours, and 5 s at most until they gave back what was lent.
  ~RemoteSide();
  RemoteSide(RemoteSide&&) = delete;

  // A chunk was stored in memory.
  void stored(ChunkRef ref) { writes_.offer(ref); }
  // Every now and then, by the housekeeper: tells what `lmcache status` shows, and sends what could
  // not be sent, once more while it is still in memory.
  void keep_house();
  [[nodiscard]] bool drain(std::chrono::milliseconds timeout) { return remote_->drain(timeout); }
  [[nodiscard]] RemoteTier& tier() noexcept { return *remote_; }

 private:
  RemoteSide(DramTier& dram, Clock const& clock, std::uint64_t budget_bytes);

  void remember(ChunkRef ref);
  void send_again();

  DramTier& dram_;
  std::uint64_t const budget_bytes_;
  std::mutex mutex_;  // guards unsent_
  std::deque<ChunkRef> unsent_;
  WriteBehind writes_;
  std::shared_ptr<TransportQueue> calls_;
  std::unique_ptr<RemoteTier> remote_;  // goes before what its callbacks use
};

}  // namespace lmcache
