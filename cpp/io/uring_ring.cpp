// SPDX-License-Identifier: Apache-2.0
#include "io/uring_ring.hpp"

#include <liburing.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iterator>
#include <thread>
#include <utility>

namespace lmcache::detail {
namespace {

constexpr char const* kDisabledSetting = "/proc/sys/kernel/io_uring_disabled";

std::string text_of(char const* path) {
  std::ifstream file{path};
  return {std::istreambuf_iterator<char>{file}, {}};
}

// Best first. DEFER_TASKRUN (6.1): completions are handled when the ring's thread asks, in one go,
// instead of by interrupting it. COOP_TASKRUN (5.19): without the interrupt between processors.
constexpr std::array<unsigned, 3> kSetupFlags{
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
    IORING_SETUP_COOP_TASKRUN,
    0,
};

// The operations used; the youngest came with 5.6.
constexpr std::array kOperations{IORING_OP_READ,        IORING_OP_WRITE, IORING_OP_READ_FIXED,
                                 IORING_OP_WRITE_FIXED, IORING_OP_FSYNC, IORING_OP_POLL_ADD};

constexpr std::uint32_t kFewestEntries = 16;

// 0 or an errno.
int set_up(std::uint32_t entries, io_uring& ring) {
  int error = 0;
  for (unsigned const flags : kSetupFlags) {
    error = -io_uring_queue_init(entries, &ring, flags | IORING_SETUP_CLAMP);
    if (error != EINVAL) break;  // EINVAL: a flag is not known
  }
  return error;
}

bool knows_operations(io_uring& ring) {
  struct Free {
    void operator()(io_uring_probe* probe) const noexcept { io_uring_free_probe(probe); }
  };
  std::unique_ptr<io_uring_probe, Free> const probe{io_uring_get_probe_ring(&ring)};
  if (!probe) return false;  // the probe itself came with 5.6
  for (int const operation : kOperations) {
    if (io_uring_opcode_supported(probe.get(), operation) == 0) return false;
  }
  return true;
}

}  // namespace

void UringRing::Closer::operator()(io_uring* ring) const noexcept {
  io_uring_queue_exit(ring);
  std::default_delete<io_uring>{}(ring);
}

Result<UringRing> UringRing::create(std::uint32_t entries) {
  auto made = std::make_unique<io_uring>();
  int error = set_up(entries, *made);
  // The ring's own memory counts against RLIMIT_MEMLOCK (64 KiB in many containers), and that of a
  // ring which was just closed still does.
  while (error == ENOMEM && entries > kFewestEntries) {
    entries /= 2;
    error = set_up(entries, *made);
  }
  if (error != 0) {
    return Error{ErrorCode::kUnavailable, uring_refusal_text(error, text_of(kDisabledSetting)),
                 error};
  }
  Handle ring{made.release()};
  if (!knows_operations(*ring)) {
    return Error{ErrorCode::kUnavailable,
                 "the io_uring of this kernel lacks plain reads and writes (it is older than 5.6)",
                 EINVAL};
  }
  return UringRing{std::move(ring)};
}

std::uint32_t UringRing::entries() const noexcept { return ring_->sq.ring_entries; }

void UringRing::enter(Wait wait) noexcept {
  int const result = wait == Wait::kForOne ? io_uring_submit_and_wait(ring_.get(), 1)
                                           : io_uring_submit_and_get_events(ring_.get());
  // EBUSY, EAGAIN, ENOMEM: the kernel is short of memory. What was prepared stays, and is handed
  // over next time; at once would be too early.
  if (result < 0 && result != -EINTR) std::this_thread::sleep_for(std::chrono::milliseconds{1});
}

std::string uring_refusal_text(int os_error, std::string const& disabled_setting) {
  std::string why = std::string{"io_uring_setup: "} + std::strerror(os_error);
  char const setting = disabled_setting.empty() ? '0' : disabled_setting.front();
  switch (os_error) {
    case EPERM:
      if (setting == '2') return why + " (switched off: kernel.io_uring_disabled = 2)";
      if (setting == '1') {
        return why +
               " (kernel.io_uring_disabled = 1: only with CAP_SYS_ADMIN or in the group of"
               " kernel.io_uring_group)";
      }
      return why + " (most likely forbidden by a seccomp filter, as in most containers)";
    case EACCES:
      return why + " (forbidden by a security module or a seccomp filter)";
    case ENOSYS:
      return why + " (the kernel has no io_uring, or a seccomp filter hides it)";
    case ENOMEM:
      return why + " (RLIMIT_MEMLOCK is too low for it)";
    case EMFILE:
    case ENFILE:
      return why + " (no descriptor is free)";
    default:
      return why;
  }
}

}  // namespace lmcache::detail
