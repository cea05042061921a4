// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/engine.hpp>

#include <unistd.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <mutex>

#include <lmcache/engine/device_copiers.hpp>
#include <lmcache/engine/disk_side.hpp>
#include <lmcache/engine/fetch_planner.hpp>
#include <lmcache/engine/housekeeper.hpp>
#include <lmcache/engine/prefill_speed.hpp>
#include <lmcache/engine/remote_side.hpp>
#include <lmcache/engine/request_tracing.hpp>
#include <lmcache/engine/status_reader.hpp>
#include <lmcache/engine/transfer_jobs.hpp>
#include <lmcache/tier/dram/dram_tier.hpp>
#include <lmcache/tier/dram/segment_use.hpp>

namespace lmcache {

// In the order of construction: the housekeeper and the jobs use the tiers, and go before them.
struct Engine::State {
  struct Lower {
    std::unique_ptr<DiskSide> disk;
    std::unique_ptr<RemoteSide> remote;
  };
  State(std::unique_ptr<DramTier> opened, Lower lower, std::unique_ptr<DeviceCopiers> copiers,
        Clock const& time)
      : clock{time},
        tier{std::move(opened)},
        planner{{.dram = *tier,
                 .disk = lower.disk ? &lower.disk->tier() : nullptr,
                 .remote = lower.remote ? &lower.remote->tier() : nullptr,
                 .on_remote =
                     [this](ChunkRef ref) {
                       if (disk) disk->stored(ref);
                     }},
                time},
        disk{std::move(lower.disk)},
        remote{std::move(lower.remote)},
        jobs{*tier, std::move(copiers), time, on_stored()},
        housekeeper{*tier, upkeep()} {}

  [[nodiscard]] TransferJobs::OnStored on_stored() {
    if (!has_lower()) return {};
    return [this](ChunkRef ref) {
      if (disk) disk->stored(ref);
      if (remote) remote->stored(ref);
    };
  }
  [[nodiscard]] HousekeeperHooks upkeep() {
    return {.copies = [this] { return disk || jobs.has_views(); },  // a disk wants it mapped
            .each_tick =
                [this] {
                  if (disk) disk->keep_house();
                  if (remote) remote->keep_house();
                },
            .on_mapped =
                [this](std::uint32_t extent) {
                  if (disk) disk->memory_ready(extent);
                }};
  }
  [[nodiscard]] bool has_lower() const noexcept { return disk || remote; }
  // Picoseconds per token of a namespace; 0 = not known.
  [[nodiscard]] std::uint64_t prefill(DramNamespace const& space) {
    if (auto const measured = measured_prefill(*tier); measured != 0) return measured;
    return disk ? disk->known_prefill(space.opened.root) : 0;
  }

  pid_t const opened_by{::getpid()};
  Clock const& clock;
  std::unique_ptr<DramTier> tier;
  FetchPlanner planner;
  std::unique_ptr<DiskSide> disk;      // or none
  std::unique_ptr<RemoteSide> remote;  // or none; closes while the planner and the disk are there
  std::mutex mutex;                    // guards spaces, whose elements stay where they are
  std::deque<DramNamespace> spaces;
  TransferJobs jobs;
  Housekeeper housekeeper;
};

namespace {

SystemClock const kSystemClock;

CopyDeadline after(std::chrono::milliseconds timeout) {
  return std::chrono::steady_clock::now() + timeout;
}

Result<DramNamespace> make_namespace(NamespaceSpec spec, KvGeometry const& geometry) {
  LMC_TRY_ASSIGN(spec.geometry_hash.bytes, geometry_hash(geometry));
  spec.geometry_text = describe(geometry);
  for (auto const& group : geometry.groups) {
    if (spec.chunk_tokens % group.block_tokens != 0) {
      return Error{ErrorCode::kInvalidArgument,
                   "chunk_size " + std::to_string(spec.chunk_tokens) +
                       " is not a multiple of the engine's block size " +
                       std::to_string(group.block_tokens)};
    }
  }
  DramNamespace out;
  LMC_TRY_ASSIGN(out.opened.root, namespace_root(spec));
  out.opened.chunk_tokens = spec.chunk_tokens;
  out.opened.block_tokens = geometry.groups.front().block_tokens;
  out.model = spec.model;
  out.description = describe(spec);
  out.geometry_hash = spec.geometry_hash;
  std::vector<std::uint32_t> windows;
  for (std::uint32_t group = 0; group < geometry.groups.size(); ++group) {
    for (std::uint32_t rank = 0; rank < spec.world_size; ++rank) {
      LMC_TRY_ASSIGN(auto const mask,
                     lane_mask(out.opened.root,
                               {.group = group, .rank = rank, .world_size = spec.world_size}));
      out.lane_masks.push_back(mask);
      out.lane_block_tokens.push_back(geometry.groups[group].block_tokens);
      windows.push_back(geometry.groups[group].window_tokens);
    }
  }
  if (std::ranges::any_of(windows, std::identity{})) out.lane_windows = std::move(windows);
  return out;
}

}  // namespace

Hit::Hit(DramTier* tier, std::unique_ptr<LeasedPrefix> prefix) noexcept
    : tier_{tier}, prefix_{std::move(prefix)} {}
Hit::Hit(Hit&& other) noexcept = default;
Hit& Hit::operator=(Hit&& other) noexcept {
  if (this != &other) {
    release();
    tier_ = other.tier_;
    prefix_ = std::move(other.prefix_);
  }
  return *this;
}
Hit::~Hit() { release(); }

std::uint32_t Hit::prefix_tokens() const noexcept { return prefix_ ? prefix_->prefix_tokens : 0; }
std::uint32_t Hit::chunk_count() const noexcept {
  return prefix_ ? static_cast<std::uint32_t>(prefix_->lanes.front().size()) : 0;
}
std::span<ChunkRef const> Hit::refs(std::uint32_t lane) const noexcept {
  if (!prefix_ || lane >= prefix_->lanes.size()) return {};
  return prefix_->lanes[lane];
}
void Hit::release() noexcept {
  if (!prefix_) return;
  for (auto const& lane : prefix_->lanes) tier_->release(lane);
  prefix_.reset();
}

void Hit::forget() noexcept { prefix_.reset(); }

Engine::Engine(EngineOptions options) : options_{std::move(options)} {}
Engine::~Engine() {
  // A fork has our memory, but none of our threads to wait for.
  if (state_ && state_->opened_by != ::getpid()) (void)state_.release();
}

Result<std::unique_ptr<Engine>> Engine::open(EngineOptions options, LogHook log) {
  return open(std::move(options), std::move(log), kSystemClock);
}

Result<std::unique_ptr<Engine>> Engine::open(EngineOptions options, LogHook log,
                                             Clock const& clock) {
  LMC_TRY_ASSIGN(auto const eviction, parse_eviction(options.eviction));
  LMC_TRY_ASSIGN(auto tier,
                 DramTier::open({.name = options.segment == "private" ? "" : options.segment,
                                 .directory = options.directory,
                                 .capacity_bytes = options.capacity_bytes,
                                 .chunk_bytes_hint = options.chunk_bytes_hint,
                                 .max_entries = options.max_entries,
                                 .remove_when_unused = !options.keep,
                                 .eviction = eviction,
                                 .ttl_seconds = options.ttl_seconds,
                                 .role = options.role,
                                 .instance_id = options.instance_id},
                                clock, log));
  State::Lower lower;
  if (!options.disk_folders.empty()) {
    auto opened = DiskSide::open(options, *tier, clock, log);
    if (opened) {
      lower.disk = std::move(opened).value();
    } else {
      lmcache::log(log, LogLevel::kWarning,
                   "going on without the disk tier: " + opened.error().message());
    }
  }
  if (!options.remote_url.empty() || options.remote_calls) {
    LMC_TRY_ASSIGN(lower.remote, RemoteSide::open(options, *tier, clock, log));
  }
  LMC_TRY_ASSIGN(auto copiers, DeviceCopiers::open(options, tier->segment(), log));
  std::unique_ptr<Engine> engine{new Engine{std::move(options)}};
  engine->state_ =
      std::make_unique<State>(std::move(tier), std::move(lower), std::move(copiers), clock);
  if (!engine->state_->housekeeper.started())
    return Error{ErrorCode::kUnavailable, "cannot start a thread for the upkeep of the segment"};
  return engine;
}

DramNamespace& Engine::at(NamespaceHandle const& space) const {
  std::lock_guard const lock{state_->mutex};
  return state_->spaces[space.slot];
}

Result<NamespaceHandle> Engine::open_namespace(NamespaceSpec spec, KvGeometry const& geometry) {
  LMC_TRY_ASSIGN(auto fresh, make_namespace(std::move(spec), geometry));
  std::lock_guard const lock{state_->mutex};
  auto& spaces = state_->spaces;
  auto found = std::ranges::find_if(
      spaces, [&](auto const& known) { return known.opened.root == fresh.opened.root; });
  if (found == spaces.end()) {
    LMC_TRY(state_->tier->open_namespace(fresh));
    if (state_->disk) state_->disk->opened(fresh);
    spaces.push_back(std::move(fresh));
    found = std::prev(spaces.end());
  } else if (!state_->tier->owns_record(*found)) {
    LMC_TRY(state_->tier->open_namespace(*found));
  }
  return NamespaceHandle{.slot = static_cast<std::uint32_t>(found - spaces.begin()),
                         .id = found->place.id(),
                         .lanes = found->lanes(),
                         .chunk_tokens = found->opened.chunk_tokens,
                         .root = found->opened.root};
}

Result<void> Engine::declare_lane(NamespaceHandle const& space, std::uint32_t lane,
                                  std::uint64_t block_bytes) {
  return state_->tier->declare_lane(at(space), lane, block_bytes);
}

std::vector<std::uint64_t> Engine::lane_block_bytes(NamespaceHandle const& space) const {
  auto& known = at(space);
  std::vector<std::uint64_t> out(space.lanes);
  // The record was given to another namespace: ours gets one with what we know of its lanes.
  if (!state_->tier->owns_record(known) && !state_->tier->open_namespace(known)) return out;
  auto const& record = state_->tier->record(known);
  for (std::uint32_t lane = 0; lane < space.lanes; ++lane) {
    out[lane] = record.lane_block_bytes[lane].load(std::memory_order_acquire);
  }
  return out;
}

Result<KeyChain> Engine::new_chain(NamespaceHandle const& space) const {
  return KeyChain::create(space.root, space.chunk_tokens);
}

Hit Engine::lookup(NamespaceHandle const& space, KeyChain const& chain,
                   std::uint32_t limit_tokens) {
  std::int64_t const started = state_->clock.monotonic_ns();
  auto& tier = *state_->tier;
  auto prefix = std::make_unique<LeasedPrefix>(tier.lookup(at(space), chain, limit_tokens));
  auto const elapsed = static_cast<std::uint64_t>(state_->clock.monotonic_ns() - started);
  count(tier.counters().lookup_ns, elapsed);
  tier.state().processes.record(tier.state().process).latencies.lookup.record(elapsed);
  return Hit{&tier, std::move(prefix)};
}

std::optional<Fetch> Engine::fetch(NamespaceHandle const& space, KeyChain const& chain,
                                   FetchRange range) {
  if (!state_->has_lower()) return std::nullopt;
  auto& known = at(space);
  // When everything is to be fetched, not known is as good as slow.
  auto started = state_->planner.start(
      known, chain,
      {.first_token = range.hit_tokens,
       .computed_tokens = range.computed_tokens,
       .limit_tokens = range.limit_tokens,
       .prefill_ps_per_token = options_.always_fetch ? 0 : state_->prefill(known)});
  if (!started) return std::nullopt;
  state_->housekeeper.wake();
  return Fetch{std::move(started)};
}

std::uint32_t Engine::reach(NamespaceHandle const& space, KeyChain const& chain,
                            std::uint32_t hit_tokens, std::uint32_t limit_tokens) {
  if (!state_->has_lower()) return hit_tokens;
  auto const& known = at(space);
  return state_->planner.reach(
      known, chain,
      {.first_token = hit_tokens,
       .computed_tokens = 0,
       .limit_tokens = limit_tokens,
       .prefill_ps_per_token = options_.always_fetch ? 0 : state_->prefill(known)});
}

std::shared_ptr<LentMemory> Engine::lend_memory() {
  if (!options_.remote_calls) return nullptr;
  return options_.remote_calls->lend(state_->tier->segment().all_payload());
}

bool Engine::has_lower_tier() const noexcept { return state_->has_lower(); }

bool Engine::drain(std::chrono::milliseconds timeout) {
  auto const deadline = std::chrono::steady_clock::now() + timeout;
  if (state_->disk && !state_->disk->drain(timeout)) return false;
  auto const left = std::chrono::duration_cast<std::chrono::milliseconds>(
      deadline - std::chrono::steady_clock::now());
  return !state_->remote || state_->remote->drain(std::max(left, std::chrono::milliseconds{0}));
}

std::vector<std::vector<ChunkRef>> Engine::reserve(NamespaceHandle const& space,
                                                   KeyChain const& chain, ChunkRange range) {
  auto refs = state_->tier->reserve(
      at(space), chain, {.first_chunk = range.first_chunk, .end_token = range.end_token});
  state_->housekeeper.wake();
  return refs;
}

void Engine::cancel(std::span<ChunkRef const> refs) {
  for (auto const ref : refs) state_->tier->cancel(ref);
}

bool Engine::is_ready(ChunkRef ref) const { return state_->tier->is_ready(ref); }

Result<ViewId> Engine::register_view(KvView view) {
  return state_->jobs.register_view(std::move(view));
}
void Engine::unregister_view(ViewId view) { state_->jobs.unregister_view(view); }
Result<JobId> Engine::submit_store(ViewId view, std::span<StoreItem const> items,
                                   std::optional<EngineStream> stream) {
  return state_->jobs.submit_store(view, items, stream);
}
Result<JobId> Engine::submit_load(ViewId view, std::span<LoadItem const> items,
                                  std::optional<EngineStream> stream) {
  return state_->jobs.submit_load(view, items, stream);
}
bool Engine::poll(JobId job) const { return state_->jobs.poll(job); }
bool Engine::wait(JobId job, std::chrono::milliseconds timeout) {
  return state_->jobs.wait(job, after(timeout));
}
bool Engine::wait_plane(JobId job, std::uint32_t plane, std::chrono::milliseconds timeout) {
  return state_->jobs.wait_plane(job, plane, after(timeout));
}
Result<bool> Engine::stream_wait_plane(JobId job, std::uint32_t plane, EngineStream stream,
                                       std::chrono::milliseconds timeout) {
  return state_->jobs.stream_wait_plane(job, plane, stream, after(timeout));
}
void Engine::cancel_job(JobId job) { state_->jobs.cancel(job); }
std::vector<std::uint32_t> Engine::finish_job(JobId job) { return state_->jobs.finish(job); }

std::uint64_t Engine::clear(std::optional<NamespaceHandle> space) {
  // First: what goes from memory before it could be fetched again.
  std::uint64_t below = 0;
  if (state_->disk) below = state_->disk->clear(space ? std::optional{space->root} : std::nullopt);
  return std::max(below, clear_memory(space));
}

std::uint64_t Engine::clear_memory(std::optional<NamespaceHandle> const& space) {
  std::optional<std::uint16_t> id;
  if (space.has_value()) {
    auto const& known = at(*space);
    if (!state_->tier->owns_record(known)) return 0;  // given to another: ours holds nothing
    id = known.place.id();
  }
  return clear_chunks(state_->tier->state(), id);
}

void Engine::count_prefill(std::uint64_t tokens, std::uint64_t elapsed_ns) noexcept {
  auto& counters = state_->tier->counters();
  count(counters.prefill_tokens, tokens);
  count(counters.prefill_ns, elapsed_ns);
}

void Engine::count_request(ServedRequest const& request) noexcept {
  auto& counters = state_->tier->counters();
  count(counters.requests);
  count(counters.request_tokens, request.prompt_tokens);
  count(counters.request_hit_tokens, request.hit_tokens);
  count(counters.request_load_ns, request.load_ns);
}

void Engine::trace_request(RequestSeen const& seen, std::optional<NamespaceHandle> const& space,
                           KeyChain const* chain) {
  lmcache::trace_request({.dram = *state_->tier,
                          .disk = state_->disk ? &state_->disk->tier() : nullptr,
                          .remote = state_->remote ? &state_->remote->tier() : nullptr},
                         seen, space ? &at(*space) : nullptr, chain);
}

CountersSnapshot Engine::counters() const { return state_->tier->counters().snapshot(); }

Result<SegmentStatus> Engine::status() { return read_status(state_->tier->state()); }

}  // namespace lmcache
