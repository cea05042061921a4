// SPDX-License-Identifier: Apache-2.0
// When chunks that are gone were removed, and why: tells a chunk that was evicted from one that was
// never stored.
//
// Sets of four places: a removal takes the place of the same key, else the oldest one of its set.
// Of 32,768 places some 20,000 of the latest removals are remembered, and none of them is looked
// for. A hint: keys count by their first 8 bytes, and a process that dies here loses one removal.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include <lmcache/key/chunk_key.hpp>

namespace lmcache {

enum class RemovalReason : std::uint8_t {
  kEvicted = 1,    // to make room
  kEvictedToDisk,  // the same, but the disk had it too
  kExpired,
  kCleared,
};
inline constexpr std::array<std::string_view, 5> kRemovalReasons{"", "evicted", "evicted_to_disk",
                                                                 "expired", "cleared"};

struct Removal {
  std::uint32_t unix_s;
  RemovalReason reason;
};

// A view in a segment, valid when zeroed; cheap to copy. note() is externally synchronised (the
// space lock); find() needs no lock.
class RemovalTable {
 public:
  explicit RemovalTable(std::span<std::byte> region) noexcept;

  // Of an entry's key: chain key ^ lane mask.
  void note(ChunkKey const& key, Removal removal) const noexcept;
  [[nodiscard]] std::optional<Removal> find(ChunkKey const& key) const noexcept;

  [[nodiscard]] static constexpr std::size_t region_bytes() noexcept { return sizeof(Set) * kSets; }

 private:
  static constexpr std::size_t kSets = 8192;
  struct Place {
    std::atomic<std::uint64_t> key;
    std::atomic<std::uint64_t> removal;  // unix seconds << 8 | reason; 0 = none
  };
  using Set = std::array<Place, 4>;

  // Entries of a shard share the low bits of their keys.
  [[nodiscard]] Set& set_of(std::uint64_t key) const noexcept { return sets_[(key >> 32) % kSets]; }

  std::span<Set> sets_;
};

}  // namespace lmcache
