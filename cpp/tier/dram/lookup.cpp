// SPDX-License-Identifier: Apache-2.0
// The longest prefix of a prompt that is there: whole chunks by one hash probe each, with the
// memory of the probes to come fetched ahead; then a part of the next one (partial_match.cpp).
#include <algorithm>
#include <ranges>
#include <utility>

#include <lmcache/layout/prefix_window.hpp>
#include <lmcache/tier/dram/dram_tier.hpp>

namespace lmcache {
namespace {

constexpr std::uint32_t kPrefetchBuckets = 12;  // keys ahead
constexpr std::uint32_t kPrefetchEntries = 6;
constexpr std::size_t kTouchesKept = 8192;
// How many uses are applied in one hold of the space lock: the thread that does it is nice, and may
// be put aside for milliseconds while it holds what a look-up waits for.
constexpr std::size_t kTouchesPerHold = 256;

// A prefix must not end inside a multimodal item: attention within one need not be causal.
std::uint32_t cut_before_item(KeyChain const& chain, std::uint32_t first, std::uint32_t end) {
  if (end >= chain.token_count()) return end;
  for (auto const& item : chain.items_overlapping(first, end)) {
    if (item.end_token() > end) return std::max(first, item.first_token);
  }
  return end;
}

}  // namespace

DramTier::Presence DramTier::lease_key(ChunkKey const& key, ChunkRef& out) {
  auto const guard = state_.index.lock(key, kLockTimeout);
  if (!guard) return Presence::kBlocked;
  std::uint32_t const index = state_.index.find(key);
  if (index == kNoEntry) return Presence::kMissing;
  auto const& entry = state_.index.at(index);
  if (entry.state.load(std::memory_order_acquire) != EntryState::kReady) return Presence::kMissing;
  if (entry.expires_unix_s != 0 && entry.expired(state_.clock.unix_seconds())) {
    return Presence::kMissing;
  }
  if (!add_lease(index)) return Presence::kMissing;
  out = {.index = index, .generation = entry.generation.load(std::memory_order_relaxed)};
  return Presence::kThere;
}

DramTier::Presence DramTier::lease_lanes(DramNamespace const& space, ChunkKey const& chain_key,
                                         Demand demand, LeasedPrefix& out) {
  for (std::uint32_t lane = 0; lane < space.lanes(); ++lane) {
    ChunkRef ref;
    auto const presence = lease_key(chain_key ^ space.lane_masks[lane], ref);
    bool const may_lack = demand == Demand::kWhole && !space.needs_all(lane);
    if (presence == Presence::kThere || (presence == Presence::kMissing && may_lack)) {
      out.lanes[lane].push_back(ref);
      continue;
    }
    for (std::uint32_t leased = 0; leased < lane; ++leased) {
      ChunkRef const refs[] = {out.lanes[leased].back()};
      release(refs);
      out.lanes[leased].pop_back();
    }
    return presence;
  }
  return Presence::kThere;
}

// Called once per chunk: the bucket of a later one, then the entry that a nearer one's bucket
// names.
void DramTier::prefetch(DramNamespace const& space, std::span<ChunkKey const> keys,
                        std::uint32_t chunk) const noexcept {
  for (auto const& mask : space.lane_masks) {
    if (chunk + kPrefetchBuckets < keys.size()) {
      state_.index.prefetch_bucket(keys[chunk + kPrefetchBuckets] ^ mask);
    }
    if (chunk + kPrefetchEntries < keys.size()) {
      state_.index.prefetch_entry(keys[chunk + kPrefetchEntries] ^ mask);
    }
  }
}

LeasedPrefix DramTier::lookup(DramNamespace const& space, KeyChain const& chain,
                              std::uint32_t limit_tokens) {
  LeasedPrefix out;
  out.lanes.resize(space.lanes());
  std::uint32_t const limit = std::min(limit_tokens, chain.token_count());
  std::uint32_t const chunk_tokens = chain.chunk_tokens();
  std::uint32_t const whole = std::min(limit / chunk_tokens, chain.chunk_count());
  auto const keys = chain.keys().first(whole);
  for (auto& lane : out.lanes) lane.reserve(whole + 1);
  for (std::uint32_t i = 0; i < std::min(whole, kPrefetchBuckets); ++i) {
    for (auto const& mask : space.lane_masks) state_.index.prefetch_bucket(keys[i] ^ mask);
  }
  std::uint32_t chunk = 0;
  auto presence = Presence::kThere;
  while (chunk < whole) {
    prefetch(space, keys, chunk);
    presence = lease_lanes(space, keys[chunk], Demand::kWhole, out);
    if (presence != Presence::kThere) break;
    ++chunk;
  }
  out.prefix_tokens = chunk * chunk_tokens;
  // A part of the next chunk comes before the windows are looked at: what one needs before the end
  // of that part may be there where what it needs before its beginning is not.
  if (out.prefix_tokens < limit && presence != Presence::kBlocked) {
    out.prefix_tokens += lease_partial(space, chain, limit, out);
  }
  out.prefix_tokens = cut_before_item(chain, 0, out.prefix_tokens);
  fit_windows(space, chunk_tokens, out);
  std::uint32_t const pieces = (out.prefix_tokens + chunk_tokens - 1) / chunk_tokens;
  for (auto& lane : out.lanes) {
    if (lane.size() <= pieces) continue;
    release(std::span{lane}.subspan(pieces));
    lane.resize(pieces);
  }
  release_before_windows(space, chunk_tokens, out);
  for (auto const& lane : out.lanes) touch(lane);
  count_lookup(space, chain, out);
  return out;
}

// Cuts a prefix to what its lanes with windows have.
void DramTier::fit_windows(DramNamespace const& space, std::uint32_t chunk_tokens,
                           LeasedPrefix& out) const {
  if (space.lane_windows.empty()) return;
  out.prefix_tokens = longest_prefix(
      space.lane_windows, chunk_tokens, out.prefix_tokens,
      [&](std::uint32_t lane, std::uint32_t chunk) { return bool{out.lanes[lane][chunk]}; });
}

void DramTier::release_before_windows(DramNamespace const& space, std::uint32_t chunk_tokens,
                                      LeasedPrefix& out) {
  for (std::uint32_t lane = 0; lane < space.lane_windows.size(); ++lane) {
    auto const window = space.lane_windows[lane];
    auto const needed = first_needed_chunk(window, out.prefix_tokens, chunk_tokens);
    auto const before = std::span{out.lanes[lane]}.first(needed);
    release(before);
    std::ranges::fill(before, ChunkRef{});
  }
}

void DramTier::count_lookup(DramNamespace const& space, KeyChain const& chain,
                            LeasedPrefix const& found) {
  if (owns_record(space)) {
    auto& record = state_.namespaces.at(space.place.id());
    count(record.lookups);
    count(record.lookup_tokens, chain.token_count());
    count(record.hit_tokens, found.prefix_tokens);
  }
  count(state_.counters->lookups);
  count(state_.counters->lookup_tokens, chain.token_count());
  count(state_.counters->hit_tokens, found.prefix_tokens);
}

// Applied later, in one go (flush_touches): moving an entry in a list costs more than finding it.
// After Ding, Jiang, Zhang: "BP-Wrapper: a system framework making any replacement algorithms
// (almost) lock contention free", ICDE 2009.
void DramTier::touch(std::span<ChunkRef const> refs) {
  std::lock_guard const lock{pending_mutex_};
  // The housekeeper is behind: forget these uses.
  if (touched_.size() + refs.size() > kTouchesKept) return;
  // From the last to the first: a parent is never older than its children.
  for (auto const ref : std::views::reverse(refs)) {
    if (ref) touched_.push_back(ref);
  }
}

std::vector<ChunkKey> DramTier::take_used_below() {
  std::lock_guard const lock{pending_mutex_};
  auto out = std::exchange(used_below_, {});
  std::ranges::reverse(out);
  return out;
}

void DramTier::flush_touches() {
  std::vector<ChunkRef> refs;
  std::vector<ChunkKey> below;
  {
    std::lock_guard const lock{pending_mutex_};
    if (touched_.empty()) return;
    refs.swap(touched_);
  }
  for (std::size_t first = 0; first < refs.size(); first += kTouchesPerHold) {
    auto const guard = state_.lock_space();
    if (!guard) break;
    auto const end = std::min(refs.size(), first + kTouchesPerHold);
    for (auto const ref : std::span{refs}.subspan(first, end - first)) {
      auto const& entry = state_.index.at(ref.index);
      if (!matches(entry, ref) ||
          entry.state.load(std::memory_order_relaxed) == EntryState::kFree) {
        continue;
      }
      state_.policy->on_hit(state_.class_of(entry).leaves, ref.index, ++state_.space.now,
                            entry.child_count == 0);
      if ((entry.lower_tiers.load(std::memory_order_relaxed) & kOnDisk) != 0) {
        below.push_back(entry.key());
      }
    }
  }
  if (below.empty()) return;
  std::lock_guard const lock{pending_mutex_};
  if (used_below_.size() < kTouchesKept) {
    used_below_.insert(used_below_.end(), below.begin(), below.end());
  }
}

}  // namespace lmcache
