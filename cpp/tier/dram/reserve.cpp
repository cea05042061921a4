// SPDX-License-Identifier: Apache-2.0
// Makes room for new chunks and enters them into the index, still unreadable.
#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include <lmcache/index/chunk_record.hpp>
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

DropReason reason_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return DropReason::kTooLarge;
    case ErrorCode::kUnavailable:
      return DropReason::kLaneUndeclared;
    case ErrorCode::kTimeout:
      return DropReason::kLockTimeout;
    default:
      return DropReason::kNoSpace;
  }
}

std::uint32_t expiry(std::int64_t now_unix_s, std::uint32_t ttl_seconds) {
  constexpr auto kNever = std::numeric_limits<std::uint32_t>::max();
  return static_cast<std::uint32_t>(std::min<std::int64_t>(now_unix_s + ttl_seconds, kNever));
}

}  // namespace

DramTier::Presence DramTier::presence(ChunkKey const& key) const {
  auto const guard = state_.index.lock(key, kLockTimeout);
  if (!guard) return Presence::kBlocked;
  std::uint32_t const index = state_.index.find(key);
  if (index == kNoEntry) return Presence::kMissing;
  auto const& entry = state_.index.at(index);
  return entry.expired(state_.clock.unix_seconds()) ? Presence::kMissing : Presence::kThere;
}

std::optional<DramTier::NewChunk> DramTier::new_chunk(KeyChain const& chain, std::uint32_t chunk,
                                                      std::uint32_t end_token) {
  NewChunk out{};
  out.chunk = chunk;
  out.first_token = chunk * chain.chunk_tokens();
  out.end_token = std::min(end_token, out.first_token + chain.chunk_tokens());
  if (out.end_token - out.first_token == chain.chunk_tokens()) {
    out.chain_key = chain.keys()[chunk];
  } else {
    auto key = chain.tail_key(chunk, out.end_token);
    if (!key) return std::nullopt;
    out.chain_key = key.value();
  }
  out.fingerprint = chain.fingerprint(chunk, out.end_token);
  out.has_media = !chain.items_overlapping(out.first_token, out.end_token).empty();
  return out;
}

// A tail is there already when another chunk begins with its tokens, in every lane.
bool DramTier::covered(DramNamespace const& space, KeyChain const& chain, NewChunk const& chunk) {
  std::uint32_t const tokens = chunk.end_token - chunk.first_token;
  if (tokens == chain.chunk_tokens() || chunk.has_media) return false;
  for (auto const& match : partial_matches(space, chain, chunk.chunk, chunk.end_token)) {
    if (match.tokens < tokens) break;
    if (std::ranges::all_of(space.lane_masks, [&](ChunkKey const& mask) {
          return presence(match.chain_key ^ mask) == Presence::kThere;
        })) {
      return true;
    }
  }
  return false;
}

std::vector<std::vector<ChunkRef>> DramTier::reserve(DramNamespace& space, KeyChain const& chain,
                                                     TokenSpan span) {
  std::uint64_t const first = std::uint64_t{span.first_chunk} * chain.chunk_tokens();
  std::uint32_t const end = std::min(span.end_token, chain.token_count());
  std::size_t const chunks =
      first < end ? (end - first + chain.chunk_tokens() - 1) / chain.chunk_tokens() : 0;
  std::vector<std::vector<ChunkRef>> out(space.lanes(), std::vector<ChunkRef>(chunks));
  if (chunks == 0) return out;
  flush_touches();
  std::optional<DropReason> stopped;
  if (!owns_record(space)) {
    auto const opened = open_namespace(space);
    if (!opened) stopped = reason_of(opened.error().code());
  }
  std::vector<ChunkRef> refs(space.lanes());
  for (std::size_t i = 0; i < chunks; ++i) {
    auto const chunk_index = span.first_chunk + static_cast<std::uint32_t>(i);
    auto const fresh = stopped ? std::nullopt : new_chunk(chain, chunk_index, end);
    if (!fresh) {
      if (!stopped) break;  // no key: SHA-256 failed
      count(state_.counters->dropped(*stopped), space.lanes());
      continue;
    }
    if (covered(space, chain, *fresh)) {
      count(state_.counters->dropped(DropReason::kDuplicate), space.lanes());
      continue;
    }
    std::ranges::fill(refs, ChunkRef{});
    stopped = reserve_lanes(space, chain, *fresh, refs);
    for (std::uint32_t lane = 0; lane < space.lanes(); ++lane) out[lane][i] = refs[lane];
  }
  return out;
}

std::optional<DropReason> DramTier::reserve_lanes(DramNamespace& space, KeyChain const& chain,
                                                  NewChunk const& chunk, std::span<ChunkRef> out) {
  std::optional<DropReason> failed;
  std::uint64_t duplicates = 0;
  for (std::uint32_t lane = 0; lane < space.lanes() && !failed; ++lane) {
    auto const there = presence(chunk.chain_key ^ space.lane_masks[lane]);
    if (there == Presence::kBlocked) {
      failed = DropReason::kLockTimeout;
    } else if (there == Presence::kThere) {
      ++duplicates;
    } else if (auto reserved = reserve_lane(space, chain, chunk, lane)) {
      out[lane] = reserved.value();
    } else if (reserved.error().code() == ErrorCode::kCancelled) {
      ++duplicates;
    } else {
      failed = reason_of(reserved.error().code());
    }
  }
  count(state_.counters->dropped(DropReason::kDuplicate), duplicates);
  if (!failed) return std::nullopt;
  for (auto& ref : out) {
    if (ref) withdraw(std::exchange(ref, {}));
  }
  count(state_.counters->dropped(*failed), space.lanes() - duplicates);
  return failed;
}

Result<ChunkRef> DramTier::reserve_lane(DramNamespace& space, KeyChain const& chain,
                                        NewChunk const& chunk, std::uint32_t lane) {
  LMC_TRY_ASSIGN(auto const guard, state_.lock_space());
  if (!owns_record(space)) {
    return Error{ErrorCode::kUnavailable, "the namespace's record was given to another"};
  }
  auto& block_bytes = space.lane_block_bytes[lane];
  block_bytes = record(space).lane_block_bytes[lane].load(std::memory_order_acquire);
  if (block_bytes == 0) {
    return Error{ErrorCode::kUnavailable, "the lane has not declared its block size"};
  }
  std::uint32_t const block_tokens = space.lane_block_tokens[lane];
  std::uint32_t const tokens = chunk.end_token - chunk.first_token;
  std::uint32_t const blocks = (tokens + block_tokens - 1) / block_tokens;
  std::uint32_t const room = slot_blocks(blocks, chain.chunk_tokens() / block_tokens);
  std::uint64_t const slot_bytes =
      record_bytes(room * block_bytes, std::uint64_t{room} * block_tokens);
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

// All of the record but the payload.
void DramTier::write_record(DramNamespace const& space, KeyChain const& chain,
                            NewChunk const& chunk, Entry const& entry) {
  auto const& mask = space.lane_masks[entry.lane];
  auto* const record = segment_->payload(entry.payload_offset);
  ChunkHeader header{};
  header.magic = kChunkMagic;
  header.format_version = kChunkFormatVersion;
  header.key = chunk.chain_key ^ mask;
  if (chunk.chunk != 0) header.parent = chain.parent_of(chunk.chunk) ^ mask;
  header.root = space.opened.root;
  header.geometry_hash = space.geometry_hash;
  header.payload_bytes = entry.payload_bytes;
  header.valid_tokens = entry.valid_tokens;
  header.fingerprint = chunk.fingerprint;
  header.expires_unix_s = entry.expires_unix_s;
  header.lane = entry.lane;
  header.flags = entry.flags;
  std::memcpy(record, &header, sizeof header);
  std::uint64_t const padded = record_bytes(entry.payload_bytes, 0) - sizeof header;
  std::memset(record + sizeof header + entry.payload_bytes, 0, padded - entry.payload_bytes);
  std::ranges::copy(chain.tokens().subspan(chunk.first_token, entry.valid_tokens),
                    slot_tokens(*segment_, entry).begin());
}

void DramTier::fill_entry(DramNamespace const& space, KeyChain const& chain, NewChunk const& chunk,
                          std::uint32_t lane, std::uint32_t index, std::uint64_t payload_bytes) {
  auto& entry = state_.index.at(index);
  auto& record = state_.namespaces.at(space.place.id());
  entry.set_key(chunk.chain_key ^ space.lane_masks[lane]);
  entry.leases.store(0, std::memory_order_relaxed);
  entry.kind = EntryKind::kPrefixChunk;
  entry.writer = static_cast<std::uint8_t>(state_.process);
  entry.flags = static_cast<std::uint8_t>((chunk.chunk == 0 ? kAtRoot : 0) |
                                          (chunk.has_media ? kHasMedia : 0));
  entry.valid_tokens = chunk.end_token - chunk.first_token;
  entry.payload_bytes = payload_bytes;
  entry.namespace_id = space.place.id();
  entry.lane = static_cast<std::uint16_t>(lane);
  entry.checksum = 0;
  entry.lower_tiers.store(0, std::memory_order_relaxed);
  entry.expires_unix_s = 0;
  entry.fingerprint = 0;
  if (options_.ttl_seconds != 0) {
    entry.expires_unix_s = expiry(state_.clock.unix_seconds(), options_.ttl_seconds);
    state_.space.expiry_used.store(1, std::memory_order_relaxed);
  }
  write_record(space, chain, chunk, entry);

  std::uint32_t parent = kNoEntry;
  if (chunk.chunk != 0) {
    // No shard lock: entries come and go only under the space lock, which we hold; the chain may be
    // read while a lookup reads it too, and a shard that is being rebuilt at this moment costs us
    // the link, no more.
    parent = state_.index.find(chain.parent_of(chunk.chunk) ^ space.lane_masks[lane]);
  }
  entry.parent = parent;
  // Release pairs with the acquire in HashIndex::rebuild: whoever sees kWriting sees the key.
  entry.state.store(EntryState::kWriting, std::memory_order_release);
  state_.index.insert(index);
  state_.mark_live(entry);
  if (parent != kNoEntry && state_.index.at(parent).child_count == 0) {
    state_.recency.remove(state_.class_of(state_.index.at(parent)).leaves, parent);
  }
  bool const root_child = chunk.chunk == 0 && lane == 0;
  state_.tree.link(index, parent, root_child ? &record.root_children : nullptr);
  if (lane == 0 && chunk.fingerprint != 0) state_.tree.link_fingerprint(index, chunk.fingerprint);
  state_.policy->on_insert(state_.class_of(entry).leaves, index, ++state_.space.now);
  record.entries.fetch_add(1, std::memory_order_relaxed);
  record.bytes.fetch_add(payload_bytes, std::memory_order_relaxed);
}

}  // namespace lmcache
