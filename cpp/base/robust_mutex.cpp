// SPDX-License-Identifier: Apache-2.0
#include <lmcache/base/robust_mutex.hpp>

#include <algorithm>
#include <cerrno>
#include <ctime>

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace lmcache {
namespace {

// ThreadSanitizer of GCC 12 knows every call on a mutex but this one.
int lock_until(pthread_mutex_t* mutex, timespec const& deadline) {
#if defined(__SANITIZE_THREAD__)
  __tsan_mutex_pre_lock(mutex, __tsan_mutex_try_lock);
  int const status = pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &deadline);
  bool const locked = status == 0 || status == EOWNERDEAD;
  __tsan_mutex_post_lock(mutex, __tsan_mutex_try_lock | (locked ? 0 : __tsan_mutex_try_lock_failed),
                         0);
  return status;
#else
  return pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &deadline);
#endif
}

}  // namespace

Result<void> RobustMutex::init() {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  int const status = pthread_mutex_init(&mutex_, &attributes);
  pthread_mutexattr_destroy(&attributes);
  if (status != 0) return Error{ErrorCode::kInternal, "pthread_mutex_init failed", status};
  needs_repair_ = 0;
  return {};
}

Result<LockState> RobustMutex::lock(std::chrono::milliseconds timeout) {
  int status = pthread_mutex_trylock(&mutex_);
  if (status == EBUSY) {
    timespec deadline{};
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    auto const milliseconds = std::max<std::int64_t>(0, timeout.count());
    auto const nanoseconds = deadline.tv_nsec + (milliseconds % 1000) * 1'000'000;
    deadline.tv_sec += milliseconds / 1000 + nanoseconds / 1'000'000'000;
    deadline.tv_nsec = nanoseconds % 1'000'000'000;
    status = lock_until(&mutex_, deadline);
  }
  switch (status) {
    case 0:
      return needs_repair_ == 0 ? LockState::kConsistent : LockState::kOwnerDied;
    case EOWNERDEAD:
      // An unlock before pthread_mutex_consistent() would leave a mutex that nobody can ever lock
      // again, so what is inconsistent is remembered here instead. If we die between the two lines,
      // EOWNERDEAD comes again.
      needs_repair_ = 1;
      pthread_mutex_consistent(&mutex_);
      return LockState::kOwnerDied;
    case ETIMEDOUT:
      return Error{ErrorCode::kTimeout, "a shared lock was not free in time", status};
    default:
      return Error{ErrorCode::kInternal, "a shared lock cannot be taken", status};
  }
}

void RobustMutex::mark_consistent() noexcept { needs_repair_ = 0; }

void RobustMutex::unlock() noexcept { pthread_mutex_unlock(&mutex_); }

}  // namespace lmcache
