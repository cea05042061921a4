// SPDX-License-Identifier: Apache-2.0
// Makes room for new chunks and enters them into the index, still unreadable.
#include <algorithm>

#include <lmcache/tier/dram/dram_tier.hpp>

namespace lmcache {
namespace {

// Tail chunks come in few slot sizes: an eighth, a quarter, a half of a chunk, or a whole one.
std::uint32_t slot_blocks(std::uint32_t blocks, std::uint32_t blocks_per_chunk) {
  for (std::uint32_t part = 8; part > 1; part /= 2) {
    std::uint32_t const room = (blocks_per_chunk + part - 1) / part;
    if (blocks <= room) return room;
  }
  return blocks_per_chunk;
}

}  // namespace

bool DramTier::present(ChunkKey const& key) {
  auto const guard = state_.index.lock(key, kLockTimeout);
  if (!guard) return true;  // a store that cannot look is a store that is not made
  std::uint32_t const index = state_.index.find(key);
  if (index == kNoEntry) return false;
  auto const& entry = state_.index.at(index);
  return !entry.expired(state_.clock.unix_seconds());
}

std::vector<std::vector<ChunkRef>> DramTier::reserve(DramNamespace& space, KeyChain const& chain,
                                                     TokenSpan span) {
  std::uint32_t const chunk_tokens = chain.chunk_tokens();
  std::uint32_t const end = std::min(span.end_token, chain.token_count());
  std::vector<std::vector<ChunkRef>> out(space.lanes());
  flush_touches();
  // The record of a namespace that held nothing may have been given to another one.
  if (!(record(space).root == space.opened.root) && !open_namespace(space)) return out;
  for (std::uint32_t chunk = span.first_chunk; std::uint64_t{chunk} * chunk_tokens < end; ++chunk) {
    NewChunk fresh{};
    fresh.chunk = chunk;
    fresh.first_token = chunk * chunk_tokens;
    fresh.end_token = std::min(end, fresh.first_token + chunk_tokens);
    bool const tail = fresh.end_token - fresh.first_token < chunk_tokens;
    if (tail) {
      auto key = chain.tail_key(chunk, fresh.end_token);
      if (!key) break;
      fresh.chain_key = key.value();
      fresh.fingerprint = chain.fingerprint(chunk, fresh.end_token);
    } else {
      fresh.chain_key = chain.keys()[chunk];
      fresh.fingerprint = chain.fingerprint(chunk, fresh.end_token);
    }
    fresh.has_media = !chain.items_overlapping(fresh.first_token, fresh.end_token).empty();
    // A tail whose tokens another chunk begins with is there already.
    bool const covered = tail && !fresh.has_media &&
                         best_partial(space, chain, chunk, fresh.end_token).tokens ==
                             fresh.end_token - fresh.first_token;
    for (std::uint32_t lane = 0; lane < space.lanes(); ++lane) {
      out[lane].push_back({});
      if (covered || present(fresh.chain_key ^ space.lane_masks[lane])) {
        count(state_.counters->dropped(DropReason::kDuplicate));
        continue;
      }
      auto reserved = reserve_lane(space, chain, fresh, lane);
      if (reserved) {
        out[lane].back() = reserved.value();
        continue;
      }
      switch (reserved.error().code()) {
        case ErrorCode::kInvalidArgument:
          count(state_.counters->dropped(DropReason::kTooLarge));
          break;
        case ErrorCode::kUnavailable:
          count(state_.counters->dropped(DropReason::kLaneUndeclared));
          break;
        case ErrorCode::kTimeout:
          count(state_.counters->dropped(DropReason::kLockTimeout));
          break;
        case ErrorCode::kCancelled:
          count(state_.counters->dropped(DropReason::kDuplicate));
          break;
        default:
          count(state_.counters->dropped(DropReason::kNoSpace));
      }
    }
  }
  return out;
}

Result<ChunkRef> DramTier::reserve_lane(DramNamespace const& space, KeyChain const& chain,
                                        NewChunk const& chunk, std::uint32_t lane) {
  LMC_TRY_ASSIGN(auto const guard, state_.lock_space());
  auto& record = state_.namespaces.at(space.id);
  if (!(record.root == space.opened.root)) {
    return Error{ErrorCode::kUnavailable,
                 "the namespace's record was given to another: open it again"};
  }
  std::uint64_t const block_bytes = record.lane_block_bytes[lane].load(std::memory_order_acquire);
  if (block_bytes == 0)
    return Error{ErrorCode::kUnavailable, "the lane has not declared its block size"};
  std::uint32_t const block_tokens = space.lane_block_tokens[lane];
  std::uint32_t const tokens = chunk.end_token - chunk.first_token;
  std::uint32_t const blocks = (tokens + block_tokens - 1) / block_tokens;
  std::uint32_t const room = slot_blocks(blocks, chain.chunk_tokens() / block_tokens);
  std::uint64_t const slot_bytes = room * (block_bytes + block_tokens * sizeof(std::uint32_t)) + 4;
  LMC_TRY_ASSIGN(std::uint32_t const index, allocator_.allocate(slot_bytes));

  ChunkKey const key = chunk.chain_key ^ space.lane_masks[lane];
  auto shard = state_.index.lock(key, kLockTimeout);
  if (!shard) {
    allocator_.put_back(index);
    return std::move(shard).error();
  }
  if (std::uint32_t const other = state_.index.find(key); other != kNoEntry) {
    auto const& entry = state_.index.at(other);
    bool const replaceable = entry.state.load(std::memory_order_relaxed) == EntryState::kReady &&
                             entry.leases.load(std::memory_order_relaxed) == 0 &&
                             entry.expired(state_.clock.unix_seconds());
    if (!replaceable) {
      allocator_.put_back(index);
      return Error{ErrorCode::kCancelled, "another process reserved the chunk at the same time"};
    }
    state_.free_entry(other);
    count(state_.counters->expired_chunks);
  }
  fill_entry(space, chain, chunk, lane, index, blocks * block_bytes);
  return ChunkRef{.index = index,
                  .generation = state_.index.at(index).generation.load(std::memory_order_relaxed)};
}

void DramTier::fill_entry(DramNamespace const& space, KeyChain const& chain, NewChunk const& chunk,
                          std::uint32_t lane, std::uint32_t index, std::uint64_t payload_bytes) {
  auto& entry = state_.index.at(index);
  auto& record = state_.namespaces.at(space.id);
  entry.set_key(chunk.chain_key ^ space.lane_masks[lane]);
  entry.leases.store(0, std::memory_order_relaxed);
  entry.kind = EntryKind::kPrefixChunk;
  entry.writer = static_cast<std::uint8_t>(state_.process);
  entry.flags = static_cast<std::uint8_t>((chunk.chunk == 0 ? kAtRoot : 0) |
                                          (chunk.has_media ? kHasMedia : 0));
  entry.valid_tokens = chunk.end_token - chunk.first_token;
  entry.payload_bytes = payload_bytes;
  entry.namespace_id = space.id;
  entry.lane = static_cast<std::uint16_t>(lane);
  entry.checksum = 0;
  entry.expires_unix_s = 0;
  if (options_.ttl_seconds != 0) {
    entry.expires_unix_s =
        static_cast<std::uint32_t>(state_.clock.unix_seconds() + options_.ttl_seconds);
    state_.space.expiry_used.store(1, std::memory_order_relaxed);
  }
  std::ranges::copy(chain.tokens().subspan(chunk.first_token, entry.valid_tokens),
                    slot_tokens(*segment_, entry).begin());

  std::uint32_t parent = kNoEntry;
  if (chunk.chunk != 0) {
    // No shard lock: entries come and go only under the space lock, which we hold; the chain may be
    // read while a lookup reads it too.
    parent = state_.index.find(chain.parent_of(chunk.chunk) ^ space.lane_masks[lane]);
  }
  entry.parent = parent;
  // Release pairs with the acquire in HashIndex::rebuild: whoever sees kWriting sees the key.
  entry.state.store(EntryState::kWriting, std::memory_order_release);
  state_.index.insert(index);
  if (parent != kNoEntry && state_.index.at(parent).child_count == 0) {
    state_.recency.remove(state_.class_of(state_.index.at(parent)).leaves, parent);
  }
  bool const root_child = chunk.chunk == 0 && lane == 0;
  state_.tree.link(index, parent, root_child ? &record.root_children : nullptr);
  entry.fingerprint = 0;
  if (lane == 0 && chunk.fingerprint != 0) state_.tree.link_fingerprint(index, chunk.fingerprint);
  state_.policy->on_insert(state_.class_of(entry).leaves, index, ++state_.space.now);
  record.entries.fetch_add(1, std::memory_order_relaxed);
  record.bytes.fetch_add(payload_bytes, std::memory_order_relaxed);
}

}  // namespace lmcache
