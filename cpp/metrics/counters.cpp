// SPDX-License-Identifier: Apache-2.0
#include <lmcache/metrics/counters.hpp>

#include <bit>
#include <numeric>

namespace lmcache {
namespace {

constexpr std::array<std::string_view, kDropReasons> kDropNames{
    "no_space",     "too_large", "duplicate",  "lane_undeclared",
    "lock_timeout", "cancelled", "copy_failed"};
constexpr std::array<std::string_view, kLoadFailures> kFailureNames{"gone", "cancelled", "timeout",
                                                                    "copy_failed"};

// Both sides are the same list of members (CounterFields), so one walk over the cells serves for
// all.
template <class Into, class From, class Step>
void for_each_cell(CounterFields<Into>& into, CounterFields<From> const& from, Step step) {
  step(into.lookups, from.lookups);
  step(into.lookup_tokens, from.lookup_tokens);
  step(into.hit_tokens, from.hit_tokens);
  step(into.lookup_ns, from.lookup_ns);
  step(into.stored_chunks, from.stored_chunks);
  step(into.stored_bytes, from.stored_bytes);
  step(into.stored_tokens, from.stored_tokens);
  step(into.store_ns, from.store_ns);
  step(into.loaded_chunks, from.loaded_chunks);
  step(into.loaded_bytes, from.loaded_bytes);
  step(into.loaded_tokens, from.loaded_tokens);
  step(into.load_ns, from.load_ns);
  step(into.evicted_chunks, from.evicted_chunks);
  step(into.evicted_bytes, from.evicted_bytes);
  step(into.expired_chunks, from.expired_chunks);
  step(into.reaped_processes, from.reaped_processes);
  step(into.reclaimed_slots, from.reclaimed_slots);
  step(into.reclaimed_leases, from.reclaimed_leases);
  step(into.repaired_locks, from.repaired_locks);
  step(into.device_stored_chunks, from.device_stored_chunks);
  step(into.device_stored_bytes, from.device_stored_bytes);
  step(into.device_loaded_chunks, from.device_loaded_chunks);
  step(into.device_loaded_bytes, from.device_loaded_bytes);
  step(into.device_loaded_tokens, from.device_loaded_tokens);
  step(into.device_evicted_chunks, from.device_evicted_chunks);
  step(into.prefill_tokens, from.prefill_tokens);
  step(into.prefill_ns, from.prefill_ns);
  step(into.requests, from.requests);
  step(into.request_tokens, from.request_tokens);
  step(into.request_hit_tokens, from.request_hit_tokens);
  step(into.request_load_ns, from.request_load_ns);
  step(into.disk_written_chunks, from.disk_written_chunks);
  step(into.disk_written_bytes, from.disk_written_bytes);
  step(into.disk_write_ns, from.disk_write_ns);
  step(into.disk_dropped_writes, from.disk_dropped_writes);
  step(into.disk_write_errors, from.disk_write_errors);
  step(into.disk_read_chunks, from.disk_read_chunks);
  step(into.disk_read_bytes, from.disk_read_bytes);
  step(into.disk_read_ns, from.disk_read_ns);
  step(into.disk_read_errors, from.disk_read_errors);
  step(into.disk_corrupt_chunks, from.disk_corrupt_chunks);
  step(into.disk_evicted_chunks, from.disk_evicted_chunks);
  step(into.disk_hit_tokens, from.disk_hit_tokens);
  step(into.remote_lookups, from.remote_lookups);
  step(into.remote_lookup_chunks, from.remote_lookup_chunks);
  step(into.remote_found_chunks, from.remote_found_chunks);
  step(into.remote_written_chunks, from.remote_written_chunks);
  step(into.remote_written_bytes, from.remote_written_bytes);
  step(into.remote_write_ns, from.remote_write_ns);
  step(into.remote_known_chunks, from.remote_known_chunks);
  step(into.remote_dropped_writes, from.remote_dropped_writes);
  step(into.remote_write_errors, from.remote_write_errors);
  step(into.remote_read_chunks, from.remote_read_chunks);
  step(into.remote_read_bytes, from.remote_read_bytes);
  step(into.remote_read_ns, from.remote_read_ns);
  step(into.remote_read_errors, from.remote_read_errors);
  step(into.remote_corrupt_chunks, from.remote_corrupt_chunks);
  step(into.remote_hit_tokens, from.remote_hit_tokens);
  step(into.loads_declined, from.loads_declined);
  step(into.loads_abandoned, from.loads_abandoned);
  for (std::size_t i = 0; i < kDropReasons; ++i)
    step(into.dropped_stores[i], from.dropped_stores[i]);
  for (std::size_t i = 0; i < kLoadFailures; ++i)
    step(into.load_failures[i], from.load_failures[i]);
}

}  // namespace

std::string_view name(DropReason reason) noexcept {
  auto const i = static_cast<std::size_t>(reason);
  return i < kDropNames.size() ? kDropNames[i] : "unknown";
}

std::string_view name(LoadFailure failure) noexcept {
  auto const i = static_cast<std::size_t>(failure);
  return i < kFailureNames.size() ? kFailureNames[i] : "unknown";
}

CountersSnapshot& CountersSnapshot::operator+=(CountersSnapshot const& other) noexcept {
  for_each_cell(*this, other, [](std::uint64_t& into, std::uint64_t from) { into += from; });
  return *this;
}

std::uint64_t CountersSnapshot::lost_stores() const noexcept {
  std::uint64_t lost = 0;
  for (std::size_t i = 0; i < kDropReasons; ++i) {
    if (static_cast<DropReason>(i) != DropReason::kDuplicate) lost += dropped_stores[i];
  }
  return lost;
}

std::uint64_t CountersSnapshot::total() const noexcept {
  using Cells = std::array<std::uint64_t, sizeof(CountersSnapshot) / sizeof(std::uint64_t)>;
  auto const cells = std::bit_cast<Cells>(*this);
  return std::accumulate(cells.begin(), cells.end(), std::uint64_t{0});
}

void Counters::add(CountersSnapshot const& other) noexcept {
  for_each_cell(*this, other,
                [](std::atomic<std::uint64_t>& into, std::uint64_t from) { count(into, from); });
}

CountersSnapshot Counters::snapshot() const noexcept {
  CountersSnapshot copy;
  for_each_cell(copy, *this, [](std::uint64_t& into, std::atomic<std::uint64_t> const& from) {
    into = from.load(std::memory_order_relaxed);
  });
  return copy;
}

}  // namespace lmcache
