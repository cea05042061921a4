// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/dram/dram_tier.hpp>

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <string>
#include <utility>

#include <lmcache/index/chunk_record.hpp>

namespace lmcache {
namespace {

constexpr std::uint64_t kMaxExtentBytes = 256u << 20;
// Times 2^20 blocks of a chunk it still is no overflow.
constexpr std::uint64_t kMaxBlockBytes = std::uint64_t{1} << 40;
constexpr std::chrono::seconds kJoinTimeout{5};
constexpr std::chrono::seconds kOpenTimeout{2};

// One model's chunks should fill an extent without waste, and a small segment should still have
// many extents.
std::uint64_t extent_bytes_for(DramOptions const& options) {
  std::uint64_t const target =
      std::clamp(std::bit_floor(options.capacity_bytes / 64), kExtentAlignBytes, kMaxExtentBytes);
  if (options.chunk_bytes_hint == 0) return target;
  std::uint64_t const slot = SlotAllocator::slot_bytes(options.chunk_bytes_hint);
  std::uint64_t slots = std::max<std::uint64_t>(1, target / slot);
  // Extents are multiples of 2 MiB: take the number of slots near the target that wastes least.
  auto const waste = [&](std::uint64_t n) {
    std::uint64_t const bytes = n * slot;
    std::uint64_t const rounded =
        (bytes + kExtentAlignBytes - 1) / kExtentAlignBytes * kExtentAlignBytes;
    return static_cast<double>(rounded - bytes) / static_cast<double>(rounded);
  };
  std::uint64_t best = slots;
  for (std::uint64_t n = slots; n <= slots + 8 && n * slot <= options.capacity_bytes / 4; ++n) {
    if (waste(n) + 0.001 < waste(best)) best = n;
  }
  return best * slot;
}

std::uint32_t max_entries_for(DramOptions const& options) {
  if (options.max_entries != 0) return options.max_entries;
  std::uint64_t const by_capacity = std::bit_ceil(options.capacity_bytes / (16u << 10));
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(by_capacity, 1u << 12, 1u << 20));
}

SegmentOptions segment_options(DramOptions const& options) {
  std::uint64_t const entries = max_entries_for(options);
  std::uint64_t const extent_bytes = extent_bytes_for(options);
  std::uint64_t const extents = options.capacity_bytes / extent_bytes + 1;
  SegmentOptions out{};
  out.name = options.name;
  out.directory = options.directory;
  out.payload_bytes = options.capacity_bytes;
  out.extent_bytes = extent_bytes;
  out.remove_when_unused = options.remove_when_unused;
  auto const region = [&](Region id) -> RegionRequest& {
    return out.regions[static_cast<std::size_t>(id)];
  };
  region(Region::kProcesses) = {ProcessTable::region_bytes(), true};
  region(Region::kExtents) = {ExtentTable::region_bytes(static_cast<std::uint32_t>(extents)), true};
  region(Region::kNamespaces) = {NamespaceTable::region_bytes(), true};
  region(Region::kShards) = {sizeof(ShardTable), true};
  region(Region::kBuckets) = {std::bit_ceil(entries * 2) * sizeof(std::uint32_t), true};
  region(Region::kFingerprints) = {std::bit_ceil(entries) * sizeof(std::uint32_t), true};
  region(Region::kEntries) = {entries * sizeof(Entry), false};
  region(Region::kRecency) = {entries * sizeof(RecencyNode), false};
  region(Region::kSpace) = {sizeof(SpaceState), true};
  region(Region::kRequests) = {RequestLog::region_bytes(), true};
  region(Region::kRemovals) = {RemovalTable::region_bytes(), true};
  return out;
}

Result<void> initialise_segment(Segment& fresh, void* /*context*/) {
  HashIndex index{{.shards = fresh.region(Region::kShards),
                   .buckets = fresh.region(Region::kBuckets),
                   .entries = fresh.region(Region::kEntries)}};
  LMC_TRY(index.initialise());
  ChunkTree const tree{fresh.region(Region::kFingerprints),
                       fresh.region_of<Entry>(Region::kEntries)};
  tree.initialise();
  auto& space = *reinterpret_cast<SpaceState*>(fresh.region(Region::kSpace).data());
  space.unbound.clear();
  return {};
}

}  // namespace

DramTier::DramTier(DramOptions options, std::unique_ptr<Segment> segment, Sha256Algorithm sha256,
                   Clock const& clock, LogHook log)
    : options_{std::move(options)},
      log_{std::move(log)},
      segment_{std::move(segment)},
      state_{*segment_, clock, options_.eviction},
      allocator_{state_},
      sha256_{std::move(sha256)} {}

Result<std::unique_ptr<DramTier>> DramTier::open(DramOptions options, Clock const& clock,
                                                 LogHook log) {
  auto const wanted = segment_options(options);
  LMC_TRY_ASSIGN(auto const sha256, Sha256Algorithm::fetch());
  // A segment whose last process just left is closed; the next round makes a new one.
  for (int attempt = 0; attempt < 16; ++attempt) {
    LMC_TRY_ASSIGN(auto segment,
                   Segment::open_or_create(wanted, &initialise_segment, nullptr, log));
    std::unique_ptr<DramTier> tier{new DramTier{options, std::move(segment), sha256, clock, log}};
    auto joined = tier->join();
    if (joined) {
      if (auto const note = tier->note_about_size(); !note.empty()) {
        lmcache::log(log, LogLevel::kInfo, note);
      }
      return tier;
    }
    if (joined.error().code() != ErrorCode::kCancelled) return std::move(joined).error();
  }
  return Error{ErrorCode::kUnavailable, "segment " + options.name + " keeps being closed"};
}

Result<void> DramTier::join() {
  LMC_TRY_ASSIGN(auto const guard, state_.lock_space(kJoinTimeout));
  if (state_.header.closed.load() != 0) {
    // Whoever closed it may have died before it took the name away.
    segment_->unlink();
    return Error{ErrorCode::kCancelled, "the segment was closed"};
  }
  ProcessTable::Claim const claim{.role = options_.role,
                                  .instance_id = options_.instance_id,
                                  .now_unix_s = state_.clock.unix_seconds()};
  auto claimed = state_.processes.claim(claim);
  if (!claimed) {
    reclaim_dead();
    claimed = state_.processes.claim(claim);
  }
  if (!claimed) return std::move(claimed).error();
  state_.process = claimed.value();
  state_.counters = &state_.processes.record(state_.process).counters;
  joined_pid_ = ::getpid();
  return {};
}

// Empty when the segment is about as large as we asked for.
std::string DramTier::note_about_size() const {
  std::uint64_t const wanted = options_.capacity_bytes;
  std::uint64_t const there = segment_->capacity_bytes();
  std::uint64_t const extent_bytes = state_.header.extent_bytes;
  bool const alike = wanted <= there + extent_bytes && there <= wanted + extent_bytes;
  if (segment_->created() || alike) return {};
  auto const megabytes = [](std::uint64_t bytes) { return std::to_string(bytes / 1'000'000); };
  return "segment " + segment_->path() + " exists with " + megabytes(there) + " MB; the " +
         megabytes(wanted) + " MB asked for here do not change it";
}

DramTier::~DramTier() {
  if (joined_pid_ == ::getpid()) leave();
}

void DramTier::leave() noexcept {
  auto const guard = state_.lock_space(kJoinTimeout);
  if (!guard || !reclaim(state_.process)) return disown();
  if (state_.header.remove_when_unused == 0) return;
  // One that crashed a moment ago does not count as using the segment.
  reclaim_dead();
  if (state_.processes.attached_count() != 0) return;
  state_.header.closed.store(1);
  segment_->unlink();
}

// The space lock keeps the members of `handle` that change together with what the record says.
Result<void> DramTier::open_namespace(DramNamespace& handle) {
  LMC_TRY_ASSIGN(auto const guard, state_.lock_space(kOpenTimeout));
  auto request = handle.opened;
  request.model = handle.model;
  request.description = handle.description;
  request.lanes = handle.lanes();
  request.now_unix_s = state_.clock.unix_seconds();
  LMC_TRY_ASSIGN(std::uint16_t const id, state_.namespaces.open(request));
  auto& opened = state_.namespaces.at(id);
  handle.place = {id, opened.used.load(std::memory_order_relaxed)};
  handle.lane_block_bytes.resize(handle.lanes());
  for (std::uint32_t lane = 0; lane < handle.lanes(); ++lane) {
    auto& known = handle.lane_block_bytes[lane];
    if (known != 0) {
      opened.lane_block_bytes[lane].store(known, std::memory_order_release);
    } else {
      known = opened.lane_block_bytes[lane].load(std::memory_order_acquire);
    }
  }
  return {};
}

Result<void> DramTier::declare_lane(DramNamespace& handle, std::uint32_t lane,
                                    std::uint64_t block_bytes) {
  if (lane >= handle.lanes()) {
    return Error{ErrorCode::kInvalidArgument, "lane " + std::to_string(lane) +
                                                  " of a namespace of " +
                                                  std::to_string(handle.lanes()) + " lanes"};
  }
  if (block_bytes == 0 || block_bytes > kMaxBlockBytes) {
    return Error{ErrorCode::kInvalidArgument, "a block of " + std::to_string(block_bytes) +
                                                  " bytes, allowed: 1 to " +
                                                  std::to_string(kMaxBlockBytes)};
  }
  {
    LMC_TRY_ASSIGN(auto const guard, state_.lock_space(kOpenTimeout));
    handle.lane_block_bytes[lane] = block_bytes;
    if (owns_record(handle)) {
      record(handle).lane_block_bytes[lane].store(block_bytes, std::memory_order_release);
      return {};
    }
  }
  return open_namespace(handle);
}

std::span<std::uint32_t> slot_tokens(Segment const& segment, Entry const& entry) noexcept {
  std::uint64_t const offset = record_bytes(entry.payload_bytes, 0);
  return {reinterpret_cast<std::uint32_t*>(segment.payload(entry.payload_offset + offset)),
          entry.valid_tokens};
}

}  // namespace lmcache
