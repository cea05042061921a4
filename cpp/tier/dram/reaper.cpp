// SPDX-License-Identifier: Apache-2.0
// Takes back what processes left behind, and chunks whose time is over.
#include <algorithm>
#include <bit>
#include <string>

#include <lmcache/tier/dram/dram_tier.hpp>

namespace lmcache {

namespace {

// The kernel goes on with transfers of a ring whose process is dead (io_uring in Linux 6 waits for
// them in the background), and a slot that is given to another chunk meanwhile would be overwritten
// after that chunk was published. Block devices give a transfer up after 30 s.
constexpr std::uint32_t kQuarantineSeconds = 60;

bool is_quarantined(Entry const& entry) noexcept {
  return entry.state.load(std::memory_order_relaxed) == EntryState::kWriting &&
         (entry.lower_tiers.load(std::memory_order_relaxed) & kQuarantined) != 0;
}

}  // namespace

// The space lock is held. The process is dead, or it is us and we are leaving.
bool DramTier::reclaim(std::uint32_t process) {
  std::uint64_t const bit = std::uint64_t{1} << process;
  std::uint64_t slots = 0;
  std::uint64_t leases = 0;
  std::uint32_t const limit = state_.index.entry_limit();
  for (std::uint32_t index = 0; index < limit; ++index) {
    auto& entry = state_.index.at(index);
    bool const leased = (entry.leases.load(std::memory_order_relaxed) & bit) != 0;
    if (!leased && entry.state.load(std::memory_order_relaxed) != EntryState::kWriting) continue;
    auto const guard = state_.index.lock(entry.key(), kLockTimeout);
    if (!guard) return false;
    if (leased) {
      entry.leases.fetch_and(~bit, std::memory_order_release);
      ++leases;
    }
    if (entry.state.load(std::memory_order_relaxed) != EntryState::kWriting) continue;
    auto const below = entry.lower_tiers.load(std::memory_order_relaxed);
    if ((below & kQuarantined) != 0) continue;
    if (leased && (below & kFetching) != 0) {
      entry.lower_tiers.store(below | kQuarantined, std::memory_order_relaxed);
      entry.expires_unix_s =
          static_cast<std::uint32_t>(state_.clock.unix_seconds()) + kQuarantineSeconds;
      state_.space.expiry_used.store(1, std::memory_order_relaxed);
      continue;
    }
    // Half written by the dead, or reserved and without anybody who would write it or give it back.
    if (!leased && entry.writer != process && state_.processes.attached(entry.writer)) continue;
    if (auto const writers = entry.leases.load(std::memory_order_relaxed); writers != 0) {
      // Another process is copying into the slot at this moment: it inherits the reservation.
      entry.writer = static_cast<std::uint8_t>(std::countr_zero(writers));
      continue;
    }
    state_.free_entry(index);
    ++slots;
  }
  auto const& record = state_.processes.record(process);
  auto const left = record.counters.snapshot();
  auto& departed = state_.header.departed;
  departed.add(left);
  if (process != state_.process) {
    count(departed.reaped_processes);
    count(departed.reclaimed_slots, slots);
    count(departed.reclaimed_leases, leases);
  }
  state_.processes.release(process);
  return true;
}

// The space lock is held.
void DramTier::reclaim_dead() {
  for (std::uint32_t process = 0; process < kMaxProcesses; ++process) {
    if (state_.processes.attached(process) && !state_.processes.alive(process)) {
      (void)reclaim(process);
    }
  }
}

// We could not give back what we hold: let the others take us for dead, as we soon shall be.
void DramTier::disown() noexcept { state_.processes.record(state_.process).pid = 0; }

void DramTier::reap() {
  for (std::uint32_t process = 0; process < kMaxProcesses; ++process) {
    if (process == state_.process || !state_.processes.attached(process) ||
        state_.processes.alive(process)) {
      continue;
    }
    std::int32_t pid = 0;
    {
      auto const guard = state_.lock_space();
      if (!guard) return;
      // Somebody else may have been quicker, and the record be in use again.
      if (!state_.processes.attached(process) || state_.processes.alive(process)) continue;
      pid = state_.processes.record(process).pid;
      if (!reclaim(process)) continue;
    }
    lmcache::log(log_, LogLevel::kInfo,
                 "process " + std::to_string(pid) +
                     " is gone without leaving the segment; its slots and leases were taken back");
  }
}

void DramTier::sweep_expired() {
  if (state_.space.expiry_used.load(std::memory_order_relaxed) == 0) return;
  constexpr std::uint32_t kEntriesPerSweep = 8192;  // about 0.1 ms
  auto const guard = state_.lock_space();
  if (!guard) return;
  std::int64_t const now = state_.clock.unix_seconds();
  std::uint32_t const limit = state_.index.entry_limit();
  if (state_.space.sweep_cursor >= limit) state_.space.sweep_cursor = 0;
  std::uint32_t const end = std::min(limit, state_.space.sweep_cursor + kEntriesPerSweep);
  for (std::uint32_t index = state_.space.sweep_cursor; index < end; ++index) {
    auto const& entry = state_.index.at(index);
    if (!entry.expired(now)) continue;
    if (entry.state.load(std::memory_order_relaxed) == EntryState::kReady) {
      if (allocator_.remove(index, RemovalReason::kExpired)) count(state_.counters->expired_chunks);
    } else if (is_quarantined(entry)) {
      auto const shard = state_.index.lock(entry.key(), kLockTimeout);
      if (shard && is_quarantined(entry)) state_.free_entry(index);
    }
  }
  state_.space.sweep_cursor = end;
}

DramTier::NextExtent DramTier::extent_to_reserve() {
  // Clearing it takes 0.7 s, which an engine that has just started has: it loads its model.
  constexpr std::uint64_t kAheadBytes = 1u << 30;
  constexpr std::uint64_t kUrgentBytes = kAheadBytes / 4;
  auto const extents = [this](std::uint64_t bytes) {
    return std::max<std::uint64_t>(2, bytes / state_.header.extent_bytes);
  };
  std::uint32_t const usable = state_.header.usable_extents.load(std::memory_order_relaxed);
  std::uint32_t next = kNoExtent;
  std::uint64_t ahead = 0;
  auto const guard = state_.lock_space();
  if (!guard) return {};
  for (std::uint32_t extent = 0; extent < usable; ++extent) {
    auto const& record = state_.extents.at(extent);
    if (record.size_class != 0) continue;
    if (record.reserved != 0 && ++ahead >= extents(kAheadBytes)) return {};
    if (record.reserved == 0 && next == kNoExtent) next = extent;
  }
  if (next == kNoExtent) return {};
  return {.extent = next, .urgent = ahead < extents(kUrgentBytes)};
}

void DramTier::note_reservation(std::uint32_t extent, Result<void> const& reserved) {
  {
    auto const guard = state_.lock_space();
    if (!guard) return;
    auto& record = state_.extents.at(extent);
    auto& usable = state_.header.usable_extents;
    bool const in_use = extent < usable.load(std::memory_order_relaxed);
    if (reserved) {
      // Beyond the end of what there was room for, somebody may have released what we reserved.
      if (in_use) record.reserved = 1;
      return;
    }
    if (!in_use || record.reserved != 0) return;
    usable.store(extent, std::memory_order_relaxed);
    // The part that there was room for: nobody will use it.
    segment_->release_extent(extent);
  }
  lmcache::log(log_, LogLevel::kWarning,
               reserved.error().message() + "; the cache stays at " +
                   std::to_string(segment_->capacity_bytes() / 1'000'000) + " MB");
}

}  // namespace lmcache
