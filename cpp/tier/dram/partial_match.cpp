// SPDX-License-Identifier: Apache-2.0
// The longest common token prefix of a prompt with a stored chunk, where the chain of keys ends.
//
// KV is causal, so a prefix of a chunk is valid. Candidates are the ready children of the last
// chunk that matched: found by a hash of their first 16 tokens, else among the latest of them, a
// bounded number of either.
#include <algorithm>
#include <utility>

#include <lmcache/tier/dram/dram_tier.hpp>

namespace lmcache {
namespace {

constexpr int kMaxCandidates = 16;

std::uint32_t same_tokens(std::span<std::uint32_t const> a, std::span<std::uint32_t const> b) {
  auto const length = std::min(a.size(), b.size());
  auto const end = a.begin() + static_cast<std::ptrdiff_t>(length);
  return static_cast<std::uint32_t>(std::mismatch(a.begin(), end, b.begin()).first - a.begin());
}

}  // namespace

std::uint32_t DramTier::lease_partial(DramNamespace const& space, KeyChain const& chain,
                                      std::uint32_t limit_tokens, LeasedPrefix& out) {
  auto const chunk = static_cast<std::uint32_t>(out.lanes.front().size());
  std::uint32_t const first = chunk * chain.chunk_tokens();
  std::uint32_t const end = std::min(limit_tokens, first + chain.chunk_tokens());
  // The chunk itself, of which only a part is asked for: its whole, or the tail that this very
  // prompt left. (A whole chunk that is asked for as a whole was looked for by our caller.)
  if (end - first < chain.chunk_tokens()) {
    std::uint32_t const known = std::min(chain.token_count(), first + chain.chunk_tokens());
    if (auto const key = chunk < chain.chunk_count() ? Result<ChunkKey>{chain.keys()[chunk]}
                                                     : chain.tail_key(chunk, known)) {
      auto const presence = lease_lanes(space, key.value(), Demand::kAll, out);
      if (presence == Presence::kThere) return end - first;
      if (presence == Presence::kBlocked) return 0;
    }
  }
  for (auto const& match : partial_matches(space, chain, chunk, end)) {
    auto const presence = lease_lanes(space, match.chain_key, Demand::kAll, out);
    if (presence == Presence::kBlocked) return 0;
    if (presence == Presence::kMissing) continue;  // another lane, or the chunk by now
    if (key_is_of(match.chain_key, chain.parent_of(chunk), out.lanes.front().back())) {
      return match.tokens;
    }
    for (auto& lane : out.lanes) {
      release({&lane.back(), 1});
      lane.pop_back();
    }
  }
  return 0;
}

// The candidates with at least one token in common, the longest first.
std::vector<DramTier::PartialMatch> DramTier::partial_matches(DramNamespace const& space,
                                                              KeyChain const& chain,
                                                              std::uint32_t chunk,
                                                              std::uint32_t end_token) {
  std::uint32_t const first = chunk * chain.chunk_tokens();
  // A slot holds token ids, not items: only the tokens before the first item can be compared.
  auto const items = chain.items_overlapping(first, end_token);
  if (!items.empty()) end_token = std::max(first, items.front().first_token);
  if (end_token <= first) return {};
  auto const wanted = chain.tokens().subspan(first, end_token - first);
  std::vector<PartialMatch> out;

  auto const guard = state_.lock_space();
  if (!guard || (chunk == 0 && !owns_record(space))) return out;
  auto const mask = space.lane_masks.front();
  std::int64_t const now = state_.clock.unix_seconds();
  auto const parent_key = chain.parent_of(chunk) ^ mask;
  auto const consider = [&](std::uint32_t index) {
    auto const& entry = state_.index.at(index);
    if (entry.state.load(std::memory_order_acquire) != EntryState::kReady || entry.expired(now))
      return;
    if (entry.lane != 0 || (entry.flags & kHasMedia) != 0) return;
    bool const related =
        entry.parent != kNoEntry
            ? chunk != 0 && state_.index.at(entry.parent).has_key(parent_key)
            : chunk == 0 && (entry.flags & kAtRoot) != 0 && entry.namespace_id == space.place.id();
    if (!related) return;
    std::uint32_t const tokens = same_tokens(slot_tokens(*segment_, entry), wanted);
    if (tokens != 0) out.push_back({.chain_key = entry.key() ^ mask, .tokens = tokens});
  };

  if (std::uint32_t const fingerprint = chain.fingerprint(chunk, end_token); fingerprint != 0) {
    std::uint32_t at = state_.tree.first_with_fingerprint(fingerprint);
    for (int seen = 0; at != kNoEntry && seen < kMaxCandidates;
         at = state_.index.at(at).fingerprint_next) {
      if (state_.index.at(at).fingerprint != fingerprint) continue;
      consider(at);
      ++seen;
    }
  }
  if (out.empty()) {
    std::uint32_t child = kNoEntry;
    if (chunk == 0) {
      child = state_.namespaces.at(space.place.id()).root_children;
    } else if (auto const shard = state_.index.lock(parent_key, kLockTimeout)) {
      std::uint32_t const parent = state_.index.find(parent_key);
      if (parent != kNoEntry) child = state_.index.at(parent).first_child;
    }
    for (int seen = 0; child != kNoEntry && seen < kMaxCandidates; ++seen) {
      consider(child);
      child = state_.index.at(child).next_sibling;
    }
  }
  std::ranges::stable_sort(out, std::ranges::greater{}, &PartialMatch::tokens);
  return out;
}

// Whether a leased chunk's key is really that of the tokens in its slot, after that parent. Whole
// chunks match by their key, which covers all that comes before; a part matches by links and tokens
// in shared memory, and a link that went wrong must cost a miss, not a wrong answer. About a
// microsecond.
bool DramTier::key_is_of(ChunkKey const& chain_key, ChunkKey const& parent, ChunkRef ref) const {
  auto context = Sha256Context::create(sha256_);
  if (!context) return false;
  auto const tokens = slot_tokens(*segment_, state_.index.at(ref.index));
  ChunkKey key;
  context.value().begin();
  context.value().update(parent.bytes.data(), parent.bytes.size());
  context.value().update(tokens.data(), tokens.size_bytes());
  return context.value().finish(key.bytes).has_value() && key == chain_key;
}

}  // namespace lmcache
