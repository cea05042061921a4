// SPDX-License-Identifier: Apache-2.0
#include "io/uring_inbox.hpp"

#include <sys/eventfd.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace lmcache::detail {

Result<void> UringInbox::open() {
  wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_) {
    int const error = errno;
    return Error{ErrorCode::kOutOfMemory, std::string{"eventfd: "} + std::strerror(error), error};
  }
  return {};
}

// Under the lock, though a system call: a letter must not be read, answered, and the answer taken
// for leave to destroy us before the wake-up is through. It does not block.
void UringInbox::wake() noexcept {
  if (woken_) return;
  woken_ = true;
  (void)::eventfd_write(wake_.get(), 1);  // cannot overflow: one per take()
}

void UringInbox::heard() noexcept {
  eventfd_t count = 0;
  (void)::eventfd_read(wake_.get(), &count);
}

UringInbox::Letters UringInbox::take() {
  std::lock_guard const lock{mutex_};
  woken_ = false;
  Letters taken = std::exchange(letters_, {});
  letters_.close = taken.close;  // closed is closed
  return taken;
}

}  // namespace lmcache::detail
