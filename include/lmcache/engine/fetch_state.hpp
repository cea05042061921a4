// SPDX-License-Identifier: Apache-2.0
// What a fetch waits for, shared by its owner and the reads under way.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include <lmcache/base/clock.hpp>
#include <lmcache/engine/load_rule.hpp>
#include <lmcache/tier/disk/disk_tier.hpp>
#include <lmcache/tier/dram/dram_tier.hpp>

namespace lmcache {

// Thread-safe.
class FetchState {
 public:
  struct Piece {
    ChunkRef ref;  // reserved, and leased to write
    ChunkKey key;
    ChunkSlot slot;
    std::uint64_t size_bytes;
    bool remote = false;  // else from disk
  };
  // Told once, when the reads are given up for their slowness.
  using OnSlow = std::function<void(std::uint64_t arrived_bytes, std::uint64_t elapsed_ns)>;
  using OnRemote = std::function<void(ChunkRef ref)>;
  FetchState(DramTier& dram, Clock const& clock, LoadEstimate estimate, std::uint32_t prefix_tokens,
             OnSlow on_slow = {}, OnRemote on_remote = {}) noexcept;
  // Nothing is known yet of what will be fetched: done() waits for plan() or nothing().
  void begin_asking();
  // False: nobody waits any more.
  [[nodiscard]] bool still_wanted();
  void plan(LoadEstimate estimate, std::uint32_t prefix_tokens, OnSlow on_slow);
  // There is nothing to fetch.
  void nothing();

  // Before anything is under way.
  void expect(std::vector<Piece> pieces, std::vector<ChunkRef> coming);
  [[nodiscard]] std::vector<Piece> const& pieces() const noexcept { return pieces_; }
  // On a thread of the tier below.
  void arrived(std::uint32_t piece, TierOutcome outcome);

  [[nodiscard]] bool done();
  [[nodiscard]] bool wait(std::chrono::milliseconds timeout);
  [[nodiscard]] std::uint32_t prefix_tokens() const noexcept { return prefix_tokens_.load(); }
  void release();

 private:
  [[nodiscard]] bool all_came() const;
  void count_outcome(Piece const& piece, TierOutcome outcome);

  DramTier& dram_;
  Clock const& clock_;
  std::atomic<std::uint32_t> prefix_tokens_;
  OnRemote const on_remote_;  // a chunk came from there
  std::int64_t const started_ns_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  LoadEstimate estimate_;
  OnSlow on_slow_;
  bool asking_{false};
  std::vector<Piece> pieces_;     // never change once they are under way
  std::vector<ChunkRef> coming_;  // that somebody else fetches
  std::uint32_t open_{0};
  std::uint64_t arrived_bytes_{0};
  std::vector<ChunkRef> kept_;  // leased to read
  bool released_{false};
  bool abandoned_{false};
};

}  // namespace lmcache
