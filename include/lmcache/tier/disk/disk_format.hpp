// SPDX-License-Identifier: Apache-2.0
// What a disk cache (a volume: one folder, or several that are striped) has in its files.
//
//   <folder>/volume       VolumeHeader: which volume and folder it is, and the node that uses it
//   <folder>/slab-<n>     slots of one size, each with a chunk record (index/chunk_record.hpp)
//   <folder 0>/index      IndexHeader, then one IndexRecord per slot that ever was
//   <folder 0>/order      when the chunk of each record was last used; written now and then
//   <folder 0>/models     what namespaces the chunks belong to; for people, and for the time that
//                         computing takes
//
// The index is its own journal: a record is written in place, with a check of its own, by one
// process at a time, and never needs another one to be understood. Invariants:
//   * a record is freed on disk before its slot is overwritten, and written after the slot was;
//   * whatever a crash or a lost power supply left: a record that does not check is free, of two
//     that claim one place the one of higher sequence is right, and a record whose slot holds
//     another key or generation, or other bytes, is found out when it is read.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <lmcache/base/result.hpp>
#include <lmcache/key/chunk_key.hpp>

namespace lmcache {

inline constexpr std::uint64_t kDiskPageBytes = 4096;
inline constexpr std::uint32_t kDiskFormatVersion = 1;
inline constexpr std::uint32_t kMaxFolders = 32;
inline constexpr std::uint32_t kMaxSlabs = 4096;

using Id128 = std::array<std::uint8_t, 16>;

// All of the file `volume`. Padding is zero.
struct VolumeHeader {
  std::uint64_t magic;
  std::uint32_t format_version;
  std::uint32_t crc;  // CRC-32C of the header with 0 here
  Id128 volume;
  // Of the directory in shared memory that the using node made: it is another one after a reboot,
  // on another machine, in a container with a /dev/shm of its own.
  Id128 directory;
  std::uint32_t folder;
  std::uint32_t folders;          // how many there are
  std::uint32_t record_capacity;  // of the index
  std::uint32_t unused;
  std::int64_t created_unix_s;
  std::array<char, 64> host;  // of the using node, for messages
  std::uint8_t reserved[3960];
};
static_assert(sizeof(VolumeHeader) == kDiskPageBytes);
static_assert(std::is_trivially_copyable_v<VolumeHeader>);

void seal(VolumeHeader& header) noexcept;
// Errors: kCorrupted (ours, but damaged, or all zeros: what a lost power supply leaves);
// kInvalidArgument (no file of ours, or of a version that this build does not know).
[[nodiscard]] Result<VolumeHeader> parse_volume_header(std::span<std::byte const> bytes);

struct IndexRecord {
  std::uint32_t crc;  // of what follows, and of the record's number
  std::uint8_t used;  // 0 = the slot is free
  std::uint8_t flags;
  std::uint16_t lane;
  std::uint64_t sequence;  // grows with each record written; the generation of the chunk's record
  ChunkKey key;
  Id128 root;  // first half of the namespace's root
  std::uint32_t slab;
  std::uint32_t fingerprint;
  std::uint64_t offset;  // in the slab
  std::uint64_t slot_bytes;
  std::uint64_t payload_bytes;
  std::uint32_t valid_tokens;
  std::uint32_t expires_unix_s;
  std::uint64_t last_use;  // on the volume's logical clock
  std::uint8_t reserved[16];
};
static_assert(sizeof(IndexRecord) == 128);
static_assert(std::is_trivially_copyable_v<IndexRecord>);

void seal(IndexRecord& record, std::uint32_t number) noexcept;
// Nothing: free, or never written, or damaged. `damaged` is raised by one in the last case.
[[nodiscard]] std::optional<IndexRecord> parse_index_record(std::span<std::byte const> bytes,
                                                            std::uint32_t number,
                                                            std::uint64_t& damaged) noexcept;
[[nodiscard]] constexpr std::uint64_t index_offset(std::uint32_t number) noexcept {
  return std::uint64_t{number} * sizeof(IndexRecord);
}

// Bytes of a chunk record's place on disk, and of the transfer that moves it. Small records go
// through the page cache (their slots in memory are not aligned to pages), so they move as they
// are; large ones go around it, in whole pages.
inline constexpr std::uint64_t kDirectFromBytes = 16 * kDiskPageBytes;
[[nodiscard]] constexpr std::uint64_t disk_slot_bytes(std::uint64_t slot_bytes) noexcept {
  return (slot_bytes + kDiskPageBytes - 1) / kDiskPageBytes * kDiskPageBytes;
}
[[nodiscard]] constexpr bool goes_direct(std::uint64_t slot_bytes) noexcept {
  return slot_bytes >= kDirectFromBytes;
}
[[nodiscard]] constexpr std::uint64_t transfer_bytes(std::uint64_t slot_bytes,
                                                     std::uint64_t record_bytes) noexcept {
  return goes_direct(slot_bytes) ? disk_slot_bytes(record_bytes) : record_bytes;
}

// The file `order`: what eviction goes by, and what was measured, as of the last checkpoint. Pages
// of their own check, so that damage costs the order of 511 chunks and no more.
struct UseOrder {
  std::uint64_t now = 0;  // logical clock
  std::uint64_t read_bytes_per_s = 0;
  std::uint64_t write_bytes_per_s = 0;
  std::vector<std::uint64_t> last_use;  // by number of the index record; 0 = not known
};
[[nodiscard]] std::vector<std::byte> encode_order(UseOrder const& order);
// Damaged pages read as 0s.
[[nodiscard]] UseOrder parse_order(std::span<std::byte const> bytes);
[[nodiscard]] constexpr std::uint64_t order_file_bytes(std::uint32_t records) noexcept {
  return (1 + (std::uint64_t{records} + 510) / 511) * kDiskPageBytes;
}

// One of the file `models`.
struct ModelRecord {
  std::uint32_t crc;
  std::uint32_t unused;
  ChunkKey root;
  ChunkKey geometry_hash;
  std::uint64_t prefill_ps_per_token;  // picoseconds; 0 = not measured
  std::array<char, 256> model;
  std::array<char, 1024> description;  // JSON
  std::uint8_t reserved[688];
};
static_assert(sizeof(ModelRecord) == 2048);
static_assert(std::is_trivially_copyable_v<ModelRecord>);

void seal(ModelRecord& record) noexcept;
[[nodiscard]] std::optional<ModelRecord> parse_model_record(
    std::span<std::byte const> bytes) noexcept;

}  // namespace lmcache
