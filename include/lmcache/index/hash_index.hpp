// SPDX-License-Identifier: Apache-2.0
// Finds entries by key: hash chains, a lock per shard.
//
// Invariants: a bucket's chain holds exactly the entries that are not free and whose key falls into
// it; a shard owns the buckets whose number ends in its own. Whoever finds that a shard's owner
// died rebuilds that shard's chains from the entries' states and goes on.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

#include <lmcache/base/result.hpp>
#include <lmcache/base/robust_mutex.hpp>
#include <lmcache/index/entry.hpp>

namespace lmcache {

inline constexpr std::uint32_t kShardCount = 64;

struct ShardTable {
  struct alignas(64) Shard {
    RobustMutex lock;
  };
  std::array<Shard, kShardCount> shards;
  // Entries [0, entry_limit) were ever used; those beyond may not be backed with memory.
  alignas(64) std::atomic<std::uint32_t> entry_limit;
  std::atomic<std::uint64_t> repaired;
};

// A view of the table in a segment; cheap to copy. Thread-safe and process-safe by the shard locks;
// calls that take a Guard need the one of the key's shard.
class HashIndex {
 public:
  struct Regions {
    std::span<std::byte> shards;
    std::span<std::byte> buckets;  // a power of two of u32, at least kShardCount
    std::span<std::byte> entries;
  };
  explicit HashIndex(Regions regions) noexcept;
  // Of a new segment.
  [[nodiscard]] Result<void> initialise();

  // Errors: kTimeout.
  [[nodiscard]] Result<RobustGuard> lock(ChunkKey const& key,
                                         std::chrono::milliseconds timeout) const;
  [[nodiscard]] Result<RobustGuard> lock_shard(std::uint32_t shard,
                                               std::chrono::milliseconds timeout) const;
  [[nodiscard]] static std::uint32_t shard_of(ChunkKey const& key) noexcept {
    return static_cast<std::uint32_t>(key.prefix64()) & (kShardCount - 1);
  }

  [[nodiscard]] std::uint32_t find(ChunkKey const& key) const noexcept;
  void insert(std::uint32_t index) const noexcept;
  void erase(std::uint32_t index) const noexcept;

  // Hints for a batch of finds: the bucket first, some keys later the entry that its chain begins
  // with. No lock needed: a stale hint costs a cache miss and nothing else.
  void prefetch_bucket(ChunkKey const& key) const noexcept;
  void prefetch_entry(ChunkKey const& key) const noexcept;

  // Makes the chains of one shard anew out of the entries' states. The shard's lock is held.
  void rebuild(std::uint32_t shard) const noexcept;
  // The same for all shards in one pass. All shard locks are held.
  void rebuild_all() const noexcept;

  [[nodiscard]] Entry& at(std::uint32_t index) const noexcept { return entries_[index]; }
  [[nodiscard]] std::uint32_t capacity() const noexcept {
    return static_cast<std::uint32_t>(entries_.size());
  }
  [[nodiscard]] std::uint32_t entry_limit() const noexcept {
    return table_->entry_limit.load(std::memory_order_acquire);
  }
  void set_entry_limit(std::uint32_t limit) const noexcept {
    table_->entry_limit.store(limit, std::memory_order_release);
  }
  [[nodiscard]] std::uint64_t repaired_shards() const noexcept { return table_->repaired.load(); }

 private:
  [[nodiscard]] std::atomic<std::uint32_t>& bucket_of(std::uint64_t prefix) const noexcept {
    return buckets_[prefix & bucket_mask_];
  }

  ShardTable* table_;
  std::span<std::atomic<std::uint32_t>> buckets_;
  std::uint64_t bucket_mask_;
  std::span<Entry> entries_;
};

}  // namespace lmcache
