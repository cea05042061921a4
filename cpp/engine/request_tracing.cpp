// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/request_tracing.hpp>

#include <unistd.h>

#include <algorithm>
#include <optional>
#include <span>

#include <lmcache/base/fixed_text.hpp>

namespace lmcache {
namespace {

// Of the first chunk that the prefix lacks: a whole one, or the tail that this very prompt leaves.
std::optional<ChunkKey> missing_chunk(KeyChain const& chain, std::uint32_t found_tokens) {
  std::uint32_t const chunk = found_tokens / chain.chunk_tokens();
  if (chunk < chain.chunk_count()) return chain.keys()[chunk];
  auto const key = chain.tail_key(chunk, chain.token_count());
  if (!key) return std::nullopt;
  return key.value();
}

MissingPlace place_below(TracedTiers tiers, ChunkKey const& key) {
  std::optional<DiskPlace> on_disk;
  if (tiers.disk != nullptr) tiers.disk->find({&key, 1}, {&on_disk, 1});
  if (on_disk) return MissingPlace::kDisk;
  std::optional<std::uint64_t> on_remote;
  if (tiers.remote != nullptr) tiers.remote->find({&key, 1}, {&on_remote, 1});
  return on_remote.value_or(0) != 0 ? MissingPlace::kRemote : MissingPlace::kAbsent;
}

MissingPlace place_of(TracedTiers tiers, ChunkKey const& key) {
  switch (tiers.dram.find(key).where) {
    case DramTier::Whereabouts::kReady:
      return MissingPlace::kReady;
    case DramTier::Whereabouts::kComing:
      return MissingPlace::kComing;
    case DramTier::Whereabouts::kWriting:
      return MissingPlace::kWriting;
    case DramTier::Whereabouts::kUnknown:
      return MissingPlace::kUnknown;
    case DramTier::Whereabouts::kAbsent:
      break;
  }
  return place_below(tiers, key);
}

void find_missing(TracedTiers tiers, DramNamespace const& space, ChunkKey const& chain_key,
                  RequestTrace& out) {
  out.missing_key = chain_key.prefix64();
  out.missing_place = MissingPlace::kReady;
  for (std::uint32_t lane = 0; lane < space.lanes(); ++lane) {
    auto const key = chain_key ^ space.lane_masks[lane];
    auto const place = place_of(tiers, key);
    if (place == MissingPlace::kReady) continue;
    out.missing_place = place;
    out.missing_lane = static_cast<std::uint8_t>(lane);
    if (auto const removal = tiers.dram.state().removals.find(key)) {
      out.removed_unix_s = removal->unix_s;
      out.removal = static_cast<std::uint8_t>(removal->reason);
    }
    return;
  }
}

}  // namespace

void trace_request(TracedTiers tiers, RequestSeen const& seen, DramNamespace const* space,
                   KeyChain const* chain) {
  auto& state = tiers.dram.state();
  RequestTrace out;
  out.unix_s = state.clock.unix_seconds();
  out.pid = ::getpid();
  out.outcome = seen.outcome;
  out.prompt_tokens = seen.prompt_tokens;
  out.limit_tokens = seen.limit_tokens;
  out.computed_tokens = seen.computed_tokens;
  out.memory_tokens = seen.memory_tokens;
  out.found_tokens = seen.found_tokens;
  out.loaded_tokens = seen.loaded_tokens;
  out.wait_us = seen.wait_us;
  out.preemptions = seen.preemptions;
  out.flags = seen.whole_chunks_only ? kWholeChunksOnly : std::uint8_t{0};
  copy_text(out.request_id, seen.request_id);
  copy_text(out.note, seen.note);
  if (space != nullptr) {
    out.namespace_id = space->place.id();
    out.namespace_incarnation = space->place.incarnation();
  }
  if (chain != nullptr && chain->token_count() != 0) {
    out.opening = opening_hash(chain->tokens());
    // What the serving engine has needs no chunk.
    bool const asked =
        seen.outcome == RequestOutcome::kLookedUp || seen.outcome == RequestOutcome::kTooFew;
    std::uint32_t const limit = std::min(seen.limit_tokens, chain->token_count());
    if (asked && space != nullptr && seen.found_tokens < limit) {
      if (auto const key = missing_chunk(*chain, seen.found_tokens)) {
        find_missing(tiers, *space, *key, out);
      }
    }
  }
  state.requests.add(out);
}

}  // namespace lmcache
