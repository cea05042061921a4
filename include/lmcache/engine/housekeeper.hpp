// SPDX-License-Identifier: Apache-2.0
// One thread per engine for what need not be done while a request waits: uses applied to the
// recency lists, the dead reaped, the expired removed; and one that reserves memory ahead.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include <lmcache/engine/memory_reserver.hpp>

namespace lmcache {

class DramTier;

// Called on the housekeeper's thread.
struct HousekeeperHooks {
  // Whether this process copies: another needs no memory ahead, nor page tables. None: it does.
  std::function<bool()> copies{};
  std::function<void()> each_tick{};  // ten times a second
  // An extent is backed with memory, and in our page tables.
  std::function<void(std::uint32_t extent)> on_mapped{};
};

// Thread-safe. The tier must outlive it.
class Housekeeper {
 public:
  explicit Housekeeper(DramTier& tier, HousekeeperHooks hooks = {});
  ~Housekeeper();  // waits for the threads
  Housekeeper(Housekeeper&&) = delete;

  // False: the system had no thread to give.
  [[nodiscard]] bool started() const noexcept { return thread_.joinable() && memory_.started(); }
  // Something was stored: look now whether memory must be reserved.
  void wake() noexcept;

 private:
  void run();
  void look_after_memory();
  [[nodiscard]] std::optional<std::uint32_t> extent_to_map();

  DramTier& tier_;
  HousekeeperHooks hooks_;
  std::mutex mutex_;  // guards stop_
  std::condition_variable changed_;
  bool stop_{false};
  std::atomic<bool> woken_{false};
  // The next two are used by the thread alone.
  std::vector<bool> mapped_;         // extents in our page tables
  std::uint32_t first_unmapped_{0};  // all below it are
  MemoryReserver memory_;
  std::thread thread_;
};

}  // namespace lmcache
