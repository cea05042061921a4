// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/housekeeper.hpp>

#include <chrono>
#include <utility>

#include <lmcache/base/worker_thread.hpp>
#include <lmcache/tier/dram/dram_tier.hpp>

namespace lmcache {
namespace {

constexpr std::chrono::milliseconds kTick{100};
constexpr std::chrono::milliseconds kReapEvery{500};  // the dead are found within half a second

}  // namespace

Housekeeper::Housekeeper(DramTier& tier, HousekeeperHooks hooks)
    : tier_{tier},
      hooks_{std::move(hooks)},
      mapped_(tier.state().extents.count()),
      memory_{tier.segment(), [this] { wake(); }} {
  // Not nice: it holds locks that stores and lookups wait for, and has little to do.
  auto thread = start_worker_thread({.name = "lmc-keeper"}, [this] { run(); });
  if (thread) thread_ = std::move(thread).value();
}

Housekeeper::~Housekeeper() {
  {
    std::lock_guard const lock{mutex_};
    stop_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

// Without the mutex, so that nobody who stores waits for a thread of lower priority. One that comes
// just before the keeper sleeps is noticed a tick later.
void Housekeeper::wake() noexcept {
  woken_.store(true, std::memory_order_relaxed);
  changed_.notify_one();
}

void Housekeeper::look_after_memory() {
  if (auto const outcome = memory_.take_outcome()) {
    tier_.note_reservation(outcome->extent, outcome->reserved);
    mapped_[outcome->extent] = true;
    if (outcome->reserved && hooks_.on_mapped) hooks_.on_mapped(outcome->extent);
  }
  if (hooks_.copies && !hooks_.copies()) return;
  auto const next = tier_.extent_to_reserve();
  memory_.hurry(next.urgent);
  if (!memory_.ready()) return;
  auto const extent = next.extent ? next.extent : extent_to_map();
  if (extent) memory_.start(*extent);
}

// What others reserved: our page tables know nothing of it.
std::optional<std::uint32_t> Housekeeper::extent_to_map() {
  while (first_unmapped_ < mapped_.size() && mapped_[first_unmapped_]) ++first_unmapped_;
  if (first_unmapped_ == mapped_.size()) return std::nullopt;
  auto const guard = tier_.state().lock_space();
  if (!guard) return std::nullopt;
  for (std::uint32_t extent = first_unmapped_; extent < mapped_.size(); ++extent) {
    if (!mapped_[extent] && tier_.state().extents.at(extent).reserved != 0) return extent;
  }
  return std::nullopt;
}

void Housekeeper::run() {
  auto reap_at = std::chrono::steady_clock::now() + kReapEvery;
  for (;;) {
    look_after_memory();
    tier_.flush_touches();
    tier_.settle_debts();
    if (hooks_.each_tick) hooks_.each_tick();
    if (auto const now = std::chrono::steady_clock::now(); now >= reap_at) {
      reap_at = now + kReapEvery;
      tier_.reap();
      tier_.sweep_expired();
    }
    std::unique_lock lock{mutex_};
    changed_.wait_for(lock, kTick, [this] { return stop_ || woken_.load(); });
    if (stop_) return;
    woken_.store(false, std::memory_order_relaxed);
  }
}

}  // namespace lmcache
