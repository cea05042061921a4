// SPDX-License-Identifier: Apache-2.0
#include <lmcache/memory/process_identity.hpp>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <limits>
#include <string>
#include <thread>

#include "support/child_process.hpp"

namespace lmcache {
namespace {

using test::ChildProcess;
using test::Milestone;

std::optional<std::uint64_t> since(pid_t pid) {
  auto const result = running_since(pid);
  EXPECT_TRUE(result) << "pid " << pid;
  return result ? result.value() : std::nullopt;
}

std::uint64_t ticks_since_boot() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  auto const per_second = static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK));
  return static_cast<std::uint64_t>(now.tv_sec) * per_second +
         static_cast<std::uint64_t>(now.tv_nsec) * per_second / 1'000'000'000;
}

TEST(ProcessIdentity, OwnStartTimeIsSteadyAndInThePast) {
  auto const first = since(::getpid());
  ASSERT_TRUE(first.has_value());
  EXPECT_GT(*first, 0U);
  EXPECT_LE(*first, ticks_since_boot());
  EXPECT_EQ(since(::getpid()), first);
}

TEST(ProcessIdentity, AChildStartsNotBeforeItsParent) {
  std::uint64_t const before = ticks_since_boot();
  ChildProcess const child{[]() -> int { test::wait_to_be_killed(); }};
  auto const start = since(child.pid());
  ASSERT_TRUE(start.has_value());
  EXPECT_GE(*start + 1, before);
  EXPECT_LE(*start, ticks_since_boot());
}

TEST(ProcessIdentity, AZombieRunsNoMoreAndNorDoesOneWaitedFor) {
  ChildProcess child{[]() -> int { test::wait_to_be_killed(); }};
  pid_t const pid = child.pid();
  ASSERT_TRUE(since(pid).has_value());
  child.kill();
  EXPECT_FALSE(since(pid).has_value()) << "killed, not waited for";
  EXPECT_EQ(child.wait(), 256 + SIGKILL);
  EXPECT_FALSE(since(pid).has_value());
}

TEST(ProcessIdentity, NumbersThatAreNoProcess) {
  EXPECT_FALSE(since(0).has_value());
  EXPECT_FALSE(since(-1).has_value());
  EXPECT_FALSE(since(std::numeric_limits<std::int32_t>::max()).has_value());
  EXPECT_FALSE(since(std::numeric_limits<std::int32_t>::min()).has_value());
}

TEST(ProcessIdentity, ANameMayLookLikeTheFieldsBehindIt) {
  for (char const* name : {") Z 1 2 3", "a) X", "((", " ", ")", "Z (Z) Z"}) {
    Milestone named;
    ChildProcess child{[&]() -> int {
      ::prctl(PR_SET_NAME, name);
      named.reach();
      test::wait_to_be_killed();
    }};
    auto const start = since(child.pid());
    named.await();
    EXPECT_TRUE(start.has_value());
    EXPECT_EQ(since(child.pid()), start) << name;
    child.kill();
    EXPECT_FALSE(since(child.pid()).has_value()) << name;
  }
}

TEST(ProcessIdentity, AProcessWhoseMainThreadEndedStillRuns) {
  Milestone ended;
  ChildProcess child{[&]() -> int {
    auto const main_thread = ::getpid();
    std::thread{[&, main_thread] {
      // The kernel calls the main thread a zombie from now on.
      std::string const path = "/proc/self/task/" + std::to_string(main_thread) + "/stat";
      for (std::string text(512, '\0');;) {
        int const fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        auto const length = ::read(fd, text.data(), text.size());
        ::close(fd);
        if (length > 0 && text.find(") Z ") != std::string::npos) break;
        std::this_thread::yield();
      }
      ended.reach();
      test::wait_to_be_killed();
    }}.detach();
    ::syscall(SYS_exit, 0);  // of this thread alone
    return 1;
  }};
  ended.await();
  EXPECT_TRUE(since(child.pid()).has_value());
  child.kill();
  EXPECT_FALSE(since(child.pid()).has_value());
}

TEST(ProcessIdentity, NothingIsKnownWithoutDescriptors) {
  ChildProcess child{[] {
    rlimit none{};
    ::setrlimit(RLIMIT_NOFILE, &none);
    auto const result = running_since(::getpid());
    if (result) return 1;
    if (result.error().code() != ErrorCode::kUnavailable) return 2;
    return result.error().os_error() == EMFILE ? 0 : 3;
  }};
  EXPECT_EQ(child.wait(), 0);
}

TEST(ProcessIdentity, NamespaceIsSharedWithChildren) {
  std::uint64_t const own = own_pid_namespace();
  EXPECT_NE(own, 0U);
  ChildProcess child{[&] { return own_pid_namespace() == own ? 0 : 1; }};
  EXPECT_EQ(child.wait(), 0);
}

TEST(ProcessIdentity, AnotherNamespaceHasAnotherNumberOrNone) {
  constexpr int kCannot = 77;
  enum : int { kFine = 0, kSameAsOutside = 1, kKnownByForeignProc = 2, kNoMount = 3 };
  std::uint64_t const outside = own_pid_namespace();
  ChildProcess child{[&] {
    if (::unshare(CLONE_NEWPID | CLONE_NEWNS) != 0) return kCannot;
    ChildProcess inside{[&]() -> int {
      // /proc still counts the processes outside: it says nothing about our numbers.
      if (own_pid_namespace() != 0) return kKnownByForeignProc;
      if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
          ::mount("proc", "/proc", "proc", 0, nullptr) != 0) {
        return kNoMount;
      }
      auto const own = own_pid_namespace();
      return own != 0 && own != outside ? kFine : kSameAsOutside;
    }};
    return inside.wait();
  }};
  int const status = child.wait();
  if (status == kCannot) GTEST_SKIP() << "no right to make a pid namespace";
  if (status == kNoMount) GTEST_SKIP() << "no right to mount /proc";
  EXPECT_EQ(status, kFine);
}

}  // namespace
}  // namespace lmcache
