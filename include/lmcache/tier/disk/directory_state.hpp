// SPDX-License-Identifier: Apache-2.0
// What the processes of a node share about a volume: which chunk lies where, what is free, what was
// used when. It lies in a segment of its own and is made out of the volume's index when the first
// process comes; the index on disk follows it.
//
// Everything is guarded by the segment's space lock, under which nothing is read or written. The
// states of entries and slabs are the truth; lists, chains and counts are derived from them
// (directory_rebuild.cpp) when a process died inside the lock.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include <lmcache/base/clock.hpp>
#include <lmcache/memory/process_table.hpp>
#include <lmcache/memory/segment.hpp>
#include <lmcache/policy/recency_list.hpp>
#include <lmcache/tier/disk/disk_format.hpp>

namespace lmcache {

inline constexpr std::uint32_t kNoRecord = 0xffff'ffff;
inline constexpr std::uint32_t kNoSlab = 0xffff'ffff;
inline constexpr std::uint32_t kMaxDiskClasses = 64;  // class 0 means "none"

enum class DiskState : std::uint8_t {
  kNoSlot,
  kFree,     // a slot without a chunk
  kWriting,  // the process `writer` writes a chunk into it, or frees the record of one it forgot
  kReady,
  kDropped,  // its slab is being taken back by `writer`, who frees its index record first
};

// One per index record, under the same number.
struct alignas(64) DiskEntry {
  ChunkKey key;
  std::uint64_t readers;  // bit i: process i reads the slot
  std::uint64_t sequence;
  std::uint64_t offset;
  std::uint32_t slab;
  std::uint32_t hash_next;

  std::uint64_t payload_bytes;
  std::uint64_t last_use;
  Id128 root;
  std::uint32_t slab_next;  // chain of the slab's entries
  std::uint32_t valid_tokens;
  std::uint32_t fingerprint;
  std::uint32_t expires_unix_s;
  std::uint16_t lane;
  DiskState state;
  std::uint8_t writer;
  std::uint8_t flags;
  std::uint8_t unused[11];
};
static_assert(sizeof(DiskEntry) == 128);

enum class SlabState : std::uint8_t { kNone, kPreparing, kReady };

struct SlabRecord {
  std::uint64_t size_bytes;  // that it takes of the limit: on disk, or promised
  std::uint64_t slot_bytes;
  std::uint32_t slots;
  std::uint32_t bound;
  std::uint32_t live;  // entries that are not free
  std::uint32_t first_entry;
  std::uint32_t incarnation;  // grows each time the slab is made: descriptors of before are void
  std::uint16_t disk_class;
  SlabState state;
  std::uint8_t owner;  // while kPreparing
  std::uint8_t folder;
  std::uint8_t unused[7];
};
static_assert(sizeof(SlabRecord) == 48);

struct DiskClass {
  std::uint64_t slot_bytes;
  RecencyHead free;
  RecencyHead used;
  // Slabs with slots that were never handed out, one per folder, so that neighbours in a prompt lie
  // on different drives.
  std::array<std::uint32_t, kMaxFolders> open_slab;
  std::uint32_t next_folder;
  std::uint32_t unused;
};

struct DirectorySpace {
  Id128 volume;
  Id128 directory;            // token: see VolumeHeader
  std::uint64_t limit_bytes;  // of all files together
  std::uint64_t fixed_bytes;  // of those that are no slabs
  std::uint64_t slab_bytes;   // of the slabs there are, or are being made
  std::uint64_t slab_target_bytes;
  std::uint64_t now;  // logical clock: one step per use
  std::uint64_t next_sequence;
  std::uint32_t folder_count;
  std::uint32_t slab_limit;   // slabs [0, slab_limit) were ever used
  std::uint32_t class_count;  // classes 1..class_count are in use
  std::uint32_t entry_limit;  // entries [0, entry_limit) were ever used
  std::uint32_t backed_entries;
  std::uint32_t unused;
  RecencyHead unbound;
  std::array<DiskClass, kMaxDiskClasses + 1> classes;
  std::atomic<std::uint64_t> read_bytes_per_s;  // measured, smoothed; 0 = not yet
  std::atomic<std::uint64_t> write_bytes_per_s;
  std::atomic<std::uint64_t> used_bytes;  // payload of what is there
  std::atomic<std::uint64_t> chunks;
  std::atomic<std::uint64_t> repaired;
  std::atomic<std::uint64_t> damaged_records;  // that the index had when it was read
  std::array<char, 2048> folder_paths;         // a line each; for people
  std::array<char, 16> io_engine;              // of the process that came last
  std::atomic<std::uint32_t> made_to_look;  // by nobody who has a limit: the first who has sets it
};

// The views, and what belongs to this process alone.
struct DirectoryState {
  explicit DirectoryState(Segment& mapped);

  Segment& segment;
  ProcessTable processes;
  std::span<SlabRecord> slabs;
  std::span<std::uint32_t> buckets;
  std::span<DiskEntry> entries;
  RecencyNodes recency;
  DirectorySpace& space;
  std::uint32_t process{0xff};

  // Takes the lock; rebuilds what it guards when its last owner died. Errors: kTimeout.
  [[nodiscard]] Result<RobustGuard> lock(std::chrono::milliseconds timeout);
  [[nodiscard]] DiskClass& class_of(DiskEntry const& entry) const noexcept {
    return space.classes[slabs[entry.slab].disk_class];
  }
  [[nodiscard]] std::uint64_t own_bit() const noexcept { return std::uint64_t{1} << process; }

  // The lock is held.
  [[nodiscard]] std::uint32_t find(ChunkKey const& key) const noexcept;
  void link(std::uint32_t index) const noexcept;    // into its hash chain
  void unlink(std::uint32_t index) const noexcept;  // out of it
  // Makes a chunk that is there one that `process` is about to forget (kWriting).
  void retire_entry(std::uint32_t index) const noexcept;
  // Makes an entry that has a slot free, whatever it was.
  void free_entry(std::uint32_t index) const noexcept;
  [[nodiscard]] Result<std::uint16_t> class_for(std::uint64_t slot_bytes) const;
};

// Lists, chains and counts out of the states of entries and slabs. The lock is held, or nobody else
// knows of the segment yet.
void rebuild_directory(DirectoryState& state);

}  // namespace lmcache
