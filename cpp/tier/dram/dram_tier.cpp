// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/dram/dram_tier.hpp>

#include <algorithm>
#include <bit>
#include <string>
#include <utility>

namespace lmcache {
namespace {

constexpr std::uint64_t kMaxExtentBytes = 256u << 20;

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

DramTier::DramTier(DramOptions options, std::unique_ptr<Segment> segment, Clock const& clock,
                   LogHook log)
    : options_{std::move(options)},
      log_{std::move(log)},
      segment_{std::move(segment)},
      state_{*segment_, clock, options_.eviction},
      allocator_{state_} {}

Result<std::unique_ptr<DramTier>> DramTier::open(DramOptions options, Clock const& clock,
                                                 LogHook log) {
  auto const wanted = segment_options(options);
  // A segment whose last process just left is closed; the next round makes a new one.
  for (int attempt = 0; attempt < 16; ++attempt) {
    LMC_TRY_ASSIGN(auto segment,
                   Segment::open_or_create(wanted, &initialise_segment, nullptr, log));
    std::unique_ptr<DramTier> tier{new DramTier{options, std::move(segment), clock, log}};
    auto joined = tier->join();
    if (joined) return tier;
    if (joined.error().code() != ErrorCode::kCancelled) return std::move(joined).error();
  }
  return Error{ErrorCode::kUnavailable, "segment " + options.name + " keeps being closed"};
}

Result<void> DramTier::join() {
  LMC_TRY_ASSIGN(auto const guard, state_.lock_space(std::chrono::seconds{5}));
  if (state_.header.closed.load() != 0)
    return Error{ErrorCode::kCancelled, "the segment was closed"};
  auto claimed = state_.processes.claim({.role = options_.role,
                                         .instance_id = options_.instance_id,
                                         .now_unix_s = state_.clock.unix_seconds()});
  if (!claimed) {
    for (std::uint32_t i = 0; i < kMaxProcesses; ++i) {
      if (state_.processes.attached(i) && !state_.processes.alive(i)) reclaim(i);
    }
    claimed = state_.processes.claim({.role = options_.role,
                                      .instance_id = options_.instance_id,
                                      .now_unix_s = state_.clock.unix_seconds()});
    if (!claimed) return std::move(claimed).error();
  }
  state_.process = claimed.value();
  state_.counters = &state_.processes.record(state_.process).counters;
  joined_ = true;
  if (!segment_->created() && options_.capacity_bytes / 64 != segment_->capacity_bytes() / 64) {
    auto const megabytes = [](std::uint64_t bytes) {
      return std::to_string(bytes / 1'000'000) + " MB";
    };
    if (options_.capacity_bytes > segment_->capacity_bytes() + state_.header.extent_bytes ||
        options_.capacity_bytes + state_.header.extent_bytes < segment_->capacity_bytes()) {
      lmcache::log(log_, LogLevel::kInfo,
                   "segment " + segment_->path() + " exists with " +
                       megabytes(segment_->capacity_bytes()) + "; the " +
                       megabytes(options_.capacity_bytes) + " asked for here do not change it");
    }
  }
  return {};
}

DramTier::~DramTier() {
  if (joined_) leave();
}

void DramTier::leave() noexcept {
  auto const guard = state_.lock_space(std::chrono::seconds{5});
  if (!guard) return;  // whoever holds it will find us gone and reap us
  reclaim(state_.process);
  if (state_.processes.attached_count() == 0 && state_.header.remove_when_unused != 0) {
    state_.header.closed.store(1);
    segment_->unlink();
  }
}

Result<void> DramTier::open_namespace(DramNamespace& handle) {
  LMC_TRY_ASSIGN(auto const guard, state_.lock_space(std::chrono::seconds{2}));
  handle.opened.model = handle.model;
  handle.opened.description = handle.description;
  handle.opened.lanes = handle.lanes();
  handle.opened.now_unix_s = state_.clock.unix_seconds();
  LMC_TRY_ASSIGN(handle.id, state_.namespaces.open(handle.opened));
  auto& opened = record(handle);
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
  handle.lane_block_bytes[lane] = block_bytes;
  record(handle).lane_block_bytes[lane].store(block_bytes, std::memory_order_release);
  return {};
}

std::span<std::uint32_t> slot_tokens(Segment const& segment, Entry const& entry) noexcept {
  std::uint64_t const offset = (entry.payload_bytes + 3) / 4 * 4;
  return {reinterpret_cast<std::uint32_t*>(segment.payload(entry.payload_offset + offset)),
          entry.valid_tokens};
}

}  // namespace lmcache
