// SPDX-License-Identifier: Apache-2.0
// A process that is run instruction by instruction and killed after as many of them as the test
// says.
#pragma once

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace lmcache::test {

class SteppedChild {
 public:
  // A fork of the test: prepares as fast as it can, then runs `body` by steps and ends.
  template <class Prepare, class Body>
  SteppedChild(Prepare&& prepare, Body&& body) {
    // Both on one CPU: to wake another one costs ten times as much as the step.
    CPU_ZERO(&cpus_before_);
    ::sched_getaffinity(0, sizeof cpus_before_, &cpus_before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<std::size_t>(::sched_getcpu()), &one);
    ::sched_setaffinity(0, sizeof one, &one);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      auto prepared = prepare();
      if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(kNotTraced);
      ::raise(SIGSTOP);
      body(prepared);
      ::_exit(0);
    }
    running_ = wait_for_stop();
  }
  SteppedChild(SteppedChild const&) = delete;
  SteppedChild& operator=(SteppedChild const&) = delete;
  ~SteppedChild() {
    kill();
    ::sched_setaffinity(0, sizeof cpus_before_, &cpus_before_);
  }

  // Whether this system lets one process trace another.
  [[nodiscard]] bool is_traced() const { return exit_status_ != kNotTraced; }
  // Has not ended by itself yet.
  [[nodiscard]] bool running() const { return running_; }
  // -1 while it runs; 256 + the signal that ended it.
  [[nodiscard]] int exit_status() const { return exit_status_; }

  // Runs at most so many instructions. Returns how many.
  std::uint64_t step(std::uint64_t instructions) {
    std::uint64_t done = 0;
    while (running_ && done < instructions) {
      if (::ptrace(PTRACE_SINGLESTEP, pid_, nullptr, nullptr) != 0) break;
      ++done;
      running_ = wait_for_stop();
    }
    return done;
  }

  // Returns when it runs no more, and is no zombie either.
  void kill() {
    if (!running_) return;
    running_ = false;
    ::kill(pid_, SIGKILL);
    int status = 0;
    do {
      if (::waitpid(pid_, &status, 0) < 0 && errno != EINTR) return;
    } while (!WIFSIGNALED(status) && !WIFEXITED(status));
  }

 private:
  static constexpr int kNotTraced = 77;

  bool wait_for_stop() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0) {
      if (errno != EINTR) return false;
    }
    if (WIFSTOPPED(status)) return true;
    exit_status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
    return false;
  }

  cpu_set_t cpus_before_;
  pid_t pid_ = -1;
  bool running_ = false;
  int exit_status_ = -1;
};

}  // namespace lmcache::test
