// SPDX-License-Identifier: Apache-2.0
// The index record of one chunk of one lane, in shared memory.
//
// An entry is bound to a slot for as long as the slot's extent belongs to its size class; a free
// entry waits with its slot for the next chunk of that size. What is guarded by what:
//   key, state, generation, leases, hash_next   the lock of the key's shard; they are changed only
//   while the
//                                               space lock is held too, except leases and kWriting
//                                               -> kReady
//   everything else                             the space lock
// `state` is the truth that repair starts from: it is written before an entry is linked anywhere
// and is set to kFree before it is unlinked. `generation` grows each time an entry becomes free, so
// a ChunkRef to what was there before never matches again.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <lmcache/index/chunk_ref.hpp>
#include <lmcache/key/chunk_key.hpp>

namespace lmcache {

enum class EntryState : std::uint8_t { kFree, kWriting, kReady };

// What an entry holds. Only prefix chunks are linked into the tree; the others are found by key
// alone.
enum class EntryKind : std::uint8_t { kPrefixChunk, kOpaque };

// First chunk of its namespace: has no parent and is no orphan.
inline constexpr std::uint8_t kAtRoot = 1;
inline constexpr std::uint8_t kHasMedia = 2;  // multimodal items in it: reusable as a whole only
// Bits of Entry::lower_tiers. A hint, no lease: the tier below may have dropped it since.
inline constexpr std::uint16_t kOnDisk = 1;
// Reserved to be filled from a tier below, not by the serving engine.
inline constexpr std::uint16_t kFetching = 2;
// Whoever fetched it is dead, and its transfer may still be under way: see DramTier::reclaim().
inline constexpr std::uint16_t kQuarantined = 4;
inline constexpr std::uint64_t kUnbound = ~std::uint64_t{0};
inline constexpr std::uint8_t kNoProcess = 0xff;

struct alignas(64) Entry {
  // First line: all that a lookup by key reads.
  std::array<std::atomic<std::uint64_t>, 4> key_words;
  std::atomic<std::uint64_t> leases;  // bit i: process i reads or writes the slot
  std::atomic<std::uint32_t> generation;
  std::atomic<std::uint32_t> hash_next;
  std::uint64_t payload_offset;  // kUnbound: no slot
  std::atomic<EntryState> state;
  EntryKind kind;
  std::uint8_t writer;           // process that reserved it, while kWriting
  std::uint8_t flags;            // kAtRoot, kHasMedia
  std::uint32_t expires_unix_s;  // 0 = never

  // Second line: structure.
  std::uint32_t valid_tokens;
  std::uint32_t parent;       // chunk before, same lane; kNoEntry: the root, or it is gone
  std::uint32_t first_child;  // most recent first
  std::uint32_t next_sibling;
  std::uint32_t previous_sibling;
  std::uint32_t child_count;
  std::uint32_t fingerprint;  // 0 = not in the fingerprint table
  std::uint32_t fingerprint_next;
  std::uint32_t fingerprint_previous;
  std::uint32_t extent_next;  // chain of the extent's entries
  std::uint16_t namespace_id;
  std::uint16_t lane;
  std::uint16_t size_class;                // 0 = unbound
  std::atomic<std::uint16_t> lower_tiers;  // kOnDisk, kFetching
  std::uint64_t payload_bytes;
  std::uint64_t checksum;  // 0 = not computed; set when a tier below needs it

  [[nodiscard]] ChunkKey key() const noexcept {
    ChunkKey out;
    for (std::size_t i = 0; i < key_words.size(); ++i) {
      store_le(out.bytes.data() + 8 * i, key_words[i].load(std::memory_order_relaxed));
    }
    return out;
  }
  void set_key(ChunkKey const& key) noexcept {
    for (std::size_t i = 0; i < key_words.size(); ++i) {
      key_words[i].store(load_le<std::uint64_t>(key.bytes.data() + 8 * i),
                         std::memory_order_relaxed);
    }
  }
  [[nodiscard]] bool has_key(ChunkKey const& key) const noexcept {
    for (std::size_t i = 0; i < key_words.size(); ++i) {
      if (key_words[i].load(std::memory_order_relaxed) !=
          load_le<std::uint64_t>(key.bytes.data() + 8 * i)) {
        return false;
      }
    }
    return true;
  }
  [[nodiscard]] bool expired(std::int64_t now_unix_s) const noexcept {
    return expires_unix_s != 0 && expires_unix_s <= now_unix_s;
  }
};
static_assert(sizeof(Entry) == 128);
static_assert(std::is_standard_layout_v<Entry>);

}  // namespace lmcache
