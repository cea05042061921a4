// SPDX-License-Identifier: Apache-2.0
// What the DRAM tier keeps in the segment beside the index, and the views a process has of all of
// it.
//
// Lock order: the space lock, then one shard lock (repair takes all of them, in order). Nothing is
// copied, written to disk or called back under either.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <vector>

#include <lmcache/base/clock.hpp>
#include <lmcache/base/log.hpp>
#include <lmcache/index/chunk_tree.hpp>
#include <lmcache/index/hash_index.hpp>
#include <lmcache/index/namespace_table.hpp>
#include <lmcache/index/removal_table.hpp>
#include <lmcache/memory/extent_table.hpp>
#include <lmcache/memory/process_table.hpp>
#include <lmcache/memory/segment.hpp>
#include <lmcache/metrics/request_log.hpp>
#include <lmcache/policy/eviction_policy.hpp>

namespace lmcache {

inline constexpr std::uint32_t kMaxSizeClasses = 64;  // class 0 means "none"
// A lookup or a reservation that cannot have a lock for this long is a miss or a dropped store.
inline constexpr std::chrono::milliseconds kLockTimeout{50};

// Chunks of one slot size. Every bound entry that is free is in `free`; every entry that is not
// free and has no children is in `leaves`.
struct SizeClass {
  std::uint64_t slot_bytes;
  RecencyHead free;
  RecencyHead leaves;
  std::uint32_t open_extent;    // slots not handed out yet, or kNoExtent
  std::uint32_t empty_extents;  // extents of the class in which nothing lies
};

struct SpaceState {
  std::uint64_t now;  // logical clock: one step per use
  std::uint32_t backed_entries;
  std::uint32_t class_count;  // classes 1..class_count are in use
  RecencyHead unbound;        // entries that were used once and have no slot
  std::array<SizeClass, kMaxSizeClasses + 1> classes;
  std::atomic<std::uint32_t> expiry_used;  // a chunk with an expiry was stored: sweep
  std::uint32_t sweep_cursor;
  std::atomic<std::uint64_t> repaired;
  // Where the directory of the disk tier lies that processes of this segment use; empty = none.
  // Written once, under the space lock.
  std::array<char, 256> disk_directory;
};

// The views, and what belongs to this process alone.
struct DramState {
  DramState(Segment& mapped, Clock const& time, EvictionKind eviction);

  Segment& segment;
  Clock const& clock;
  SegmentHeader& header;
  ProcessTable processes;
  ExtentTable extents;
  NamespaceTable namespaces;
  HashIndex index;
  ChunkTree tree;
  RecencyNodes recency;
  std::unique_ptr<EvictionPolicy> policy;
  SpaceState& space;
  RequestLog requests;
  RemovalTable removals;

  std::uint32_t process{kNoProcess};  // our index in the process table
  Counters* counters{nullptr};        // ours, in the process table
  // How often this process leased each entry; the bit in Entry::leases is set while it is not 0.
  // Guarded by the shard lock of the entry's key. Zero pages until used.
  struct Free {
    void operator()(void* memory) const noexcept { std::free(memory); }
  };
  std::unique_ptr<std::uint16_t[], Free> leased;

  [[nodiscard]] std::uint64_t own_bit() const noexcept { return std::uint64_t{1} << process; }
  [[nodiscard]] SizeClass& class_of(Entry const& entry) const noexcept {
    return space.classes[entry.size_class];
  }
  // Takes the space lock; repairs what it guards when its last owner died. Errors: kTimeout.
  [[nodiscard]] Result<RobustGuard> lock_space(std::chrono::milliseconds timeout = kLockTimeout);
  // Makes an entry free, whatever it was. The space lock and its shard's are held.
  void free_entry(std::uint32_t index_of_entry) noexcept;
  // Counts an entry that stopped being free.
  void mark_live(Entry const& entry) noexcept;
};

// Rebuilds lists, trees, extents and counters out of the entries. The space lock is held.
[[nodiscard]] Result<void> repair_space(DramState& state);

// Entry `index` is still what `ref` names.
[[nodiscard]] inline bool matches(Entry const& entry, ChunkRef ref) noexcept {
  return entry.generation.load(std::memory_order_acquire) == ref.generation;
}

}  // namespace lmcache
