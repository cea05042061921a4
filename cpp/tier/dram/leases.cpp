// SPDX-License-Identifier: Apache-2.0
// Leases, and the two steps between a reservation and a chunk that can be read.
#include <unistd.h>

#include <limits>
#include <utility>

#include <lmcache/index/chunk_record.hpp>
#include <lmcache/tier/dram/dram_tier.hpp>

namespace lmcache {

bool DramTier::add_lease(std::uint32_t index) noexcept {
  auto& held = state_.leased[index];
  // One more would make it 0, which says that nobody reads the slot.
  if (held == std::numeric_limits<std::uint16_t>::max()) return false;
  if (held++ == 0) {
    state_.index.at(index).leases.fetch_or(state_.own_bit(), std::memory_order_relaxed);
  }
  return true;
}

void DramTier::drop_lease(std::uint32_t index) noexcept {
  auto& held = state_.leased[index];
  if (held == 0) return;  // released twice
  if (--held == 0) {
    // Release: our reads of the slot come before its reuse, whose allocator loads the mask under
    // the shard lock.
    state_.index.at(index).leases.fetch_and(~state_.own_bit(), std::memory_order_release);
  }
}

bool DramTier::names_entry(ChunkRef ref) const noexcept {
  return ref && ref.index < state_.index.entry_limit() && matches(state_.index.at(ref.index), ref);
}

// The key decides which shard's lock guards the entry, and may be changing while we read it: then
// the generation has moved on already (free_entry), which is what the caller checks under the lock.
std::optional<RobustGuard> DramTier::lock_entry(ChunkRef ref) const {
  if (!names_entry(ref)) return std::nullopt;
  auto const& entry = state_.index.at(ref.index);
  ChunkKey const key = entry.key();
  auto guard = state_.index.lock(key, kLockTimeout);
  if (!guard) return std::nullopt;
  if (!matches(entry, ref) || !entry.has_key(key)) return std::nullopt;
  return std::move(guard).value();
}

ChunkSlot DramTier::slot_of(Entry const& entry) const noexcept {
  auto* const record = segment_->payload(entry.payload_offset);
  return {.record = record,
          .payload = record + sizeof(ChunkHeader),
          .slot_bytes = state_.space.classes[entry.size_class].slot_bytes,
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
  if (!add_lease(ref.index)) return std::nullopt;
  return slot_of(entry);
}

void DramTier::publish_and_keep(ChunkRef ref) {
  if (!names_entry(ref)) return;
  // No lock: the writer's lease keeps everybody else from changing the state. Release pairs with
  // the acquire of whoever finds the chunk ready: its bytes come before.
  auto writing = EntryState::kWriting;
  state_.index.at(ref.index).state.compare_exchange_strong(
      writing, EntryState::kReady, std::memory_order_release, std::memory_order_relaxed);
}

void DramTier::publish(ChunkRef ref) {
  publish_and_keep(ref);
  ChunkRef const refs[] = {ref};
  release(refs);
}

void DramTier::abandon(ChunkRef ref) { settle_or_owe({.ref = ref, .kind = Debt::Kind::kAbandon}); }

std::optional<ChunkSlot> DramTier::begin_read(ChunkRef ref) {
  auto const guard = lock_entry(ref);
  if (!guard) return std::nullopt;
  auto const& entry = state_.index.at(ref.index);
  if (entry.state.load(std::memory_order_acquire) != EntryState::kReady) return std::nullopt;
  if (!add_lease(ref.index)) return std::nullopt;
  return slot_of(entry);
}

bool DramTier::is_ready(ChunkRef ref) const {
  if (!ref || ref.index >= state_.index.entry_limit()) return false;
  auto const& entry = state_.index.at(ref.index);
  return entry.state.load(std::memory_order_acquire) == EntryState::kReady && matches(entry, ref);
}

bool DramTier::is_reserved(ChunkRef ref) const {
  if (!ref || ref.index >= state_.index.entry_limit()) return false;
  auto const& entry = state_.index.at(ref.index);
  return entry.state.load(std::memory_order_acquire) == EntryState::kWriting &&
         (entry.lower_tiers.load(std::memory_order_relaxed) & kQuarantined) == 0 &&
         matches(entry, ref);
}

void DramTier::release(std::span<ChunkRef const> refs) {
  // A fork drops its copies of hits, whose leases are its parent's.
  if (joined_pid_ != ::getpid()) return;
  std::vector<Debt> refused;
  for (auto const ref : refs) {
    if (!ref) continue;
    if (auto const guard = lock_entry(ref)) {
      drop_lease(ref.index);
    } else if (names_entry(ref)) {
      refused.push_back({.ref = ref, .kind = Debt::Kind::kRelease});
    }
  }
  owe(refused);
}

void DramTier::cancel(ChunkRef ref) { settle_or_owe({.ref = ref, .kind = Debt::Kind::kCancel}); }

void DramTier::withdraw(ChunkRef ref) {
  settle_or_owe({.ref = ref, .kind = Debt::Kind::kWithdraw});
}

// True: done, or there is nothing to do. False: a lock was not free in time.
bool DramTier::settle(Debt debt) {
  bool const ends_reservation = debt.kind != Debt::Kind::kRelease;
  std::optional<RobustGuard> space;
  if (ends_reservation) {
    auto locked = state_.lock_space();
    if (!locked) return false;
    space.emplace(std::move(locked).value());
  }
  auto const guard = lock_entry(debt.ref);
  if (!guard) return !names_entry(debt.ref);
  if (debt.kind == Debt::Kind::kRelease || debt.kind == Debt::Kind::kAbandon) {
    drop_lease(debt.ref.index);
  }
  if (!ends_reservation) return true;
  auto const& entry = state_.index.at(debt.ref.index);
  if (entry.state.load(std::memory_order_relaxed) == EntryState::kWriting &&
      entry.leases.load(std::memory_order_relaxed) == 0) {
    state_.free_entry(debt.ref.index);
    if (debt.kind == Debt::Kind::kCancel) count(state_.counters->dropped(DropReason::kCancelled));
  }
  return true;
}

void DramTier::settle_or_owe(Debt debt) {
  if (!settle(debt)) owe({&debt, 1});
}

void DramTier::owe(std::span<Debt const> debts) {
  if (debts.empty()) return;
  std::lock_guard const lock{pending_mutex_};
  debts_.insert(debts_.end(), debts.begin(), debts.end());
}

void DramTier::settle_debts() {
  std::vector<Debt> debts;
  {
    std::lock_guard const lock{pending_mutex_};
    debts.swap(debts_);
  }
  // At the first refusal the rest can wait too: there is a next time.
  for (std::size_t i = 0; i < debts.size(); ++i) {
    if (settle(debts[i])) continue;
    owe(std::span{debts}.subspan(i));
    return;
  }
}

}  // namespace lmcache
