// SPDX-License-Identifier: Apache-2.0
// The chunks of a node in its segment: found by key, leased, reserved, published, evicted.
//
// A chunk is reserved (a slot, its token ids written, state writing), written by whoever has the
// bytes, in this process or another, and published in one step; from then on its bytes never
// change. A lease on a chunk (one bit per process) keeps its slot from being evicted or reused. A
// reservation whose reserver and writer are both dead, and the leases of the dead, are taken back
// by any other process (reap).
#pragma once

#include <atomic>
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
#include <lmcache/base/sha256.hpp>
#include <lmcache/index/chunk_ref.hpp>
#include <lmcache/key/key_chain.hpp>
#include <lmcache/tier/dram/slot_allocator.hpp>
#include <lmcache/tier/dram/space_state.hpp>

namespace lmcache {

struct DramOptions {
  std::string name{};  // segment name; empty = private to this process
  std::string directory{SegmentOptions::kDefaultDirectory};
  std::uint64_t capacity_bytes = 0;
  // Slot size of the creator's full chunks: extents become a multiple of it.
  std::uint64_t chunk_bytes_hint = 0;
  std::uint32_t max_entries = 0;  // 0 = by capacity
  bool remove_when_unused = true;
  EvictionKind eviction = EvictionKind::kLru;
  std::uint32_t ttl_seconds = 0;  // 0 = for ever
  std::string role{};
  std::string instance_id{};
};

// Where the record of a namespace is, and which of the record's owners we are
// (NamespaceRecord::incarnation). One word, because a reservation that finds the record given away
// opens another while look-ups go on.
class RecordPlace {
 public:
  RecordPlace() noexcept = default;
  RecordPlace(std::uint16_t id, std::uint32_t incarnation) noexcept
      : word_{(std::uint64_t{incarnation} << 16) | id} {}
  RecordPlace(RecordPlace const& other) noexcept : word_{other.word_.load()} {}
  RecordPlace& operator=(RecordPlace const& other) noexcept {
    word_.store(other.word_.load());
    return *this;
  }
  [[nodiscard]] std::uint16_t id() const noexcept {
    return static_cast<std::uint16_t>(word_.load(std::memory_order_relaxed));
  }
  [[nodiscard]] std::uint32_t incarnation() const noexcept {
    return static_cast<std::uint32_t>(word_.load(std::memory_order_relaxed) >> 16);
  }

 private:
  std::atomic<std::uint64_t> word_{0};
};

// A namespace as a process holds it: its record and all that its keys need.
struct DramNamespace {
  NamespaceOpen opened;  // texts point into the members below
  std::string model;
  std::string description;
  ChunkKey geometry_hash;
  RecordPlace place;
  std::vector<ChunkKey> lane_masks;
  std::vector<std::uint32_t> lane_block_tokens;
  std::vector<std::uint32_t> lane_windows;  // KvGroup::window_tokens; empty: all are 0
  // As far as declared; 0 = not yet. Guarded by the space lock.
  std::vector<std::uint64_t> lane_block_bytes;
  [[nodiscard]] std::uint32_t lanes() const noexcept {
    return static_cast<std::uint32_t>(lane_masks.size());
  }
  // Whether a prefix needs every chunk of a lane.
  [[nodiscard]] bool needs_all(std::uint32_t lane) const noexcept {
    return lane_windows.empty() || lane_windows[lane] == 0;
  }
};

// A leased prefix: piece i covers tokens [i * chunk_tokens, min((i + 1) * chunk_tokens,
// prefix_tokens)). A lane with a window has empty refs before it.
struct LeasedPrefix {
  std::uint32_t prefix_tokens = 0;
  std::vector<std::vector<ChunkRef>> lanes;  // [lane][piece]
};

// What a reader or writer of a leased chunk needs to know.
struct ChunkSlot {
  std::byte* record;  // the slot: header, payload, token ids (index/chunk_record.hpp)
  std::byte* payload;
  std::uint64_t slot_bytes;
  std::uint64_t payload_bytes;
  std::uint32_t valid_tokens;
  std::uint16_t namespace_id;
  std::uint16_t lane;
};

// Thread-safe; up to 64 processes may have one on the same segment. No call waits for more than a
// few deadlines of locks (50 ms each; open() and the destructor 5 s); none does I/O but open() and,
// rarely, the reservation of memory.
class DramTier {
 public:
  [[nodiscard]] static Result<std::unique_ptr<DramTier>> open(DramOptions options,
                                                              Clock const& clock, LogHook log);
  // Leaves the segment: gives back leases and reservations; the last one to leave removes it when
  // asked to. Does nothing in a fork of the process that opened it: what it holds is its parent's.
  ~DramTier();
  DramTier(DramTier&&) = delete;

  // Finds or makes the record. Errors: kInvalidArgument, kOutOfMemory (namespace table), kTimeout.
  [[nodiscard]] Result<void> open_namespace(DramNamespace& handle);
  // The process that owns a lane says how many bytes a block has over all planes; before, nothing
  // of that namespace is stored. Errors: kInvalidArgument (no such lane, no such size), kTimeout.
  [[nodiscard]] Result<void> declare_lane(DramNamespace& handle, std::uint32_t lane,
                                          std::uint64_t block_bytes);
  [[nodiscard]] NamespaceRecord& record(DramNamespace const& handle) const noexcept {
    return state_.namespaces.at(handle.place.id());
  }
  // A record whose namespace holds nothing may be given to another: then this handle must be opened
  // again before it is used to store, and what the record counts is not ours.
  [[nodiscard]] bool owns_record(DramNamespace const& handle) const noexcept {
    return record(handle).used.load(std::memory_order_acquire) == handle.place.incarnation();
  }

  // The longest prefix of at most `limit_tokens` tokens that every lane has as far as it needs it,
  // exact to the token;
  // its chunks are leased until release(). Counts one look-up.
  [[nodiscard]] LeasedPrefix lookup(DramNamespace const& space, KeyChain const& chain,
                                    std::uint32_t limit_tokens);
  void release(std::span<ChunkRef const> refs);

  struct TokenSpan {
    std::uint32_t first_chunk;
    std::uint32_t end_token;
  };
  // Reserves the chunks from first_chunk on that cover the tokens up to end_token, in every lane:
  // [lane][chunk]. An empty ref says that there is nothing to write: the chunk is there, is being
  // written, or had no room (counted). Where one lane has no room the chunk is reserved in none,
  // nor is any chunk after it: without it they could not be found.
  [[nodiscard]] std::vector<std::vector<ChunkRef>> reserve(DramNamespace& space,
                                                           KeyChain const& chain, TokenSpan span);
  // One chunk of a prompt in one lane, and where it is.
  struct ChunkPlace {
    std::uint32_t chunk;
    std::uint32_t end_token;  // of the chunk, clipped to the prompt: a tail
    std::uint32_t lane;
  };
  enum class Whereabouts : std::uint8_t {
    kReady,
    kComing,   // somebody fetches it from a tier below
    kWriting,  // the serving engine is storing it
    kAbsent,
    kUnknown,  // a lock was not free in time
  };
  struct Found {
    Whereabouts where;
    ChunkRef ref;  // of an entry that is there, in whatever state
  };
  [[nodiscard]] Found find(ChunkKey const& key) const;
  // Reserves room for a chunk that is fetched from a tier below; begin_write() gives the slot, into
  // whose `record` the whole of it goes. Errors: those of a reservation; kCancelled when it is
  // there or coming by now.
  [[nodiscard]] Result<ChunkRef> reserve_fetch(DramNamespace& space, KeyChain const& chain,
                                               ChunkPlace const& place);
  // publish(), but the lease goes on, as one to read.
  void publish_and_keep(ChunkRef ref);
  // A tier below has the chunk now, or has it no more.
  void note_on_disk(ChunkRef ref) noexcept;
  void note_off_disk(ChunkKey const& key) noexcept;

  // Gives a reservation back, unless somebody is writing it or it was published.
  void cancel(ChunkRef ref);
  // The same, but whoever calls it counts, with its own reason.
  void withdraw(ChunkRef ref);

  // Leases a chunk that is reserved, to write it; then publish() or abandon(), each of which ends
  // the lease. Nothing: the reservation is gone.
  [[nodiscard]] std::optional<ChunkSlot> begin_write(ChunkRef ref);
  void publish(ChunkRef ref);
  void abandon(ChunkRef ref);
  // Leases a chunk that is ready, to read it; then release(). Nothing: it is gone.
  [[nodiscard]] std::optional<ChunkSlot> begin_read(ChunkRef ref);
  [[nodiscard]] bool is_ready(ChunkRef ref) const;
  // Somebody may still fill it.
  [[nodiscard]] bool is_reserved(ChunkRef ref) const;

  // Upkeep, by the engine's housekeeper. All are cheap when there is nothing to do.
  void flush_touches();
  // Chunks that a tier below has too, and that were used since the last call; latest first.
  [[nodiscard]] std::vector<ChunkKey> take_used_below();
  void reap();
  void sweep_expired();
  // Memory ahead of need: the extent that somebody should back with memory, without a lock of ours
  // (Segment::populate_extent), and what came of it. Doing it twice does no harm.
  struct NextExtent {
    std::optional<std::uint32_t> extent;
    bool urgent = false;  // little is left
  };
  [[nodiscard]] NextExtent extent_to_reserve();
  void note_reservation(std::uint32_t extent, Result<void> const& reserved);
  // Releases and cancellations that a lock refused.
  void settle_debts();

  [[nodiscard]] Segment& segment() const noexcept { return *segment_; }
  [[nodiscard]] DramState& state() noexcept { return state_; }
  [[nodiscard]] Counters& counters() const noexcept { return *state_.counters; }
  [[nodiscard]] DramOptions const& options() const noexcept { return options_; }

 private:
  DramTier(DramOptions options, std::unique_ptr<Segment> segment, Sha256Algorithm sha256,
           Clock const& clock, LogHook log);
  [[nodiscard]] Result<void> join();
  [[nodiscard]] std::string note_about_size() const;
  void leave() noexcept;

  // Lookup (lookup.cpp). kBlocked: a lock was not free in time, so that more attempts would only
  // wait longer.
  enum class Presence : std::uint8_t { kThere, kMissing, kBlocked };
  [[nodiscard]] Presence lease_key(ChunkKey const& key, ChunkRef& out);
  // Which lanes must have a chunk: all of them, or those that a prefix needs every chunk of.
  enum class Demand : std::uint8_t { kAll, kWhole };
  [[nodiscard]] Presence lease_lanes(DramNamespace const& space, ChunkKey const& chain_key,
                                     Demand demand, LeasedPrefix& out);
  void fit_windows(DramNamespace const& space, std::uint32_t chunk_tokens, LeasedPrefix& out) const;
  void release_before_windows(DramNamespace const& space, std::uint32_t chunk_tokens,
                              LeasedPrefix& out);
  void prefetch(DramNamespace const& space, std::span<ChunkKey const> keys,
                std::uint32_t chunk) const noexcept;
  void count_lookup(DramNamespace const& space, KeyChain const& chain, LeasedPrefix const& found);
  void touch(std::span<ChunkRef const> refs);

  // Parts of a chunk (partial_match.cpp).
  struct PartialMatch {
    ChunkKey chain_key;
    std::uint32_t tokens = 0;
  };
  [[nodiscard]] std::uint32_t lease_partial(DramNamespace const& space, KeyChain const& chain,
                                            std::uint32_t limit_tokens, LeasedPrefix& out);
  [[nodiscard]] std::vector<PartialMatch> partial_matches(DramNamespace const& space,
                                                          KeyChain const& chain,
                                                          std::uint32_t chunk,
                                                          std::uint32_t end_token);
  [[nodiscard]] bool key_is_of(ChunkKey const& chain_key, ChunkKey const& parent,
                               ChunkRef ref) const;

  // Reservation (reserve.cpp).
  struct NewChunk {
    ChunkKey chain_key;
    std::uint32_t chunk;
    std::uint32_t first_token;
    std::uint32_t end_token;
    std::uint32_t fingerprint;
    bool has_media;
  };
  [[nodiscard]] static std::optional<NewChunk> new_chunk(KeyChain const& chain, std::uint32_t chunk,
                                                         std::uint32_t end_token);
  [[nodiscard]] bool covered(DramNamespace const& space, KeyChain const& chain,
                             NewChunk const& chunk);
  // Reserves a chunk in all lanes or, if one has no room, in none: then says why.
  [[nodiscard]] std::optional<DropReason> reserve_lanes(DramNamespace& space, KeyChain const& chain,
                                                        NewChunk const& chunk,
                                                        std::span<ChunkRef> out);
  [[nodiscard]] Result<ChunkRef> reserve_lane(DramNamespace& space, KeyChain const& chain,
                                              NewChunk const& chunk, std::uint32_t lane);
  [[nodiscard]] Presence presence(ChunkKey const& key) const;
  void fill_entry(DramNamespace const& space, KeyChain const& chain, NewChunk const& chunk,
                  std::uint32_t lane, std::uint32_t index, std::uint64_t payload_bytes);
  void write_record(DramNamespace const& space, KeyChain const& chain, NewChunk const& chunk,
                    Entry const& entry);

  // Leases (leases.cpp). The shard lock of the entry is held.
  [[nodiscard]] bool add_lease(std::uint32_t index) noexcept;
  void drop_lease(std::uint32_t index) noexcept;
  [[nodiscard]] bool names_entry(ChunkRef ref) const noexcept;
  [[nodiscard]] std::optional<RobustGuard> lock_entry(ChunkRef ref) const;
  [[nodiscard]] ChunkSlot slot_of(Entry const& entry) const noexcept;
  // What is owed to the segment: it must be done, but not by whoever cannot wait for a lock.
  struct Debt {
    enum class Kind : std::uint8_t {
      kRelease,   // a lease
      kAbandon,   // a lease and the reservation
      kWithdraw,  // a reservation
      kCancel,    // the same, counted
    };
    ChunkRef ref;
    Kind kind;
  };
  [[nodiscard]] bool settle(Debt debt);
  void settle_or_owe(Debt debt);
  void owe(std::span<Debt const> debts);
  // Reaping (reaper.cpp). False: a lock was not free; nothing is lost, try again.
  [[nodiscard]] bool reclaim(std::uint32_t process);
  void reclaim_dead();
  void disown() noexcept;

  DramOptions options_;
  LogHook log_;
  std::unique_ptr<Segment> segment_;
  DramState state_;
  SlotAllocator allocator_;
  Sha256Algorithm sha256_;
  std::int32_t joined_pid_{0};  // 0: not joined

  std::mutex pending_mutex_;       // guards the lists below
  std::vector<ChunkRef> touched_;  // uses not yet applied to the recency lists
  std::vector<Debt> debts_;
  std::vector<ChunkKey> used_below_;
};

// Where the token ids of a chunk lie in its slot.
[[nodiscard]] std::span<std::uint32_t> slot_tokens(Segment const& segment,
                                                   Entry const& entry) noexcept;

}  // namespace lmcache
