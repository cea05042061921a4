// SPDX-License-Identifier: Apache-2.0
// Other processes for tests of what several processes share: forked, killed and waited for, without
// sleeping.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include <lmcache/base/unique_fd.hpp>

namespace lmcache::test {

// A fork of the test that runs `body` (returning its exit status) and nothing else. EXPECT in it is
// not seen by the parent: return a status instead. Killed with its parent, and at the latest on
// destruction.
class ChildProcess {
 public:
  template <class Body>
  explicit ChildProcess(Body&& body) {
    pid_t const parent = ::getpid();
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    // 0: the parent is outside of our pid namespace.
    if (::getppid() != parent && ::getppid() != 0) ::_exit(127);
    ::_exit(body());
  }
  ChildProcess(ChildProcess&& other) noexcept : pid_{std::exchange(other.pid_, -1)} {}
  ChildProcess& operator=(ChildProcess&&) = delete;
  ~ChildProcess() {
    if (pid_ <= 0) return;
    kill();
    (void)wait();
  }

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }

  // Returns when the process runs no more. It stays a zombie until wait().
  void kill() noexcept {
    ::kill(pid_, SIGKILL);
    siginfo_t info{};
    while (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT) != 0 &&
           errno == EINTR) {
    }
  }

  // Exit status, or 256 + the signal that ended it.
  [[nodiscard]] int wait() noexcept {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
  }

 private:
  pid_t pid_;
};

// Killed processes wait here for it.
[[noreturn]] inline void wait_to_be_killed() {
  for (;;) ::pause();
}

// A point that one process reaches and others wait for: a pipe. Make it before the fork.
class Milestone {
 public:
  Milestone() {
    int ends[2] = {-1, -1};
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    read_end_ = UniqueFd{ends[0]};
    write_end_ = UniqueFd{ends[1]};
  }
  void reach(int waiters = 1) noexcept {
    for (int i = 0; i < waiters; ++i) (void)!::write(write_end_.get(), "x", 1);
  }
  // Fails the test after a minute, when whoever should have come here is gone.
  void await() noexcept {
    constexpr int kMinute = 60'000;
    pollfd ready{.fd = read_end_.get(), .events = POLLIN, .revents = 0};
    int count = 0;
    while ((count = ::poll(&ready, 1, kMinute)) < 0 && errno == EINTR) {
    }
    char byte = 0;
    EXPECT_TRUE(count == 1 && ::read(read_end_.get(), &byte, 1) == 1) << "milestone never reached";
  }

 private:
  UniqueFd read_end_;
  UniqueFd write_end_;
};

}  // namespace lmcache::test
