// SPDX-License-Identifier: Apache-2.0
// Leases, and the two steps between a reservation and a chunk that can be read.
#include <utility>

#include <lmcache/tier/dram/dram_tier.hpp>

namespace lmcache {

void DramTier::add_lease(std::uint32_t index) noexcept {
  if (state_.leased[index]++ == 0) {
    state_.index.at(index).leases.fetch_or(state_.own_bit(), std::memory_order_relaxed);
  }
}

void DramTier::drop_lease(std::uint32_t index) noexcept {
  if (--state_.leased[index] == 0) {
    // Release: our reads of the slot come before its reuse, whose allocator loads the mask under
    // the shard lock.
    state_.index.at(index).leases.fetch_and(~state_.own_bit(), std::memory_order_release);
  }
}

// The key decides which shard's lock guards the entry, and may be changing while we read it: then
// the generation has moved on already (free_entry), which is what the caller checks under the lock.
std::optional<RobustGuard> DramTier::lock_entry(ChunkRef ref) const {
  if (!ref || ref.index >= state_.index.entry_limit()) return std::nullopt;
  auto const& entry = state_.index.at(ref.index);
  ChunkKey const key = entry.key();
  auto guard = state_.index.lock(key, kLockTimeout);
  if (!guard) return std::nullopt;
  if (!matches(entry, ref) || !entry.has_key(key)) return std::nullopt;
  return std::move(guard).value();
}

ChunkSlot DramTier::slot_of(Entry const& entry) const noexcept {
  return {.payload = segment_->payload(entry.payload_offset),
          .payload_bytes = entry.payload_bytes,
          .valid_tokens = entry.valid_tokens,
          .namespace_id = entry.namespace_id,
          .lane = entry.lane};
}

std::optional<ChunkSlot> DramTier::begin_write(ChunkRef ref) {
  auto const guard = lock_entry(ref);
  if (!guard) return std::nullopt;
  auto const& entry = state_.index.at(ref.index);
  // One writer: a second one (the same job submitted twice) finds the lease of the first.
  if (entry.state.load(std::memory_order_relaxed) != EntryState::kWriting ||
      entry.leases.load(std::memory_order_relaxed) != 0) {
    return std::nullopt;
  }
  add_lease(ref.index);
  return slot_of(entry);
}

void DramTier::publish(ChunkRef ref) {
  for (;;) {
    if (auto const guard = lock_entry(ref)) {
      auto& entry = state_.index.at(ref.index);
      entry.state.store(EntryState::kReady, std::memory_order_release);
      drop_lease(ref.index);
      return;
    }
    // Our lease keeps the entry what it is, so only a slow lock can have refused us.
    auto const& entry = state_.index.at(ref.index);
    if (!matches(entry, ref)) return;
  }
}

void DramTier::abandon(ChunkRef ref) {
  ChunkRef const refs[] = {ref};
  release(refs);
  cancel(ref);
}

std::optional<ChunkSlot> DramTier::begin_read(ChunkRef ref) {
  auto const guard = lock_entry(ref);
  if (!guard) return std::nullopt;
  auto const& entry = state_.index.at(ref.index);
  if (entry.state.load(std::memory_order_acquire) != EntryState::kReady) return std::nullopt;
  add_lease(ref.index);
  return slot_of(entry);
}

bool DramTier::is_ready(ChunkRef ref) const {
  if (!ref || ref.index >= state_.index.entry_limit()) return false;
  auto const& entry = state_.index.at(ref.index);
  return entry.state.load(std::memory_order_acquire) == EntryState::kReady && matches(entry, ref);
}

void DramTier::release(std::span<ChunkRef const> refs) {
  std::vector<ChunkRef> refused;
  for (auto const ref : refs) {
    if (!ref) continue;
    if (auto const guard = lock_entry(ref)) {
      drop_lease(ref.index);
    } else {
      refused.push_back(ref);
    }
  }
  if (refused.empty()) return;
  std::lock_guard const lock{pending_mutex_};
  pending_release_.insert(pending_release_.end(), refused.begin(), refused.end());
}

void DramTier::retry_releases() {
  std::vector<ChunkRef> refs;
  {
    std::lock_guard const lock{pending_mutex_};
    refs.swap(pending_release_);
  }
  if (!refs.empty()) release(refs);
}

void DramTier::cancel(ChunkRef ref) {
  auto const space = state_.lock_space();
  if (!space) return;  // the reaper takes it back when we leave
  auto const guard = lock_entry(ref);
  if (!guard) return;
  auto const& entry = state_.index.at(ref.index);
  if (entry.state.load(std::memory_order_relaxed) != EntryState::kWriting ||
      entry.leases.load(std::memory_order_relaxed) != 0) {
    return;
  }
  state_.free_entry(ref.index);
  count(state_.counters->dropped(DropReason::kCancelled));
}

}  // namespace lmcache
