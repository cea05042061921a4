// SPDX-License-Identifier: Apache-2.0
#include <lmcache/index/hash_index.hpp>

#include <bit>
#include <new>

namespace lmcache {

HashIndex::HashIndex(Regions regions) noexcept
    : table_{reinterpret_cast<ShardTable*>(regions.shards.data())},
      buckets_{reinterpret_cast<std::atomic<std::uint32_t>*>(regions.buckets.data()),
               std::bit_floor(regions.buckets.size() / sizeof(std::uint32_t))},
      bucket_mask_{buckets_.size() - 1},
      entries_{reinterpret_cast<Entry*>(regions.entries.data()),
               regions.entries.size() / sizeof(Entry)} {}

Result<void> HashIndex::initialise() {
  new (table_) ShardTable{};
  for (auto& shard : table_->shards) LMC_TRY(shard.lock.init());
  for (auto& head : buckets_) head.store(kNoEntry, std::memory_order_relaxed);
  return {};
}

Result<RobustGuard> HashIndex::lock_shard(std::uint32_t shard,
                                          std::chrono::milliseconds timeout) const {
  auto& mutex = table_->shards[shard].lock;
  LMC_TRY_ASSIGN(auto const state, mutex.lock(timeout));
  if (state == LockState::kOwnerDied) {
    rebuild(shard);
    table_->repaired.fetch_add(1, std::memory_order_relaxed);
    mutex.mark_consistent();
  }
  return RobustGuard{mutex};
}

Result<RobustGuard> HashIndex::lock(ChunkKey const& key, std::chrono::milliseconds timeout) const {
  return lock_shard(shard_of(key), timeout);
}

std::uint32_t HashIndex::find(ChunkKey const& key) const noexcept {
  std::uint32_t index = bucket_of(key.prefix64()).load(std::memory_order_relaxed);
  while (index != kNoEntry && !entries_[index].has_key(key)) {
    index = entries_[index].hash_next.load(std::memory_order_relaxed);
  }
  return index;
}

void HashIndex::insert(std::uint32_t index) const noexcept {
  auto& entry = entries_[index];
  auto& head = bucket_of(entry.key_words[0].load(std::memory_order_relaxed));
  entry.hash_next.store(head.load(std::memory_order_relaxed), std::memory_order_relaxed);
  head.store(index, std::memory_order_relaxed);
}

void HashIndex::erase(std::uint32_t index) const noexcept {
  auto& entry = entries_[index];
  auto* link = &bucket_of(entry.key_words[0].load(std::memory_order_relaxed));
  for (std::uint32_t at = link->load(std::memory_order_relaxed); at != kNoEntry;
       at = link->load(std::memory_order_relaxed)) {
    if (at == index) {
      link->store(entry.hash_next.load(std::memory_order_relaxed), std::memory_order_relaxed);
      return;
    }
    link = &entries_[at].hash_next;
  }
}

void HashIndex::prefetch_bucket(ChunkKey const& key) const noexcept {
  __builtin_prefetch(&bucket_of(key.prefix64()));
}

void HashIndex::prefetch_entry(ChunkKey const& key) const noexcept {
  std::uint32_t const index = bucket_of(key.prefix64()).load(std::memory_order_relaxed);
  if (index != kNoEntry) __builtin_prefetch(&entries_[index], 1);
}

void HashIndex::rebuild_all() const noexcept {
  for (auto& head : buckets_) head.store(kNoEntry, std::memory_order_relaxed);
  std::uint32_t const limit = entry_limit();
  for (std::uint32_t index = 0; index < limit; ++index) {
    if (entries_[index].state.load(std::memory_order_acquire) != EntryState::kFree) insert(index);
  }
}

void HashIndex::rebuild(std::uint32_t shard) const noexcept {
  for (std::size_t bucket = shard; bucket < buckets_.size(); bucket += kShardCount) {
    buckets_[bucket].store(kNoEntry, std::memory_order_relaxed);
  }
  std::uint32_t const limit = entry_limit();
  for (std::uint32_t index = 0; index < limit; ++index) {
    auto const& entry = entries_[index];
    // Acquire pairs with the release that makes an entry kWriting after its key is complete.
    if (entry.state.load(std::memory_order_acquire) == EntryState::kFree) continue;
    auto const prefix = entry.key_words[0].load(std::memory_order_relaxed);
    if ((prefix & (kShardCount - 1)) == shard) insert(index);
  }
}

}  // namespace lmcache
