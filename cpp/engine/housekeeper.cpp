// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/housekeeper.hpp>

#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <csignal>

#include <lmcache/tier/dram/dram_tier.hpp>

namespace lmcache {
namespace {

constexpr std::chrono::milliseconds kTick{100};
constexpr std::chrono::milliseconds kReapEvery{500};  // the dead are found within half a second
constexpr int kNice = 10;

void enter_background() noexcept {
  // The engine pins its main thread, and threads inherit the mask; we must not compete for that
  // CPU.
  cpu_set_t all;
  CPU_ZERO(&all);
  for (std::size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) CPU_SET(cpu, &all);
  ::pthread_setaffinity_np(::pthread_self(), sizeof all, &all);
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), kNice);
  ::pthread_setname_np(::pthread_self(), "lmc-keeper");
}

}  // namespace

Housekeeper::Housekeeper(DramTier& tier) : tier_{tier} {
  // Signals are the application's: our thread is started with all of them blocked.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread{[this] { run(); }};
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Housekeeper::~Housekeeper() {
  {
    std::lock_guard const lock{mutex_};
    stop_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void Housekeeper::wake() noexcept {
  {
    std::lock_guard const lock{mutex_};
    woken_ = true;
  }
  changed_.notify_one();
}

bool Housekeeper::populate_one() {
  auto const& extents = tier_.state().extents;
  for (; populated_ < extents.count(); ++populated_) {
    bool reserved = false;
    if (auto const guard = tier_.state().lock_space())
      reserved = extents.at(populated_).reserved != 0;
    if (!reserved) continue;
    tier_.segment().populate_extent(populated_++);
    return true;
  }
  return false;
}

void Housekeeper::run() {
  enter_background();
  auto reap_at = std::chrono::steady_clock::now() + kReapEvery;
  bool busy = true;
  for (;;) {
    {
      std::unique_lock lock{mutex_};
      if (!busy) changed_.wait_for(lock, kTick, [this] { return stop_ || woken_; });
      if (stop_) return;
      woken_ = false;
    }
    busy = tier_.reserve_ahead() || populate_one();
    tier_.flush_touches();
    tier_.settle_debts();
    if (auto const now = std::chrono::steady_clock::now(); now >= reap_at) {
      reap_at = now + kReapEvery;
      tier_.reap();
      tier_.sweep_expired();
    }
  }
}

}  // namespace lmcache
