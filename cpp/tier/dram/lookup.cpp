// SPDX-License-Identifier: Apache-2.0
// The longest prefix of a prompt that is there.
//
// The chain of keys gives whole chunks: one hash probe each, with the memory of the probes to come
// fetched ahead. Where it ends, the longest common token prefix with a stored child of the last
// matching chunk is used too: KV is causal, so a prefix of a chunk is valid. Candidates are found
// by a hash of their first 16 tokens, then among the latest children, a bounded number of either.
#include <algorithm>
#include <utility>

#include <lmcache/tier/dram/dram_tier.hpp>

namespace lmcache {
namespace {

constexpr std::uint32_t kPrefetchBuckets = 12;  // keys ahead
constexpr std::uint32_t kPrefetchEntries = 6;
constexpr int kMaxCandidates = 16;
constexpr std::size_t kTouchesKept = 8192;

std::uint32_t common_prefix(std::span<std::uint32_t const> a, std::span<std::uint32_t const> b) {
  auto const length = std::min(a.size(), b.size());
  auto const end = a.begin() + static_cast<std::ptrdiff_t>(length);
  return static_cast<std::uint32_t>(std::mismatch(a.begin(), end, b.begin()).first - a.begin());
}

// A prefix must not end inside a multimodal item: attention within one need not be causal.
std::uint32_t cut_before_item(KeyChain const& chain, std::uint32_t first, std::uint32_t end) {
  if (end >= chain.token_count()) return end;
  for (auto const& item : chain.items_overlapping(first, end)) {
    if (item.end_token() > end) return std::max(first, item.first_token);
  }
  return end;
}

}  // namespace

std::optional<ChunkRef> DramTier::lease_key(ChunkKey const& key) {
  auto const guard = state_.index.lock(key, kLockTimeout);
  if (!guard) return std::nullopt;
  std::uint32_t const index = state_.index.find(key);
  if (index == kNoEntry) return std::nullopt;
  auto const& entry = state_.index.at(index);
  if (entry.state.load(std::memory_order_acquire) != EntryState::kReady) return std::nullopt;
  if (entry.expires_unix_s != 0 && entry.expired(state_.clock.unix_seconds())) return std::nullopt;
  add_lease(index);
  return ChunkRef{.index = index, .generation = entry.generation.load(std::memory_order_relaxed)};
}

bool DramTier::lease_lanes(DramNamespace const& space, ChunkKey const& chain_key,
                           LeasedPrefix& out) {
  for (std::uint32_t lane = 0; lane < space.lanes(); ++lane) {
    if (auto const ref = lease_key(chain_key ^ space.lane_masks[lane])) {
      out.lanes[lane].push_back(*ref);
      continue;
    }
    for (std::uint32_t leased = 0; leased < lane; ++leased) {
      ChunkRef const refs[] = {out.lanes[leased].back()};
      release(refs);
      out.lanes[leased].pop_back();
    }
    return false;
  }
  return true;
}

LeasedPrefix DramTier::lookup(DramNamespace const& space, KeyChain const& chain,
                              std::uint32_t limit_tokens) {
  LeasedPrefix out;
  out.lanes.resize(space.lanes());
  std::uint32_t const limit = std::min(limit_tokens, chain.token_count());
  std::uint32_t const chunk_tokens = chain.chunk_tokens();
  auto const keys = chain.keys();
  std::uint32_t const whole = std::min(limit / chunk_tokens, chain.chunk_count());
  auto const mask = space.lane_masks.front();
  for (auto& lane : out.lanes) lane.reserve(whole + 1);
  for (std::uint32_t i = 0; i < std::min(whole, kPrefetchBuckets); ++i) {
    state_.index.prefetch_bucket(keys[i] ^ mask);
  }
  std::uint32_t chunk = 0;
  for (; chunk < whole; ++chunk) {
    if (chunk + kPrefetchBuckets < whole) {
      state_.index.prefetch_bucket(keys[chunk + kPrefetchBuckets] ^ mask);
    }
    if (chunk + kPrefetchEntries < whole) {
      state_.index.prefetch_entry(keys[chunk + kPrefetchEntries] ^ mask);
    }
    if (!lease_lanes(space, keys[chunk], out)) break;
  }
  out.prefix_tokens = chunk * chunk_tokens;
  if (out.prefix_tokens < limit) out.prefix_tokens += lease_partial(space, chain, limit, out);

  auto const uncut = out.prefix_tokens;
  out.prefix_tokens = cut_before_item(chain, 0, uncut);
  std::uint32_t const pieces = (out.prefix_tokens + chunk_tokens - 1) / chunk_tokens;
  for (auto& lane : out.lanes) {
    if (lane.size() <= pieces) continue;
    release(std::span{lane}.subspan(pieces));
    lane.resize(pieces);
  }
  for (auto const& lane : out.lanes) touch(lane);
  auto& record = state_.namespaces.at(space.id);
  count(record.lookups);
  count(record.lookup_tokens, chain.token_count());
  count(record.hit_tokens, out.prefix_tokens);
  count(state_.counters->lookups);
  count(state_.counters->lookup_tokens, chain.token_count());
  count(state_.counters->hit_tokens, out.prefix_tokens);
  return out;
}

std::uint32_t DramTier::lease_partial(DramNamespace const& space, KeyChain const& chain,
                                      std::uint32_t limit_tokens, LeasedPrefix& out) {
  auto const chunk = static_cast<std::uint32_t>(out.lanes.front().size());
  std::uint32_t const first = chunk * chain.chunk_tokens();
  std::uint32_t const end = std::min(limit_tokens, first + chain.chunk_tokens());
  // The chunk itself, of which only a part is asked for: its whole, or the tail that this very
  // prompt left.
  if (chunk < chain.chunk_count()) {
    if (lease_lanes(space, chain.keys()[chunk], out)) return end - first;
  } else if (auto const key = chain.tail_key(chunk, chain.token_count())) {
    if (lease_lanes(space, key.value(), out)) return end - first;
  }
  auto const match = best_partial(space, chain, chunk, end);
  if (match.tokens == 0 || !lease_lanes(space, match.chain_key, out)) return 0;
  return match.tokens;
}

DramTier::PartialMatch DramTier::best_partial(DramNamespace const& space, KeyChain const& chain,
                                              std::uint32_t chunk, std::uint32_t end_token) {
  std::uint32_t const first = chunk * chain.chunk_tokens();
  // A slot holds token ids, not items: only the tokens before the first item can be compared.
  auto const items = chain.items_overlapping(first, end_token);
  if (!items.empty()) end_token = std::max(first, items.front().first_token);
  if (end_token <= first) return {};
  auto const wanted = chain.tokens().subspan(first, end_token - first);

  auto const guard = state_.lock_space();
  if (!guard) return {};
  auto const mask = space.lane_masks.front();
  std::int64_t const now = state_.clock.unix_seconds();
  auto const parent_key = chain.parent_of(chunk) ^ mask;
  std::uint32_t best = kNoEntry;
  std::uint32_t best_tokens = 0;
  auto const consider = [&](std::uint32_t index) {
    auto const& entry = state_.index.at(index);
    if (entry.state.load(std::memory_order_acquire) != EntryState::kReady || entry.expired(now))
      return;
    if (entry.lane != 0 || (entry.flags & kHasMedia) != 0) return;
    bool const related =
        entry.parent != kNoEntry
            ? chunk != 0 && state_.index.at(entry.parent).has_key(parent_key)
            : chunk == 0 && (entry.flags & kAtRoot) != 0 && entry.namespace_id == space.id;
    if (!related) return;
    std::uint32_t const tokens = common_prefix(slot_tokens(*segment_, entry), wanted);
    if (tokens > best_tokens) best = index, best_tokens = tokens;
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
  if (best == kNoEntry) {
    std::uint32_t child = kNoEntry;
    if (chunk == 0) {
      child = state_.namespaces.at(space.id).root_children;
    } else if (auto const shard = state_.index.lock(parent_key, kLockTimeout)) {
      std::uint32_t const parent = state_.index.find(parent_key);
      if (parent != kNoEntry) child = state_.index.at(parent).first_child;
    }
    for (int seen = 0; child != kNoEntry && seen < kMaxCandidates; ++seen) {
      consider(child);
      child = state_.index.at(child).next_sibling;
    }
  }
  if (best == kNoEntry) return {};
  return {.chain_key = state_.index.at(best).key() ^ mask, .tokens = best_tokens};
}

// Applied later, in one go (flush_touches): moving an entry in a list costs more than finding it.
// After Ding, Jiang, Zhang: "BP-Wrapper: a system framework making any replacement algorithms
// (almost) lock contention free", ICDE 2009.
void DramTier::touch(std::span<ChunkRef const> refs) {
  std::lock_guard const lock{pending_mutex_};
  if (touched_.size() + refs.size() > kTouchesKept)
    return;  // the housekeeper is behind: forget these uses
  // From the last to the first: a parent is never older than its children.
  touched_.insert(touched_.end(), refs.rbegin(), refs.rend());
}

void DramTier::flush_touches() {
  std::vector<ChunkRef> refs;
  {
    std::lock_guard const lock{pending_mutex_};
    if (touched_.empty()) return;
    refs.swap(touched_);
  }
  auto const guard = state_.lock_space();
  if (!guard) return;
  for (auto const ref : refs) {
    auto const& entry = state_.index.at(ref.index);
    if (!matches(entry, ref) || entry.state.load(std::memory_order_relaxed) == EntryState::kFree)
      continue;
    state_.policy->on_hit(state_.class_of(entry).leaves, ref.index, ++state_.space.now,
                          entry.child_count == 0);
  }
}

}  // namespace lmcache
