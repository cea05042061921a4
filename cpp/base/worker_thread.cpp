// SPDX-License-Identifier: Apache-2.0
#include <lmcache/base/worker_thread.hpp>

#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstddef>
#include <system_error>
#include <utility>
#include <vector>

namespace lmcache {
namespace {

// A new thread inherits the mask of its maker, and engines pin theirs to one core. Asking for every
// core there can be leaves those of the cpuset: the kernel intersects. A failure leaves the mask as
// it was.
void leave_pinned_core() {
  constexpr std::size_t kMostCpus = 8192;  // the kernel's own limit (CONFIG_NR_CPUS)
  std::vector<std::byte> mask(CPU_ALLOC_SIZE(kMostCpus), std::byte{0xff});
  ::sched_setaffinity(0, mask.size(), reinterpret_cast<cpu_set_t const*>(mask.data()));
}

// Linux keeps the nice value per thread. Raising it needs no privilege, so it does not fail.
void be_nice(int more) {
  auto const tid = static_cast<id_t>(::syscall(SYS_gettid));
  int const now = ::getpriority(PRIO_PROCESS, tid);
  ::setpriority(PRIO_PROCESS, tid, std::min(now + more, 19));
}

// Blocks every signal while it lives, so that a thread made meanwhile starts with all of them
// blocked.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(SignalsBlocked const&) = delete;
  SignalsBlocked& operator=(SignalsBlocked const&) = delete;

 private:
  sigset_t before_;
};

}  // namespace

Result<std::thread> start_worker_thread(WorkerThreadTraits traits, std::function<void()> body) {
  SignalsBlocked const blocked;
  try {
    return std::thread{[traits = std::move(traits), body = std::move(body)] {
      ::pthread_setname_np(::pthread_self(), traits.name.substr(0, 15).c_str());
      leave_pinned_core();
      if (traits.nice != 0) be_nice(traits.nice);
      body();
    }};
  } catch (std::system_error const& failure) {  // the one way std::thread tells it
    return Error{ErrorCode::kUnavailable, "cannot start a thread", failure.code().value()};
  }
}

}  // namespace lmcache
