// SPDX-License-Identifier: Apache-2.0
// What a tier below needs of this one: whether a chunk is there or coming, and room for it.
#include <algorithm>
#include <utility>

#include <lmcache/tier/dram/dram_tier.hpp>

namespace lmcache {

DramTier::Found DramTier::find(ChunkKey const& key) const {
  auto const guard = state_.index.lock(key, kLockTimeout);
  if (!guard) return {.where = Whereabouts::kUnknown, .ref = {}};
  std::uint32_t const index = state_.index.find(key);
  if (index == kNoEntry) return {.where = Whereabouts::kAbsent, .ref = {}};
  auto const& entry = state_.index.at(index);
  if (entry.expires_unix_s != 0 && entry.expired(state_.clock.unix_seconds())) {
    return {.where = Whereabouts::kAbsent, .ref = {}};
  }
  Found out{
      .where = Whereabouts::kReady,
      .ref = {.index = index, .generation = entry.generation.load(std::memory_order_relaxed)}};
  if (entry.state.load(std::memory_order_acquire) != EntryState::kReady) {
    auto const below = entry.lower_tiers.load(std::memory_order_relaxed);
    bool const coming = (below & kFetching) != 0 && (below & kQuarantined) == 0;
    out.where = coming ? Whereabouts::kComing : Whereabouts::kWriting;
  }
  return out;
}

Result<ChunkRef> DramTier::reserve_fetch(DramNamespace& space, KeyChain const& chain,
                                         ChunkPlace const& place) {
  if (!owns_record(space)) LMC_TRY(open_namespace(space));
  auto const chunk = new_chunk(chain, place.chunk, place.end_token);
  if (!chunk) return Error{ErrorCode::kInternal, "SHA-256 failed"};
  LMC_TRY_ASSIGN(ChunkRef const ref, reserve_lane(space, chain, *chunk, place.lane));
  state_.index.at(ref.index).lower_tiers.store(kFetching, std::memory_order_relaxed);
  return ref;
}

void DramTier::note_on_disk(ChunkRef ref) noexcept {
  if (names_entry(ref)) {
    state_.index.at(ref.index).lower_tiers.store(kOnDisk, std::memory_order_relaxed);
  }
}

void DramTier::note_off_disk(ChunkKey const& key) noexcept {
  auto const guard = state_.index.lock(key, kLockTimeout);
  if (!guard) return;
  if (std::uint32_t const index = state_.index.find(key); index != kNoEntry) {
    state_.index.at(index).lower_tiers.store(0, std::memory_order_relaxed);
  }
}

}  // namespace lmcache
