// SPDX-License-Identifier: Apache-2.0
// What one process counted, in memory that any process of the node may read: plain atomics at fixed
// offsets, no pointers, valid when zeroed. Every count only grows.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

namespace lmcache {

// Why a chunk was not stored.
enum class DropReason : std::uint8_t {
  kNoSpace,         // nothing could be evicted to make room
  kTooLarge,        // larger than the segment can ever hold
  kDuplicate,       // already there or being written: counted, but nothing was lost
  kLaneUndeclared,  // the rank that owns the lane has not said how large its blocks are
  kLockTimeout,     // a shard stayed locked beyond the deadline
  kCancelled,       // the request went away before its copy began
  kCopyFailed,      // the device reported an error
  kCount,
};

// Why a chunk that a lookup had promised was not loaded.
enum class LoadFailure : std::uint8_t {
  kGone,  // evicted, cleared or expired in between
  kCancelled,
  kTimeout,
  kCopyFailed,
  kCount,
};

inline constexpr std::size_t kDropReasons = static_cast<std::size_t>(DropReason::kCount);
inline constexpr std::size_t kLoadFailures = static_cast<std::size_t>(LoadFailure::kCount);

// snake_case, as it appears in statistics ("no_space"); "unknown" outside the enumeration.
[[nodiscard]] std::string_view name(DropReason reason) noexcept;
[[nodiscard]] std::string_view name(LoadFailure failure) noexcept;

// One list of members for the live counters and for their copy. Times are nanoseconds.
template <class Cell>
struct CounterFields {
  Cell lookups{};
  Cell lookup_tokens{};
  Cell hit_tokens{};
  Cell lookup_ns{};
  Cell stored_chunks{};
  Cell stored_bytes{};
  Cell stored_tokens{};
  Cell store_ns{};
  Cell loaded_chunks{};
  Cell loaded_bytes{};
  Cell loaded_tokens{};
  Cell load_ns{};
  Cell evicted_chunks{};
  Cell evicted_bytes{};
  Cell expired_chunks{};
  Cell reaped_processes{};
  Cell reclaimed_slots{};
  Cell reclaimed_leases{};
  Cell repaired_locks{};
  // The pool in GPU memory, as far as this process has one. What is loaded from there is counted
  // among the loaded, too.
  Cell device_stored_chunks{};
  Cell device_stored_bytes{};
  Cell device_loaded_chunks{};
  Cell device_loaded_bytes{};
  Cell device_loaded_tokens{};
  Cell device_evicted_chunks{};
  // What the serving engine measured, reported by whoever sits beside it.
  Cell prefill_tokens{};      // computed in steps that were timed
  Cell prefill_ns{};          // what these steps took
  Cell requests{};            // answered with the cache beside them
  Cell request_tokens{};      // of their prompts
  Cell request_hit_tokens{};  // of these, loaded instead of computed
  Cell request_load_ns{};     // what they waited for the loads
  // The disk tier, as far as this process uses it.
  Cell disk_written_chunks{};
  Cell disk_written_bytes{};
  Cell disk_write_ns{};        // from handing over to durable as configured, summed
  Cell disk_dropped_writes{};  // chunks beyond write_behind_bytes, or without room on disk
  Cell disk_write_errors{};
  Cell disk_read_chunks{};
  Cell disk_read_bytes{};
  Cell disk_read_ns{};  // while at least one read was under way
  Cell disk_read_errors{};
  Cell disk_corrupt_chunks{};  // read, and not what was written
  Cell disk_evicted_chunks{};
  Cell disk_hit_tokens{};  // brought from disk for a prompt
  // The remote tier, likewise.
  Cell remote_lookups{};  // questions to the server, each for all of a prompt
  Cell remote_lookup_chunks{};
  Cell remote_found_chunks{};
  Cell remote_written_chunks{};
  Cell remote_written_bytes{};
  Cell remote_write_ns{};        // from handing over to answered, summed
  Cell remote_known_chunks{};    // somebody else had written them
  Cell remote_dropped_writes{};  // beyond the budget, or while the server is left alone
  Cell remote_write_errors{};
  Cell remote_read_chunks{};
  Cell remote_read_bytes{};
  Cell remote_read_ns{};  // while at least one read was under way
  Cell remote_read_errors{};
  Cell remote_corrupt_chunks{};  // read, and not what was asked for
  Cell remote_hit_tokens{};      // brought from the remote for a prompt
  // The rule that weighs loading against computing.
  Cell loads_declined{};   // prompts whose chunks below were not worth fetching
  Cell loads_abandoned{};  // prompts that stopped waiting for theirs
  std::array<Cell, kDropReasons> dropped_stores{};
  std::array<Cell, kLoadFailures> load_failures{};

  [[nodiscard]] Cell& dropped(DropReason reason) noexcept {
    return dropped_stores[static_cast<std::size_t>(reason)];
  }
  [[nodiscard]] Cell& failed(LoadFailure failure) noexcept {
    return load_failures[static_cast<std::size_t>(failure)];
  }
};

struct CountersSnapshot : CounterFields<std::uint64_t> {
  CountersSnapshot& operator+=(CountersSnapshot const& other) noexcept;

  // Chunks that were lost: all drops but the duplicates.
  [[nodiscard]] std::uint64_t lost_stores() const noexcept;
  // All counts added up, which says one thing only: whether any of them grew in between.
  [[nodiscard]] std::uint64_t total() const noexcept;

  // visit(std::string_view name, std::uint64_t value) for every count, in a fixed order; members of
  // the two arrays are named "dropped_stores_no_space", "load_failures_gone". The name is valid
  // only during the call.
  template <class Visit>
  void for_each(Visit&& visit) const;
};

// Aligned so that two processes' counters never share a cache line. Thread-safe, across processes.
struct alignas(64) Counters : CounterFields<std::atomic<std::uint64_t>> {
  // Counts are independent of each other: relaxed reads and writes, the snapshot is not one
  // instant.
  [[nodiscard]] CountersSnapshot snapshot() const noexcept;
  // Adds what another set of counters stood at, e.g. that of a process that left.
  void add(CountersSnapshot const& other) noexcept;
};

// The only way to count: relaxed, because no other memory is read on the strength of a count.
inline void count(std::atomic<std::uint64_t>& counter, std::uint64_t by = 1) noexcept {
  counter.fetch_add(by, std::memory_order_relaxed);
}

static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(std::is_standard_layout_v<Counters>);
static_assert(std::is_trivially_destructible_v<Counters>);
static_assert(sizeof(CountersSnapshot) ==
              (60 + kDropReasons + kLoadFailures) * sizeof(std::uint64_t));

template <class Visit>
void CountersSnapshot::for_each(Visit&& visit) const {
  visit(std::string_view{"lookups"}, lookups);
  visit(std::string_view{"lookup_tokens"}, lookup_tokens);
  visit(std::string_view{"hit_tokens"}, hit_tokens);
  visit(std::string_view{"lookup_ns"}, lookup_ns);
  visit(std::string_view{"stored_chunks"}, stored_chunks);
  visit(std::string_view{"stored_bytes"}, stored_bytes);
  visit(std::string_view{"stored_tokens"}, stored_tokens);
  visit(std::string_view{"store_ns"}, store_ns);
  visit(std::string_view{"loaded_chunks"}, loaded_chunks);
  visit(std::string_view{"loaded_bytes"}, loaded_bytes);
  visit(std::string_view{"loaded_tokens"}, loaded_tokens);
  visit(std::string_view{"load_ns"}, load_ns);
  visit(std::string_view{"evicted_chunks"}, evicted_chunks);
  visit(std::string_view{"evicted_bytes"}, evicted_bytes);
  visit(std::string_view{"expired_chunks"}, expired_chunks);
  visit(std::string_view{"reaped_processes"}, reaped_processes);
  visit(std::string_view{"reclaimed_slots"}, reclaimed_slots);
  visit(std::string_view{"reclaimed_leases"}, reclaimed_leases);
  visit(std::string_view{"repaired_locks"}, repaired_locks);
  visit(std::string_view{"device_stored_chunks"}, device_stored_chunks);
  visit(std::string_view{"device_stored_bytes"}, device_stored_bytes);
  visit(std::string_view{"device_loaded_chunks"}, device_loaded_chunks);
  visit(std::string_view{"device_loaded_bytes"}, device_loaded_bytes);
  visit(std::string_view{"device_loaded_tokens"}, device_loaded_tokens);
  visit(std::string_view{"device_evicted_chunks"}, device_evicted_chunks);
  visit(std::string_view{"prefill_tokens"}, prefill_tokens);
  visit(std::string_view{"prefill_ns"}, prefill_ns);
  visit(std::string_view{"requests"}, requests);
  visit(std::string_view{"request_tokens"}, request_tokens);
  visit(std::string_view{"request_hit_tokens"}, request_hit_tokens);
  visit(std::string_view{"request_load_ns"}, request_load_ns);
  visit(std::string_view{"disk_written_chunks"}, disk_written_chunks);
  visit(std::string_view{"disk_written_bytes"}, disk_written_bytes);
  visit(std::string_view{"disk_write_ns"}, disk_write_ns);
  visit(std::string_view{"disk_dropped_writes"}, disk_dropped_writes);
  visit(std::string_view{"disk_write_errors"}, disk_write_errors);
  visit(std::string_view{"disk_read_chunks"}, disk_read_chunks);
  visit(std::string_view{"disk_read_bytes"}, disk_read_bytes);
  visit(std::string_view{"disk_read_ns"}, disk_read_ns);
  visit(std::string_view{"disk_read_errors"}, disk_read_errors);
  visit(std::string_view{"disk_corrupt_chunks"}, disk_corrupt_chunks);
  visit(std::string_view{"disk_evicted_chunks"}, disk_evicted_chunks);
  visit(std::string_view{"disk_hit_tokens"}, disk_hit_tokens);
  visit(std::string_view{"remote_lookups"}, remote_lookups);
  visit(std::string_view{"remote_lookup_chunks"}, remote_lookup_chunks);
  visit(std::string_view{"remote_found_chunks"}, remote_found_chunks);
  visit(std::string_view{"remote_written_chunks"}, remote_written_chunks);
  visit(std::string_view{"remote_written_bytes"}, remote_written_bytes);
  visit(std::string_view{"remote_write_ns"}, remote_write_ns);
  visit(std::string_view{"remote_known_chunks"}, remote_known_chunks);
  visit(std::string_view{"remote_dropped_writes"}, remote_dropped_writes);
  visit(std::string_view{"remote_write_errors"}, remote_write_errors);
  visit(std::string_view{"remote_read_chunks"}, remote_read_chunks);
  visit(std::string_view{"remote_read_bytes"}, remote_read_bytes);
  visit(std::string_view{"remote_read_ns"}, remote_read_ns);
  visit(std::string_view{"remote_read_errors"}, remote_read_errors);
  visit(std::string_view{"remote_corrupt_chunks"}, remote_corrupt_chunks);
  visit(std::string_view{"remote_hit_tokens"}, remote_hit_tokens);
  visit(std::string_view{"loads_declined"}, loads_declined);
  visit(std::string_view{"loads_abandoned"}, loads_abandoned);
  for (std::size_t i = 0; i < kDropReasons; ++i) {
    visit(std::string_view{"dropped_stores_" + std::string{name(static_cast<DropReason>(i))}},
          dropped_stores[i]);
  }
  for (std::size_t i = 0; i < kLoadFailures; ++i) {
    visit(std::string_view{"load_failures_" + std::string{name(static_cast<LoadFailure>(i))}},
          load_failures[i]);
  }
}

}  // namespace lmcache
