// SPDX-License-Identifier: Apache-2.0
// How a segment file is laid out: header, regions, payload. Offsets only, no pointers, no vtables.
//
//   [SegmentHeader][region 0][region 1]...[region n-1][payload: extent_count extents]
//
// Invariants: every region starts on a 4 KiB boundary, the payload on 2 MiB; the header's static
// part is written before the file gets its name and never changes; only `closed` and
// `usable_extents` do.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <lmcache/base/robust_mutex.hpp>
#include <lmcache/metrics/counters.hpp>

namespace lmcache {

// What the regions hold is the business of the units above; the segment only maps them.
enum class Region : std::uint32_t {
  kProcesses,     // memory/process_table.hpp
  kExtents,       // memory/extent_table.hpp
  kNamespaces,    // index/namespace_table.hpp
  kShards,        // index/hash_index.hpp: locks
  kBuckets,       // index/hash_index.hpp: chain heads
  kFingerprints,  // index/chunk_tree.hpp: chain heads
  kEntries,       // index/entry.hpp
  kRecency,       // policy/recency_list.hpp: one node per entry
  kSpace,         // tier/dram: allocator state
  kRequests,      // metrics/request_log.hpp
  kRemovals,      // index/removal_table.hpp
  kCount,
};

inline constexpr std::size_t kRegionCount = static_cast<std::size_t>(Region::kCount);
inline constexpr std::uint64_t kSegmentMagic = 0x3165'6863'6143'4d4c;  // "LMCache1"
inline constexpr std::uint32_t kSegmentLayoutVersion = 6;
// os_error() of the error that attach() gives for a file of another layout version.
inline constexpr int kSegmentLayoutMismatch = -1;
inline constexpr std::uint64_t kPageBytes = 4096;
inline constexpr std::uint64_t kExtentAlignBytes = 2u << 20;  // a huge page

// Whose records lie in the regions.
enum class SegmentKind : std::uint32_t {
  kChunks = 1,         // tier/dram
  kDiskDirectory = 2,  // tier/disk
};

struct RegionSpan {
  std::uint64_t offset;
  std::uint64_t size_bytes;
};

struct SegmentHeader {
  std::uint64_t magic;
  std::uint32_t layout_version;
  std::uint32_t owner_uid;
  std::uint64_t file_bytes;
  std::uint64_t payload_offset;
  std::uint64_t extent_bytes;
  std::uint32_t extent_count;
  std::uint32_t remove_when_unused;  // the last process to leave cleanly removes the file
  std::int64_t created_unix_s;
  SegmentKind kind;
  std::uint32_t unused;
  std::array<RegionSpan, kRegionCount> regions;

  // 1 once the last process left: whoever maps the file now must make a new one. Guarded by
  // space_lock.
  std::atomic<std::uint32_t> closed;
  // Extents the backing store had room for; lowered, never raised, when a reservation fails.
  std::atomic<std::uint32_t> usable_extents;
  // Guards the allocator, the tree, the recency lists and the process table (tier/dram).
  RobustMutex space_lock;
  // Counters of processes that have left; `total = departed + attached`.
  Counters departed;
};
static_assert(std::is_standard_layout_v<SegmentHeader>);

}  // namespace lmcache
