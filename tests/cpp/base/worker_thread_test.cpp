// SPDX-License-Identifier: Apache-2.0
#include <lmcache/base/worker_thread.hpp>

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <functional>
#include <string>

namespace lmcache {
namespace {

void run_in_worker_thread(WorkerThreadTraits traits, std::function<void()> body) {
  auto thread = start_worker_thread(std::move(traits), std::move(body));
  ASSERT_TRUE(thread) << thread.error().message();
  thread.value().join();
}

int nice_now() { return ::getpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid))); }

TEST(WorkerThread, HasItsNameAndBlocksEverySignal) {
  run_in_worker_thread({.name = "lmc-a-name-too-long-for-it", .nice = 0}, [] {
    char name[32] = {};
    ::pthread_getname_np(::pthread_self(), name, sizeof(name));
    EXPECT_STREQ(name, "lmc-a-name-too-");
    sigset_t mask;
    ::pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    for (int const signal : {SIGINT, SIGTERM, SIGHUP, SIGCHLD, SIGUSR1}) {
      EXPECT_EQ(::sigismember(&mask, signal), 1) << signal;
    }
  });
  sigset_t mask;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  EXPECT_EQ(::sigismember(&mask, SIGINT), 0);  // the maker's own mask is as before
}

TEST(WorkerThread, LeavesTheCoreItsMakerIsPinnedTo) {
  cpu_set_t before;
  ASSERT_EQ(::sched_getaffinity(0, sizeof(before), &before), 0);
  if (CPU_COUNT(&before) < 2) GTEST_SKIP() << "one processor only";
  int first = 0;
  while (!CPU_ISSET(first, &before)) ++first;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  ASSERT_EQ(::sched_setaffinity(0, sizeof(one), &one), 0);
  int cpus = 0;
  run_in_worker_thread({.name = "lmc-test", .nice = 0}, [&cpus] {
    cpu_set_t now;
    ::sched_getaffinity(0, sizeof(now), &now);
    cpus = CPU_COUNT(&now);
  });
  ::sched_setaffinity(0, sizeof(before), &before);
  EXPECT_GE(cpus, CPU_COUNT(&before));
}

TEST(WorkerThread, IsNiceAloneAndNoMoreThanThereIs) {
  int const mine = nice_now();
  run_in_worker_thread({.name = "lmc-test", .nice = 0}, [mine] { EXPECT_EQ(nice_now(), mine); });
  run_in_worker_thread({.name = "lmc-test", .nice = 5},
                       [mine] { EXPECT_EQ(nice_now(), std::min(mine + 5, 19)); });
  run_in_worker_thread({.name = "lmc-test", .nice = 19}, [] { EXPECT_EQ(nice_now(), 19); });
  EXPECT_EQ(nice_now(), mine);
}

}  // namespace
}  // namespace lmcache
