// SPDX-License-Identifier: Apache-2.0
// One thread per engine for what need not be done while a request waits: memory reserved ahead,
// uses applied to the recency lists, the dead reaped, the expired removed.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

namespace lmcache {

class DramTier;

// Thread-safe. The tier must outlive it.
class Housekeeper {
 public:
  explicit Housekeeper(DramTier& tier);
  ~Housekeeper();  // waits for the thread
  Housekeeper(Housekeeper&&) = delete;

  // Something was stored: look now whether memory must be reserved.
  void wake() noexcept;

 private:
  void run();
  [[nodiscard]] bool populate_one();

  DramTier& tier_;
  std::mutex mutex_;  // guards stop_ and woken_
  std::condition_variable changed_;
  bool stop_{false};
  bool woken_{false};
  std::uint32_t populated_{0};  // extents that were reserved before we came and are mapped by now
  std::thread thread_;
};

}  // namespace lmcache
