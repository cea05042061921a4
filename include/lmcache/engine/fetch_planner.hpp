// SPDX-License-Identifier: Apache-2.0
// What of a prompt lies on disk and is worth bringing, and the reads that bring it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <lmcache/base/clock.hpp>
#include <lmcache/engine/fetch_state.hpp>
#include <lmcache/key/key_chain.hpp>
#include <lmcache/tier/disk/disk_tier.hpp>
#include <lmcache/tier/dram/dram_tier.hpp>

namespace lmcache {

// Thread-safe. Both tiers must outlive it.
class FetchPlanner {
 public:
  FetchPlanner(DramTier& dram, DiskTier& disk, Clock const& clock) noexcept
      : dram_{dram}, disk_{disk}, clock_{clock} {}

  struct Span {
    std::uint32_t first_token;      // all before it is in memory
    std::uint32_t computed_tokens;  // that the serving engine has: fetching them saves nothing
    std::uint32_t limit_tokens;
    std::uint64_t prefill_ps_per_token;  // 0 = not known
  };
  // Starts the reads. Nothing: there is nothing to fetch, it is not worth it, or no slot was free.
  // How far the prefix would reach; `first_token` when nothing would be fetched.
  [[nodiscard]] std::uint32_t reach(DramNamespace const& space, KeyChain const& chain,
                                    Span const& span) const;
  [[nodiscard]] std::shared_ptr<FetchState> start(DramNamespace& space, KeyChain const& chain,
                                                  Span const& span);

 private:
  struct Wanted {
    DramTier::ChunkPlace place;
    ChunkKey key;
    std::uint64_t size_bytes = 0;  // on disk; 0 = it is in memory, or coming
    ChunkRef coming;
  };
  struct Plan {
    std::vector<Wanted> wanted;  // in the order of the prompt, all lanes of a chunk together
    std::uint32_t prefix_tokens = 0;
  };
  [[nodiscard]] Plan look(DramNamespace const& space, KeyChain const& chain,
                          Span const& span) const;
  // Nothing: there is nothing to fetch.
  [[nodiscard]] std::optional<LoadEstimate> estimate(Plan const& plan, Span const& span) const;
  [[nodiscard]] std::shared_ptr<FetchState> reserve(DramNamespace& space, KeyChain const& chain,
                                                    Plan const& plan, LoadEstimate const& estimate);

  DramTier& dram_;
  DiskTier& disk_;
  Clock const& clock_;
};

}  // namespace lmcache
