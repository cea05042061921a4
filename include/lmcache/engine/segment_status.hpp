// SPDX-License-Identifier: Apache-2.0
// What a segment holds, who has it mapped, and what they did, for people and dashboards; and the
// upkeep of segments that nobody has mapped.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <lmcache/base/result.hpp>
#include <lmcache/key/chunk_key.hpp>
#include <lmcache/metrics/counters.hpp>
#include <lmcache/metrics/histogram.hpp>

namespace lmcache {

struct ProcessStatus {
  std::int32_t pid = 0;
  bool alive = false;
  std::string role;
  std::string instance_id;
  std::int64_t attached_unix_s = 0;
  CountersSnapshot counters;
  std::string remote_state;  // empty: it has no remote; "connected", "unavailable"
  std::uint32_t remote_failures = 0;
  std::uint64_t remote_lookup_ns = 0;  // the last round trip
  std::uint64_t remote_read_bytes_per_s = 0;
  std::uint64_t remote_write_bytes_per_s = 0;
  std::string remote_last_error;            // empty: none so far; its beginning
  std::uint64_t device_capacity_bytes = 0;  // of its pool in GPU memory; 0: it has none
  std::uint64_t device_used_bytes = 0;
  std::uint64_t device_chunks = 0;
};

struct NamespaceStatus {
  std::uint16_t id = 0;
  std::uint32_t incarnation = 0;  // tells its namespace from those that had the id before
  ChunkKey root{};
  std::uint32_t lanes = 0;
  std::uint32_t chunk_tokens = 0;
  std::string model;
  std::string description;  // JSON
  std::uint64_t entries = 0;
  std::uint64_t size_bytes = 0;
  std::uint64_t lookups = 0;
  std::uint64_t lookup_tokens = 0;
  std::uint64_t hit_tokens = 0;
};

// The disk cache that processes of a segment use.
struct DiskSummary {
  std::vector<std::string> folders;
  std::string io_engine;          // "io_uring", "threads"
  std::string unreadable;         // why nothing more is known; empty = it is
  std::uint64_t limit_bytes = 0;  // of all files
  std::uint64_t file_bytes = 0;
  std::uint64_t used_bytes = 0;  // payload
  std::uint64_t chunks = 0;
  std::uint64_t damaged_records = 0;
  std::uint64_t read_bytes_per_s = 0;  // measured; 0 = not yet
  std::uint64_t write_bytes_per_s = 0;
  std::uint32_t processes = 0;
};

struct SegmentStatus {
  std::string path;  // empty: private
  std::int64_t created_unix_s = 0;
  std::uint64_t capacity_bytes = 0;
  std::uint64_t reserved_bytes = 0;  // backed with memory so far
  std::uint64_t used_bytes = 0;      // payload of the chunks that are there
  std::uint64_t entries = 0;
  std::uint64_t ready = 0;
  std::uint64_t writing = 0;
  std::uint64_t free_slots = 0;
  std::uint64_t bound_slots = 0;  // = ready + writing + free_slots, or a slot was lost
  std::uint64_t leased = 0;
  std::uint64_t max_entries = 0;
  std::uint64_t extent_bytes = 0;
  std::uint64_t repaired_locks = 0;
  bool remove_when_unused = false;
  CountersSnapshot total;  // of all processes that were ever attached
  HistogramSnapshot lookup_ns;
  HistogramSnapshot load_ns;
  HistogramSnapshot store_ns;
  std::vector<ProcessStatus> processes;
  std::vector<NamespaceStatus> namespaces;
  std::optional<DiskSummary> disk;
};

// Looks into a segment without joining it: nothing of it changes, not even when it is to be removed
// by the last process to leave. Errors: kUnavailable (no such segment), kInvalidArgument (not
// ours).
[[nodiscard]] Result<SegmentStatus> inspect_segment(std::string const& path);

struct SegmentInfo {
  std::string path;
  std::string name;
  std::uint64_t allocated_bytes = 0;
  std::string unreadable;       // why it cannot be attached; empty = it can
  std::uint32_t processes = 0;  // alive
};
[[nodiscard]] Result<std::vector<SegmentInfo>> list_segments(std::string const& directory);

// Removes the file of a segment that no living process has mapped. False: one has.
// A file of another layout version is removed only by `force`, since nobody can tell who has it
// mapped.
enum class RemoveMode : std::uint8_t { kReadableOnly, kForce };
[[nodiscard]] Result<bool> remove_segment(std::string const& path, RemoveMode mode);

// What the processes of a node share about a disk cache (tier/disk/disk_directory.hpp).
struct DiskDirectoryInfo {
  std::string path;
  std::uint64_t allocated_bytes = 0;
  std::string unreadable;            // why it cannot be attached; empty = it can
  std::uint32_t processes = 0;       // alive
  std::vector<std::string> folders;  // of the disk cache
};
// Those of this user.
[[nodiscard]] Result<std::vector<DiskDirectoryInfo>> list_disk_directories(
    std::string const& memory_folder);

// As remove_segment(). The disk cache stays: its index on disk is complete without it.
[[nodiscard]] Result<bool> remove_disk_directory(std::string const& path, RemoveMode mode);

// Evicts every chunk that nobody leases, of all namespaces or those of one model. Returns how many.
[[nodiscard]] Result<std::uint64_t> clear_segment(std::string const& path,
                                                  std::optional<std::string> const& model);

}  // namespace lmcache
