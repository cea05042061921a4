// SPDX-License-Identifier: Apache-2.0
// What of a prompt lies in a tier below and is worth bringing, and the reads that bring it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <lmcache/base/clock.hpp>
#include <lmcache/engine/fetch_state.hpp>
#include <lmcache/key/key_chain.hpp>
#include <lmcache/tier/disk/disk_tier.hpp>
#include <lmcache/tier/dram/dram_tier.hpp>
#include <lmcache/tier/remote/remote_tier.hpp>

namespace lmcache {

// Thread-safe. The tiers must outlive it, but that it may be called while the remote one closes.
class FetchPlanner {
 public:
  struct Tiers {
    DramTier& dram;
    DiskTier* disk = nullptr;
    RemoteTier* remote = nullptr;
    // A chunk came from the remote: told after it was published.
    FetchState::OnRemote on_remote = {};
  };
  FetchPlanner(Tiers tiers, Clock const& clock) noexcept
      : dram_{tiers.dram},
        disk_{tiers.disk},
        remote_{tiers.remote},
        on_remote_{std::move(tiers.on_remote)},
        clock_{clock} {}

  struct Span {
    std::uint32_t first_token;      // all before it is in memory
    std::uint32_t computed_tokens;  // that the serving engine has: fetching them saves nothing
    std::uint32_t limit_tokens;
    std::uint64_t prefill_ps_per_token;  // 0 = not known
  };
  // How far the prefix would reach; `first_token` when nothing would be fetched. Blocks while a
  // remote is asked, for its deadline and 2 s at most.
  [[nodiscard]] std::uint32_t reach(DramNamespace const& space, KeyChain const& chain,
                                    Span const& span) const;
  // Starts the reads; the remote is asked before for what is known nowhere else. Nothing: there is
  // nothing to fetch, it is not worth it, or no slot was free. `space` must live as long as the
  // planner.
  [[nodiscard]] std::shared_ptr<FetchState> start(DramNamespace& space, KeyChain const& chain,
                                                  Span const& span);

 private:
  struct Wanted {
    DramTier::ChunkPlace place;
    ChunkKey key;
    std::uint64_t size_bytes = 0;  // in the tier below; 0 = it is in memory, or coming
    bool remote = false;           // else on disk
    bool there = false;            // in memory, coming, or in a tier below
    ChunkRef coming;
  };
  // Of which prompt in which namespace.
  struct Place {
    DramNamespace const& space;
    KeyChain const& chain;
    Span const& span;
  };
  struct Plan {
    std::vector<Wanted> seen;    // in the order of the prompt, all lanes of a chunk together
    std::vector<Wanted> wanted;  // of these what the prefix needs
    std::uint32_t prefix_tokens = 0;
    std::vector<ChunkKey> unknown;  // that follow, and that the remote was not asked for yet
    std::size_t guesses = 0;        // the last of these are tails, most of which are not there
  };
  [[nodiscard]] Plan look(DramNamespace const& space, KeyChain const& chain,
                          Span const& span) const;
  [[nodiscard]] std::vector<Wanted> candidates(DramNamespace const& space, KeyChain const& chain,
                                               Span const& span) const;
  void locate(Wanted& seen, std::optional<DiskPlace> const& place,
              std::uint64_t remote_bytes) const;
  // Adds what continues the prefix inside `chunk`, the first that is not there (tail_search.cpp).
  void add_tail(Plan& plan, Place const& where, std::uint32_t chunk) const;
  void locate_tails(std::span<Wanted> tails, bool ask, Plan& plan) const;
  // Chooses the longest prefix of what was seen, of whole chunks before `end_chunk`.
  static void fit(Plan& plan, Place const& place, std::uint32_t end_chunk);
  // Nothing: there is nothing to fetch.
  [[nodiscard]] std::optional<LoadEstimate> estimate(Plan const& plan, Span const& span) const;
  [[nodiscard]] std::optional<LoadEstimate> choose(Plan& plan, Place const& place) const;
  [[nodiscard]] std::shared_ptr<FetchState> ask(DramNamespace& space, KeyChain const& chain,
                                                Span const& span, Plan const& plan);
  struct Asking {
    std::shared_ptr<FetchState> state;
    DramNamespace& space;
    KeyChain chain;
    Span span;
  };
  void ask_round(std::shared_ptr<Asking const> const& asking, Plan const& wanted, int rounds);
  struct Reserved {
    std::vector<FetchState::Piece> pieces;
    std::vector<ChunkRef> coming;
    std::uint32_t reached = 0;
  };
  [[nodiscard]] Reserved reserve(DramNamespace& space, KeyChain const& chain, Plan const& plan);
  [[nodiscard]] FetchState::OnSlow on_slow(bool remote) const;
  void read(std::shared_ptr<FetchState> const& state, Reserved reserved);

  DramTier& dram_;
  DiskTier* disk_;
  RemoteTier* remote_;
  FetchState::OnRemote const on_remote_;
  Clock const& clock_;
};

}  // namespace lmcache
