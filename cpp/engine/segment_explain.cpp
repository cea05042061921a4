// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/segment_explain.hpp>

#include <algorithm>
#include <chrono>
#include <span>
#include <utility>

#include <lmcache/engine/segment_visit.hpp>
#include <lmcache/key/namespace_spec.hpp>
#include <lmcache/tier/dram/dram_tier.hpp>

namespace lmcache {
namespace {

constexpr std::chrono::seconds kPatience{2};
// How many chunks that follow one another's parent are looked at: a look takes 0.1 us.
constexpr std::uint32_t kMostSiblings = 1u << 16;

struct Search {
  DramState& state;
  std::uint16_t namespace_id;
  std::vector<ChunkKey> lane_masks;
  KeyChain const& chain;
  std::int64_t now;
};

MissingPlace place_of(Search const& search, ChunkKey const& key) {
  auto const guard = search.state.index.lock(key, kLockTimeout);
  if (!guard) return MissingPlace::kUnknown;
  std::uint32_t const index = search.state.index.find(key);
  if (index == kNoEntry) return MissingPlace::kAbsent;
  auto const& entry = search.state.index.at(index);
  if (entry.expired(search.now)) return MissingPlace::kAbsent;
  if (entry.state.load(std::memory_order_acquire) == EntryState::kReady) {
    return MissingPlace::kReady;
  }
  bool const fetching = (entry.lower_tiers.load(std::memory_order_relaxed) & kFetching) != 0;
  return fetching ? MissingPlace::kComing : MissingPlace::kWriting;
}

// Whether every lane has the chunk; `out` says of the first that has not.
bool all_lanes(Search const& search, ChunkKey const& chain_key, PrefixThere& out) {
  for (std::uint32_t lane = 0; lane < search.lane_masks.size(); ++lane) {
    auto const key = chain_key ^ search.lane_masks[lane];
    out.missing_place = place_of(search, key);
    if (out.missing_place == MissingPlace::kReady) continue;
    out.missing_lane = lane;
    out.missing_key = key;
    out.removal = search.state.removals.find(key);
    return false;
  }
  out.missing_place = MissingPlace::kNone;
  return true;
}

std::uint32_t first_child(Search const& search, std::uint32_t chunk) {
  if (chunk == 0) return search.state.namespaces.at(search.namespace_id).root_children;
  auto const parent_key = search.chain.keys()[chunk - 1] ^ search.lane_masks.front();
  auto const shard = search.state.index.lock(parent_key, kLockTimeout);
  if (!shard) return kNoEntry;
  std::uint32_t const parent = search.state.index.find(parent_key);
  return parent == kNoEntry ? kNoEntry : search.state.index.at(parent).first_child;
}

// The chunks that are stored after the last one found, and how far the best of them goes along.
std::uint32_t along_siblings(Search const& search, std::uint32_t chunk, PrefixThere& out) {
  auto const rest = search.chain.tokens().subspan(std::size_t{chunk} * search.chain.chunk_tokens());
  auto const wanted = rest.first(std::min<std::size_t>(rest.size(), search.chain.chunk_tokens()));
  std::uint32_t longest = 0;
  std::uint32_t at = first_child(search, chunk);
  for (std::uint32_t seen = 0; at != kNoEntry && seen < kMostSiblings; ++seen) {
    auto const& entry = search.state.index.at(at);
    at = entry.next_sibling;
    if (entry.state.load(std::memory_order_acquire) != EntryState::kReady || entry.lane != 0 ||
        entry.expired(search.now)) {
      continue;
    }
    ++out.continuations;
    if ((entry.flags & kHasMedia) != 0) continue;
    std::span<std::uint32_t const> const tokens = slot_tokens(search.state.segment, entry);
    auto const end = std::min(tokens.size(), wanted.size());
    auto const parted = std::mismatch(
        wanted.begin(), wanted.begin() + static_cast<std::ptrdiff_t>(end), tokens.begin());
    longest = std::max(longest, static_cast<std::uint32_t>(parted.first - wanted.begin()));
  }
  return longest;
}

Result<std::vector<ChunkKey>> lane_masks(NamespaceRecord const& record, std::uint32_t world_size) {
  std::vector<ChunkKey> out;
  for (std::uint32_t lane = 0; lane < record.lanes; ++lane) {
    LMC_TRY_ASSIGN(auto const mask, lane_mask(record.root, {.group = lane / world_size,
                                                            .rank = lane % world_size,
                                                            .world_size = world_size}));
    out.push_back(mask);
  }
  return out;
}

}  // namespace

Result<std::vector<RequestTrace>> read_requests(std::string const& path) {
  LMC_TRY_ASSIGN(auto const visit, SegmentVisit::open(path));
  return visit->state().requests.read();
}

Result<PrefixThere> explain_prompt(std::string const& path, std::uint16_t namespace_id,
                                   std::uint32_t world_size, KeyChain const& chain) {
  LMC_TRY_ASSIGN(auto const visit, SegmentVisit::open(path));
  auto& state = visit->state();
  LMC_TRY_ASSIGN(auto const guard, state.lock_space(kPatience));
  auto const& record = state.namespaces.at(namespace_id % kMaxNamespaces);
  bool const there = namespace_id < kMaxNamespaces && record.used.load() != 0 &&
                     record.root == chain.root() && world_size != 0 &&
                     record.lanes % world_size == 0;
  if (!there || record.lanes == 0) {
    return Error{ErrorCode::kInvalidArgument,
                 "the segment has no namespace " + std::to_string(namespace_id) + " like that"};
  }
  LMC_TRY_ASSIGN(auto masks, lane_masks(record, world_size));
  Search const search{.state = state,
                      .namespace_id = namespace_id,
                      .lane_masks = std::move(masks),
                      .chain = chain,
                      .now = state.clock.unix_seconds()};
  PrefixThere out;
  std::uint32_t chunk = 0;
  while (chunk < chain.chunk_count() && all_lanes(search, chain.keys()[chunk], out)) ++chunk;
  out.found_tokens = chunk * chain.chunk_tokens();
  if (out.found_tokens == chain.token_count()) return out;
  if (chunk == chain.chunk_count()) {
    LMC_TRY_ASSIGN(auto const tail, chain.tail_key(chunk, chain.token_count()));
    if (all_lanes(search, tail, out)) {
      out.found_tokens = chain.token_count();
      return out;
    }
  }
  out.found_tokens += along_siblings(search, chunk, out);
  // A longer chunk that begins like the tail has all of it.
  if (out.found_tokens == chain.token_count()) out.missing_place = MissingPlace::kNone;
  return out;
}

Result<std::vector<OpeningThere>> find_opening(std::string const& path, std::uint64_t opening) {
  LMC_TRY_ASSIGN(auto const visit, SegmentVisit::open(path));
  auto& state = visit->state();
  LMC_TRY_ASSIGN(auto const guard, state.lock_space(kPatience));
  std::vector<OpeningThere> out;
  auto const records = state.namespaces.records();
  for (std::uint16_t id = 0; id < records.size(); ++id) {
    if (records[id].used.load() == 0 || records[id].entries.load() == 0) continue;
    OpeningThere found{.namespace_id = id, .chunks = 0};
    std::uint32_t at = records[id].root_children;
    for (std::uint32_t seen = 0; at != kNoEntry && seen < kMostSiblings; ++seen) {
      auto const& entry = state.index.at(at);
      at = entry.next_sibling;
      if (entry.state.load(std::memory_order_acquire) != EntryState::kReady) continue;
      auto const tokens = slot_tokens(state.segment, entry);
      if (tokens.size() >= kOpeningTokens && opening_hash(tokens) == opening) ++found.chunks;
    }
    if (found.chunks != 0) out.push_back(found);
  }
  return out;
}

}  // namespace lmcache
