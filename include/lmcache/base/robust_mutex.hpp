// SPDX-License-Identifier: Apache-2.0
// A mutex that lives in shared memory and survives the death of its owner.
#pragma once

#include <pthread.h>

#include <chrono>
#include <cstdint>
#include <utility>

#include <lmcache/base/result.hpp>

namespace lmcache {

// What the new owner finds. After kOwnerDied it must repair what the lock guards and then call
// mark_consistent(); if it dies or unlocks before that, the next owner is told again.
enum class LockState : std::uint8_t { kConsistent, kOwnerDied };

// Process-shared, robust pthread mutex (POSIX.1-2008). Standard layout, no pointers of its own, so
// it may be mapped at different addresses. Thread-safe.
class RobustMutex {
 public:
  // Called once, by the creator of the segment, before anybody else maps it.
  [[nodiscard]] Result<void> init();

  // Blocks up to `timeout`; not at all when it is 0 or less. Errors: kTimeout.
  [[nodiscard]] Result<LockState> lock(std::chrono::milliseconds timeout);
  void mark_consistent() noexcept;
  void unlock() noexcept;

 private:
  pthread_mutex_t mutex_;
  std::uint32_t needs_repair_;  // guarded by mutex_
};

// Releases on destruction. Externally synchronised.
class [[nodiscard]] RobustGuard {
 public:
  explicit RobustGuard(RobustMutex& mutex) noexcept : mutex_{&mutex} {}
  RobustGuard(RobustGuard&& other) noexcept : mutex_{std::exchange(other.mutex_, nullptr)} {}
  RobustGuard& operator=(RobustGuard&&) = delete;
  ~RobustGuard() {
    if (mutex_ != nullptr) mutex_->unlock();
  }

 private:
  RobustMutex* mutex_;
};

}  // namespace lmcache
