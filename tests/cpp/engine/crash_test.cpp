// SPDX-License-Identifier: Apache-2.0
// Four processes share a segment that is far too small; one of them is killed at a random moment
// and another started, over and over. Every byte that any of them reads is right, no operation
// takes long, and in the end nothing is lost.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "support/child_process.hpp"
#include "support/crash_family.hpp"
#include "support/scratch_folder.hpp"
#include "support/segment_invariants.hpp"

#include <lmcache/tier/dram/dram_tier.hpp>

namespace lmcache::test {
namespace {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr int kKills = 40;  // everything takes ten times as long
#else
constexpr int kKills = 200;
#endif
constexpr int kProcesses = 4;

// The program cache_process, until its input ends or it is killed.
class CacheProcess {
 public:
  CacheProcess(std::string const& directory, std::uint64_t seed) {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    input_ = UniqueFd{ends[1]};
    UniqueFd const theirs{ends[0]};
    auto const number = std::to_string(seed);
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::dup2(theirs.get(), STDIN_FILENO);
    ::execl(LMC_CACHE_PROCESS_PATH, LMC_CACHE_PROCESS_PATH, directory.c_str(), number.c_str(),
            nullptr);
    ::_exit(127);
  }
  CacheProcess(CacheProcess&& other) noexcept
      : pid_{std::exchange(other.pid_, -1)}, input_{std::move(other.input_)} {}
  CacheProcess& operator=(CacheProcess&&) = delete;
  ~CacheProcess() {
    if (pid_ > 0) (void)kill();
  }

  // Exit status, 256 + the signal that ended it, or -1 while it runs.
  int status() { return wait(WNOHANG); }
  int kill() {
    ::kill(pid_, SIGKILL);
    return wait(0);
  }
  int stop() {
    input_ = UniqueFd{};
    return wait(0);
  }

 private:
  int wait(int flags) {
    int status = 0;
    pid_t got = 0;
    while ((got = ::waitpid(pid_, &status, flags)) < 0 && errno == EINTR) {
    }
    if (got == 0) return -1;
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
  }

  pid_t pid_ = -1;
  UniqueFd input_;
};

TEST(Crash, FourProcessesSurviveTheDeathOfAny) {
  ScratchFolder const folder;
  std::mt19937_64 random{
      static_cast<std::uint64_t>(testing::UnitTest::GetInstance()->random_seed()) + 1};
  std::vector<std::unique_ptr<CacheProcess>> processes;
  for (int i = 0; i < kProcesses; ++i) {
    processes.push_back(std::make_unique<CacheProcess>(folder.path(), random()));
  }
  for (int kill = 0; kill < kKills; ++kill) {
    std::this_thread::sleep_for(std::chrono::microseconds{random() % 120'000});
    for (auto& process : processes) ASSERT_EQ(process->status(), -1) << "before kill " << kill;
    auto& victim = processes[random() % kProcesses];
    ASSERT_EQ(victim->kill(), 256 + SIGKILL) << "at kill " << kill;
    victim = std::make_unique<CacheProcess>(folder.path(), random());
  }
  for (auto& process : processes) EXPECT_EQ(process->stop(), 0);

  auto const shape = crash_shape(folder.path());
  SystemClock const clock;
  auto const tier = must(DramTier::open({.name = shape.options.segment,
                                         .directory = folder.path(),
                                         .capacity_bytes = shape.options.capacity_bytes},
                                        clock, {}));
  tier->reap();
  EXPECT_EQ(tier->state().processes.attached_count(), 1u);
  EXPECT_TRUE(segment_is_sound(tier->state()));
  EXPECT_TRUE(nothing_is_held(tier->state()));
  auto const& departed = tier->state().header.departed;
  EXPECT_GT(departed.hit_tokens, 0u);
  EXPECT_GT(departed.loaded_chunks, 0u);
  EXPECT_GT(departed.evicted_chunks, 0u);
  EXPECT_GT(departed.reclaimed_slots + departed.reclaimed_leases, 0u);
  EXPECT_GT(departed.reaped_processes, 0u);
  RecordProperty("hit_tokens", std::to_string(departed.hit_tokens));
  RecordProperty("evicted_chunks", std::to_string(departed.evicted_chunks));
  RecordProperty("reclaimed_slots", std::to_string(departed.reclaimed_slots));
  RecordProperty("reclaimed_leases", std::to_string(departed.reclaimed_leases));
  RecordProperty("reaped_processes", std::to_string(departed.reaped_processes));
  RecordProperty("repairs", std::to_string(tier->state().space.repaired +
                                           tier->state().index.repaired_shards()));
}

}  // namespace
}  // namespace lmcache::test
