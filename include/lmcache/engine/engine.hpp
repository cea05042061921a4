// SPDX-License-Identifier: Apache-2.0
// The KV cache of a node as one process sees it: look up, reserve, store, load. Any process that
// opens the same segment is the equal of any other.
//
//   auto engine = Engine::open({.segment = "auto", .capacity_bytes = 4'000'000'000}, log);
//   auto space = engine->open_namespace(spec, geometry);
//   KeyChain chain = engine->new_chain(space); chain.append(tokens);
//   auto hit = engine->lookup(space, chain, limit);            // leases the prefix
//   auto refs = engine->reserve(space, chain, {0, tokens});    // slots for what is new
//   auto job = engine->submit_store(view, items);              // copies and publishes behind your
//   back
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <lmcache/base/clock.hpp>
#include <lmcache/base/log.hpp>
#include <lmcache/base/result.hpp>
#include <lmcache/device/copy_batch.hpp>
#include <lmcache/engine/engine_options.hpp>
#include <lmcache/engine/fetch.hpp>
#include <lmcache/engine/segment_status.hpp>
#include <lmcache/index/chunk_ref.hpp>
#include <lmcache/key/key_chain.hpp>
#include <lmcache/key/namespace_spec.hpp>
#include <lmcache/layout/kv_geometry.hpp>
#include <lmcache/layout/kv_view.hpp>
#include <lmcache/metrics/counters.hpp>

namespace lmcache {

class DramTier;
class LentMemory;
struct DramNamespace;
struct LeasedPrefix;
struct RequestSeen;

// A namespace that this process has open. Copyable; valid as long as the engine.
struct NamespaceHandle {
  std::uint32_t slot = 0;  // the engine's own number
  std::uint16_t id = 0;    // the record's number in the segment
  std::uint32_t lanes = 0;
  std::uint32_t chunk_tokens = 0;
  ChunkKey root;
};

// A leased prefix. Piece i covers tokens [i * chunk_tokens, min((i + 1) * chunk_tokens,
// prefix_tokens)). Move-only; gives its leases back when it goes. Must not outlive the engine.
// Externally synchronised.
class Hit {
 public:
  Hit(Hit&& other) noexcept;
  Hit& operator=(Hit&& other) noexcept;
  ~Hit();

  [[nodiscard]] std::uint32_t prefix_tokens() const noexcept;
  [[nodiscard]] std::uint32_t chunk_count() const noexcept;
  [[nodiscard]] std::span<ChunkRef const> refs(std::uint32_t lane) const noexcept;
  void release() noexcept;
  // Drops the leases without a word to the engine, which is gone and took them back.
  void forget() noexcept;

 private:
  friend class Engine;
  Hit(DramTier* tier, std::unique_ptr<LeasedPrefix> prefix) noexcept;

  DramTier* tier_;
  std::unique_ptr<LeasedPrefix> prefix_;
};

struct ChunkRange {
  std::uint32_t first_chunk = 0;
  std::uint32_t end_token = 0;
};

struct FetchRange {
  std::uint32_t hit_tokens = 0;       // that a lookup found in memory
  std::uint32_t computed_tokens = 0;  // that the serving engine holds itself
  std::uint32_t limit_tokens = 0;
};

// `blocks` of the view hold the chunk, in order.
struct StoreItem {
  ChunkRef ref;
  std::vector<std::uint32_t> blocks;
};

// The chunk's blocks from first_block on go to `blocks` of the view.
struct LoadItem {
  ChunkRef ref;
  std::uint32_t first_block = 0;
  std::vector<std::uint32_t> blocks;
};

// A request that was answered, as the serving engine saw it.
struct ServedRequest {
  std::uint64_t prompt_tokens = 0;
  std::uint64_t hit_tokens = 0;  // loaded instead of computed
  std::uint64_t load_ns = 0;     // what the request waited for that
};

using ViewId = std::uint32_t;
using JobId = std::uint64_t;

// Thread-safe. No call waits for a copy but wait(), wait_plane(), stream_wait_plane() of host
// memory, cancel_job() and the destructor. Locks that other processes hold are waited for 50 ms at
// most; then the answer is a miss or a dropped store.
class Engine {
 public:
  // Maps or makes the segment: under a second, whatever its size. `clock` must outlive the engine.
  // Errors: kInvalidArgument (options, owner or mode of the segment), kOutOfMemory (no room for the
  // capacity), kUnavailable (64 processes attached already), kIo.
  [[nodiscard]] static Result<std::unique_ptr<Engine>> open(EngineOptions options, LogHook log);
  [[nodiscard]] static Result<std::unique_ptr<Engine>> open(EngineOptions options, LogHook log,
                                                            Clock const& clock);
  // Waits for running copies, gives back leases and reservations, leaves the segment. In a fork of
  // the process that opened it: nothing.
  ~Engine();
  Engine(Engine&&) = delete;

  // `spec.geometry_hash` and `geometry_text` are filled in here. Opening one twice gives the same
  // handle. Errors: kInvalidArgument; kOutOfMemory when the segment's table of namespaces is full.
  [[nodiscard]] Result<NamespaceHandle> open_namespace(NamespaceSpec spec,
                                                       KvGeometry const& geometry);
  // A lane is a (KV group, rank) pair: lane = group * world_size + rank. Its owner declares how
  // many bytes one block has over all planes; nothing is stored in a namespace before all its lanes
  // are declared.
  [[nodiscard]] Result<void> declare_lane(NamespaceHandle const& space, std::uint32_t lane,
                                          std::uint64_t block_bytes);
  [[nodiscard]] std::vector<std::uint64_t> lane_block_bytes(NamespaceHandle const& space) const;
  [[nodiscard]] Result<KeyChain> new_chain(NamespaceHandle const& space) const;

  // The longest prefix, of at most limit_tokens tokens, that every lane has as far as its window
  // reaches: exact to the token, but where a group keeps states.
  [[nodiscard]] Hit lookup(NamespaceHandle const& space, KeyChain const& chain,
                           std::uint32_t limit_tokens);
  // What follows the first `hit_tokens` of a prompt in memory and lies in a tier below, on its way
  // into memory: look up again when it is done. Nothing: there is nothing, or computing it is
  // faster. Never waits for a disk or a server.
  [[nodiscard]] std::optional<Fetch> fetch(NamespaceHandle const& space, KeyChain const& chain,
                                           FetchRange range);
  // How far a prefix would reach if what lies in the tiers below were fetched; `hit_tokens` at
  // least. Blocks while a remote is asked.
  [[nodiscard]] std::uint32_t reach(NamespaceHandle const& space, KeyChain const& chain,
                                    std::uint32_t hit_tokens, std::uint32_t limit_tokens);
  // A disk or a remote: fetch() may have something to bring.
  [[nodiscard]] bool has_lower_tier() const noexcept;
  // For whoever serves `remote_calls`: the memory that all slots lie in, for as long as it is held,
  // which should not be longer than the calls are open. Null without `remote_calls`.
  [[nodiscard]] std::shared_ptr<LentMemory> lend_memory();
  // Waits until all that was stored is in the tiers below, as far as it goes there. False at the
  // deadline.
  [[nodiscard]] bool drain(std::chrono::milliseconds timeout);
  // Slots for the chunks of a range, in every lane: refs[lane][i]. An empty ref: nothing to write
  // there.
  [[nodiscard]] std::vector<std::vector<ChunkRef>> reserve(NamespaceHandle const& space,
                                                           KeyChain const& chain, ChunkRange range);
  void cancel(std::span<ChunkRef const> refs);
  [[nodiscard]] bool is_ready(ChunkRef ref) const;

  // The view's memory must outlive the view. Errors: kInvalidArgument; of a CUDA device whatever
  // keeps it from being used, with the reason. The first view of such a device waits until the
  // driver has started: a second or so.
  [[nodiscard]] Result<ViewId> register_view(KvView view);
  void unregister_view(ViewId view);
  // Errors: kInvalidArgument (unknown view), and those of a device that takes no work. Items whose
  // chunk is gone, or that do not fit it or the view, fail alone; see finish_job().
  // `stream`: the copies wait, on the device, for what was put on this stream before: what computes
  // the blocks of a store, what still reads those of a load. Host memory has no streams.
  [[nodiscard]] Result<JobId> submit_store(ViewId view, std::span<StoreItem const> items,
                                           std::optional<EngineStream> stream = std::nullopt);
  [[nodiscard]] Result<JobId> submit_load(ViewId view, std::span<LoadItem const> items,
                                          std::optional<EngineStream> stream = std::nullopt);
  [[nodiscard]] bool poll(JobId job) const;
  // True when done; false at the deadline. Blocks.
  [[nodiscard]] bool wait(JobId job, std::chrono::milliseconds timeout);
  // True when planes 0..plane of every item that was accepted have arrived. False at the deadline,
  // and for good once an item was cancelled or failed on the device: then wait() and finish_job()
  // tell which. Blocks.
  [[nodiscard]] bool wait_plane(JobId job, std::uint32_t plane, std::chrono::milliseconds timeout);
  // Makes what is put on `stream` from now on wait, on the device, until planes 0..plane of every
  // item that was accepted have arrived (load) or were read (store). False, and the stream does not
  // wait: as wait_plane(). True is no promise that the copies succeed: finish_job() tells. Errors:
  // those of the device. Blocks until the copies are on their way.
  [[nodiscard]] Result<bool> stream_wait_plane(JobId job, std::uint32_t plane, EngineStream stream,
                                               std::chrono::milliseconds timeout);
  // Drops what has not begun; when it returns no thread touches the view for this job any more.
  // Blocks for microseconds.
  void cancel_job(JobId job);
  // Forgets a job that is done. Indices of the items that failed.
  std::vector<std::uint32_t> finish_job(JobId job);

  // Removes chunks that nobody leases, from memory and from disk. Returns how many: the larger of
  // the two numbers, since most chunks are in both.
  std::uint64_t clear(std::optional<NamespaceHandle> space = std::nullopt);

  // What the serving engine measured. The time to first token that the cache saves follows from
  // both.
  void count_prefill(std::uint64_t tokens, std::uint64_t elapsed_ns) noexcept;
  void count_request(ServedRequest const& request) noexcept;
  // For `lmcache explain`; see request_tracing.hpp.
  void trace_request(RequestSeen const& seen, std::optional<NamespaceHandle> const& space,
                     KeyChain const* chain);

  [[nodiscard]] CountersSnapshot counters() const;
  [[nodiscard]] Result<SegmentStatus> status();
  [[nodiscard]] EngineOptions const& options() const noexcept { return options_; }

 private:
  explicit Engine(EngineOptions options);
  std::uint64_t clear_memory(std::optional<NamespaceHandle> const& space);
  [[nodiscard]] DramNamespace& at(NamespaceHandle const& space) const;

  struct State;
  EngineOptions options_;
  std::unique_ptr<State> state_;
};

}  // namespace lmcache
