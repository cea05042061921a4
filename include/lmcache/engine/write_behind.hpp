// SPDX-License-Identifier: Apache-2.0
// Chunks that were stored in memory, on their way to a tier below.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include <lmcache/base/clock.hpp>
#include <lmcache/index/chunk_record.hpp>
#include <lmcache/index/chunk_ref.hpp>
#include <lmcache/tier/dram/dram_tier.hpp>
#include <lmcache/tier/tier_outcome.hpp>

namespace lmcache {

// Thread-safe. The DRAM tier and what `send` uses must outlive every write under way.
class WriteBehind {
 public:
  using Done = std::function<void(TierOutcome outcome)>;
  // Hands the record in a slot to the tier, which answers once. Must not block.
  using Send = std::function<void(ChunkHeader const& header, ChunkSlot const& slot, Done done)>;
  // Where what becomes of chunks is counted.
  struct Counts {
    std::atomic<std::uint64_t>& written_chunks;
    std::atomic<std::uint64_t>& written_bytes;
    std::atomic<std::uint64_t>& write_ns;
    std::atomic<std::uint64_t>& dropped_writes;
    std::atomic<std::uint64_t>& write_errors;
    std::atomic<std::uint64_t>* known_chunks = nullptr;
  };
  // What became of a chunk. Must not block.
  struct Hooks {
    std::function<void(ChunkRef ref)> on_there{};  // the tier has it by now
    // It has not, for a reason that may pass: no room under way, a tier left alone.
    std::function<void(ChunkRef ref)> on_left{};
  };
  enum class Attempt : std::uint8_t { kFirst, kLast };  // on_left does not hear of the last

  WriteBehind(DramTier& dram, Clock const& clock, std::uint64_t budget_bytes, Counts counts,
              Send send, Hooks hooks) noexcept
      : dram_{dram},
        clock_{clock},
        budget_bytes_{budget_bytes},
        counts_{counts},
        send_{std::move(send)},
        hooks_{std::move(hooks)} {}
  WriteBehind(WriteBehind&&) = delete;

  // A chunk was published: it is written if the tier has it not. Never waits: beyond the budget of
  // bytes under way it is not written, and counted.
  void offer(ChunkRef ref, Attempt attempt = Attempt::kFirst);
  [[nodiscard]] std::uint64_t open_bytes() const noexcept { return open_bytes_.load(); }

 private:
  struct Offered {
    ChunkRef ref;
    Attempt attempt;
    std::uint64_t size_bytes;
    std::int64_t started_ns;
  };
  void written(Offered const& chunk, TierOutcome outcome);
  void left(Offered const& chunk);

  DramTier& dram_;
  Clock const& clock_;
  std::uint64_t const budget_bytes_;
  Counts const counts_;
  Send const send_;
  Hooks const hooks_;
  std::atomic<std::uint64_t> open_bytes_{0};
};

}  // namespace lmcache
