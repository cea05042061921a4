// SPDX-License-Identifier: Apache-2.0
// The chunks of a node in its segment: found by key, leased, reserved, published, evicted.
//
// A chunk is reserved (a slot, its token ids written, state writing), written by whoever has the
// bytes, in this process or another, and published in one step; from then on its bytes never
// change. A lease on a chunk (one bit per process) keeps its slot from being evicted or reused. A
// reservation whose reserver and writer are both dead, and the leases of the dead, are taken back
// by any other process (reap).
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <lmcache/base/clock.hpp>
#include <lmcache/base/log.hpp>
#include <lmcache/base/result.hpp>
#include <lmcache/index/chunk_ref.hpp>
#include <lmcache/key/key_chain.hpp>
#include <lmcache/tier/dram/slot_allocator.hpp>
#include <lmcache/tier/dram/space_state.hpp>

namespace lmcache {

struct DramOptions {
  std::string name;  // segment name; empty = private to this process
  std::string directory{SegmentOptions::kDefaultDirectory};
  std::uint64_t capacity_bytes = 0;
  std::uint64_t chunk_bytes_hint =
      0;  // slot size of the creator's full chunks: extents become a multiple of it
  std::uint32_t max_entries = 0;  // 0 = by capacity
  bool remove_when_unused = true;
  EvictionKind eviction = EvictionKind::kLru;
  std::uint32_t ttl_seconds = 0;  // 0 = for ever
  std::string role;
  std::string instance_id;
};

// A namespace as a process holds it: the record's number and all that its keys need.
struct DramNamespace {
  NamespaceOpen opened;  // texts point into the members below
  std::string model;
  std::string description;
  std::uint16_t id = 0;
  std::vector<ChunkKey> lane_masks;
  std::vector<std::uint32_t> lane_block_tokens;
  std::vector<std::uint64_t> lane_block_bytes;  // as far as declared; 0 = not yet
  [[nodiscard]] std::uint32_t lanes() const noexcept {
    return static_cast<std::uint32_t>(lane_masks.size());
  }
};

// A leased prefix: piece i covers tokens [i * chunk_tokens, min((i + 1) * chunk_tokens,
// prefix_tokens)).
struct LeasedPrefix {
  std::uint32_t prefix_tokens = 0;
  std::vector<std::vector<ChunkRef>> lanes;  // [lane][piece]
};

// What a reader or writer of a leased chunk needs to know.
struct ChunkSlot {
  std::byte* payload;
  std::uint64_t payload_bytes;
  std::uint32_t valid_tokens;
  std::uint16_t namespace_id;
  std::uint16_t lane;
};

// Thread-safe; any number of processes may have one on the same segment. No call waits longer than
// a lock's deadline (50 ms, but for repair and reaping); none does I/O but open() and, rarely, the
// reservation of memory.
class DramTier {
 public:
  [[nodiscard]] static Result<std::unique_ptr<DramTier>> open(DramOptions options,
                                                              Clock const& clock, LogHook log);
  // Leaves the segment: gives back leases and reservations; the last one to leave removes it when
  // asked to.
  ~DramTier();
  DramTier(DramTier&&) = delete;

  // Finds or makes the record. Errors: kInvalidArgument, kOutOfMemory (namespace table), kTimeout.
  [[nodiscard]] Result<void> open_namespace(DramNamespace& handle);
  // The process that owns a lane says how many bytes a block has over all planes; before, nothing
  // of that lane is stored. Errors: kInvalidArgument (no such lane).
  [[nodiscard]] Result<void> declare_lane(DramNamespace& handle, std::uint32_t lane,
                                          std::uint64_t block_bytes);
  [[nodiscard]] NamespaceRecord& record(DramNamespace const& handle) const noexcept {
    return state_.namespaces.at(handle.id);
  }

  // The longest prefix of at most `limit_tokens` tokens that every lane has, exact to the token;
  // its chunks are leased until release(). Counts one look-up.
  [[nodiscard]] LeasedPrefix lookup(DramNamespace const& space, KeyChain const& chain,
                                    std::uint32_t limit_tokens);
  void release(std::span<ChunkRef const> refs);

  struct TokenSpan {
    std::uint32_t first_chunk;
    std::uint32_t end_token;
  };
  // Reserves the chunks from first_chunk on that cover the tokens up to end_token, in every lane.
  // An empty ref says that there is nothing to write: the chunk is there, is being written, or had
  // no room (counted).
  [[nodiscard]] std::vector<std::vector<ChunkRef>> reserve(DramNamespace& space,
                                                           KeyChain const& chain, TokenSpan span);
  // Gives a reservation back, unless somebody is writing it or it was published.
  void cancel(ChunkRef ref);

  // Leases a chunk that is reserved, to write it; then publish() or abandon(), each of which ends
  // the lease. Nothing: the reservation is gone.
  [[nodiscard]] std::optional<ChunkSlot> begin_write(ChunkRef ref);
  void publish(ChunkRef ref);
  void abandon(ChunkRef ref);
  // Leases a chunk that is ready, to read it; then release(). Nothing: it is gone.
  [[nodiscard]] std::optional<ChunkSlot> begin_read(ChunkRef ref);
  [[nodiscard]] bool is_ready(ChunkRef ref) const;

  // Upkeep, by the engine's housekeeper. All are cheap when there is nothing to do.
  void flush_touches();
  void reap();
  void sweep_expired();
  // Reserves memory ahead of need, one extent a call; false when there is nothing to do.
  [[nodiscard]] bool reserve_ahead();
  void retry_releases();

  [[nodiscard]] Segment& segment() const noexcept { return *segment_; }
  [[nodiscard]] DramState& state() noexcept { return state_; }
  [[nodiscard]] Counters& counters() const noexcept { return *state_.counters; }
  [[nodiscard]] DramOptions const& options() const noexcept { return options_; }

 private:
  DramTier(DramOptions options, std::unique_ptr<Segment> segment, Clock const& clock, LogHook log);
  [[nodiscard]] Result<void> join();
  void leave() noexcept;

  // Lookup (lookup.cpp).
  [[nodiscard]] std::optional<ChunkRef> lease_key(ChunkKey const& key);
  [[nodiscard]] bool lease_lanes(DramNamespace const& space, ChunkKey const& chain_key,
                                 LeasedPrefix& out);
  [[nodiscard]] std::uint32_t lease_partial(DramNamespace const& space, KeyChain const& chain,
                                            std::uint32_t limit_tokens, LeasedPrefix& out);
  struct PartialMatch {
    ChunkKey chain_key;
    std::uint32_t tokens = 0;
  };
  [[nodiscard]] PartialMatch best_partial(DramNamespace const& space, KeyChain const& chain,
                                          std::uint32_t chunk, std::uint32_t end_token);
  void touch(std::span<ChunkRef const> refs);

  // Reservation (reserve.cpp).
  struct NewChunk {
    ChunkKey chain_key;
    std::uint32_t chunk;
    std::uint32_t first_token;
    std::uint32_t end_token;
    std::uint32_t fingerprint;
    bool has_media;
  };
  [[nodiscard]] Result<ChunkRef> reserve_lane(DramNamespace const& space, KeyChain const& chain,
                                              NewChunk const& chunk, std::uint32_t lane);
  [[nodiscard]] bool present(ChunkKey const& key);
  void fill_entry(DramNamespace const& space, KeyChain const& chain, NewChunk const& chunk,
                  std::uint32_t lane, std::uint32_t index, std::uint64_t payload_bytes);

  // Leases (leases.cpp). The shard lock of the entry is held.
  void add_lease(std::uint32_t index) noexcept;
  void drop_lease(std::uint32_t index) noexcept;
  [[nodiscard]] std::optional<RobustGuard> lock_entry(ChunkRef ref) const;
  [[nodiscard]] ChunkSlot slot_of(Entry const& entry) const noexcept;
  // Reaping (reaper.cpp).
  void reclaim(std::uint32_t process);

  DramOptions options_;
  LogHook log_;
  std::unique_ptr<Segment> segment_;
  DramState state_;
  SlotAllocator allocator_;
  bool joined_{false};

  std::mutex pending_mutex_;               // guards the two lists below
  std::vector<ChunkRef> touched_;          // uses not yet applied to the recency lists
  std::vector<ChunkRef> pending_release_;  // leases whose shard was locked too long
};

// Where the token ids of a chunk lie in its slot.
[[nodiscard]] std::span<std::uint32_t> slot_tokens(Segment const& segment,
                                                   Entry const& entry) noexcept;

}  // namespace lmcache
