// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include <lmcache/engine/housekeeper.hpp>

#include "engine/shared_scene.hpp"
#include "support/child_process.hpp"
#include "support/log_lines.hpp"
#include "support/manual_clock.hpp"
#include "support/segment_invariants.hpp"
#include "support/tier_scene.hpp"

namespace lmcache::test {
namespace {

TierShape named_shape(TempDirectory const& directory) {
  return {.options = {.name = "shared",
                      .directory = directory.path(),
                      .capacity_bytes = 8u << 20,
                      .remove_when_unused = false}};
}

TEST(Housekeeper, ReservesMemoryBeforeItIsNeeded) {
  TierScene scene;
  ASSERT_EQ(scene.use().reserved_bytes, 0u);
  Housekeeper const keeper{scene.tier()};
  // Less than the 1 GiB that it keeps ahead: all of it.
  EXPECT_TRUE(eventually(
      [&] { return scene.use().reserved_bytes == scene.tier().segment().capacity_bytes(); }));
  EXPECT_EQ(scene.use().bound_slots, 0u);
  EXPECT_EQ(scene.store(prompt_of(1, 640)), 10u);
  EXPECT_EQ(scene.hit(prompt_of(1, 640)), 640u);
  EXPECT_TRUE(segment_is_sound(scene.state()));
}

TEST(Housekeeper, ReservesNothingWhereNothingIsCopied) {
  TierScene scene;
  std::atomic<bool> copies{false};
  std::atomic<int> ticks{0};
  Housekeeper const keeper{
      scene.tier(), {.copies = [&] { return copies.load(); }, .each_tick = [&] { ++ticks; }}};
  EXPECT_TRUE(eventually([&] { return ticks > 2; }));
  EXPECT_EQ(scene.use().reserved_bytes, 0u);
  copies = true;
  EXPECT_TRUE(eventually([&] { return scene.use().reserved_bytes != 0; }));
}

TEST(Housekeeper, SweepsWhatHasExpiredAndNothingElse) {
  ManualClock clock;
  TierScene scene{{.options = {.capacity_bytes = 8u << 20, .ttl_seconds = 60}}, clock};
  scene.store(prompt_of(1, 256));
  clock.advance_seconds(40);
  scene.store(prompt_of(2, 128));
  Housekeeper const keeper{scene.tier()};
  clock.advance_seconds(30);
  EXPECT_TRUE(eventually([&] { return scene.counters().expired_chunks == 4; }));
  EXPECT_EQ(scene.use().ready, 2u);
  EXPECT_EQ(scene.hit(prompt_of(2, 128)), 128u);

  // Not from under somebody who reads.
  auto const found = scene.tier().lookup(scene.space, scene.chain(prompt_of(2, 128)), 64);
  clock.advance_seconds(1000);
  EXPECT_TRUE(eventually([&] { return scene.counters().expired_chunks == 5; }));
  EXPECT_TRUE(scene.holds(prompt_of(2, 128), found));
  scene.tier().release(found.lanes[0]);
  EXPECT_TRUE(eventually([&] { return scene.counters().expired_chunks == 6; }));
  EXPECT_EQ(scene.use().ready, 0u);
  EXPECT_TRUE(segment_is_sound(scene.state()));
}

TEST(Housekeeper, TakesBackWhatACrashedProcessHeld) {
  TempDirectory const directory;
  Milestone ready;
  ChildProcess child{[&] {
    TierScene scene{named_shape(directory)};
    scene.store(prompt_of(1, 128));
    (void)scene.tier().lookup(scene.space, scene.chain(prompt_of(1, 128)), kNoLimit);
    auto const refs = scene.reserve(prompt_of(2, 192));
    (void)scene.tier().begin_write(refs[0][0]);
    ready.reach();
    wait_to_be_killed();
    return 0;
  }};
  ready.await();
  LogLines log;
  ManualClock const clock;
  TierScene scene{named_shape(directory), clock, log.hook()};
  TierScene other{named_shape(directory)};
  Housekeeper const keeper{scene.tier()};
  Housekeeper const second{other.tier()};
  ASSERT_EQ(scene.use().writing, 3u);
  ASSERT_EQ(scene.use().leased, 3u);
  child.kill();

  // Once, though two look for the dead.
  EXPECT_TRUE(eventually([&] { return scene.state().processes.attached_count() == 2; }));
  auto const departed = scene.state().header.departed.snapshot();
  EXPECT_EQ(departed.reaped_processes, 1u);
  EXPECT_EQ(departed.reclaimed_slots, 3u);
  EXPECT_EQ(departed.reclaimed_leases, 3u);
  EXPECT_EQ(departed.stored_chunks, 0u);  // the tier leaves that count to the jobs
  EXPECT_TRUE(nothing_is_held(scene.state()));
  EXPECT_TRUE(segment_is_sound(scene.state()));
  EXPECT_EQ(scene.hit(prompt_of(1, 128)), 128u);
  EXPECT_EQ(scene.store(prompt_of(2, 192)), 3u);
}

TEST(Housekeeper, SaysWhoIsGone) {
  TempDirectory const directory;
  Milestone ready;
  ChildProcess child{[&] {
    TierScene scene{named_shape(directory)};
    ready.reach();
    wait_to_be_killed();
    return 0;
  }};
  ready.await();
  LogLines log;
  ManualClock const clock;
  TierScene scene{named_shape(directory), clock, log.hook()};
  Housekeeper const keeper{scene.tier()};
  auto const line = "process " + std::to_string(child.pid()) + " is gone without leaving";
  EXPECT_EQ(log.count(line), 0u);
  child.kill();
  EXPECT_TRUE(eventually([&] { return log.count(line) != 0; }));
  EXPECT_EQ(log.count(line), 1u);
}

TEST(Housekeeper, AppliesUsesToTheOrderOfEviction) {
  TierScene scene;
  scene.store(prompt_of(1, 64));
  scene.store(prompt_of(2, 64));
  auto const index_of = [&](std::uint64_t seed) {
    auto const found = scene.tier().lookup(scene.space, scene.chain(prompt_of(seed, 64)), kNoLimit);
    scene.tier().release(found.lanes[0]);
    return found.lanes[0][0].index;
  };
  auto const second = index_of(2);
  auto const first = index_of(1);
  auto const oldest = [&] {
    auto const guard = must(scene.state().lock_space());
    return scene.state().class_of(scene.state().index.at(first)).leaves.back;
  };
  ASSERT_EQ(oldest(), first);  // stored first, and no use is applied yet
  Housekeeper const keeper{scene.tier()};
  EXPECT_TRUE(eventually([&] { return oldest() == second; }));
}

TEST(Housekeeper, GivesBackWhatALockHadRefused) {
  TierScene scene;
  scene.store(prompt_of(1, 64));
  auto const found = scene.tier().lookup(scene.space, scene.chain(prompt_of(1, 64)), kNoLimit);
  Housekeeper const keeper{scene.tier()};
  {
    auto const& entry = scene.state().index.at(found.lanes[0][0].index);
    auto const held = must(scene.state().index.lock(entry.key(), std::chrono::seconds{5}));
    std::thread{[&] { scene.tier().release(found.lanes[0]); }}.join();
    EXPECT_NE(entry.leases.load(), 0u);
  }
  EXPECT_TRUE(eventually([&] { return scene.use().leased == 0; }));
  EXPECT_TRUE(segment_is_sound(scene.state()));
}

// What /proc says of our thread of that name: a line of its status, empty without such a thread.
std::string thread_status(std::string const& name, std::string const& field) {
  for (auto const& task : std::filesystem::directory_iterator{"/proc/self/task"}) {
    std::ifstream file{task.path() / "status"};
    std::string line;
    std::getline(file, line);
    if (line != "Name:\t" + name) continue;
    while (std::getline(file, line)) {
      if (line.starts_with(field + ":\t")) return line.substr(field.size() + 2);
    }
  }
  return {};
}

TEST(Housekeeper, LeavesSignalsToTheApplication) {
  sigset_t before;
  sigemptyset(&before);
  ASSERT_EQ(::pthread_sigmask(SIG_SETMASK, &before, nullptr), 0);
  TierScene scene;
  Housekeeper const keeper{scene.tier()};
  std::string blocked;
  ASSERT_TRUE(eventually([&] {
    blocked = thread_status("lmc-keeper", "SigBlk");
    return !blocked.empty();
  }));
  auto const mask = std::stoull(blocked, nullptr, 16);
  for (int const number : {SIGINT, SIGTERM, SIGUSR1, SIGALRM, SIGCHLD})
    EXPECT_NE(mask >> (number - 1) & 1, 0u) << number;
  // Only its own mask was changed.
  sigset_t after;
  ASSERT_EQ(::pthread_sigmask(SIG_SETMASK, nullptr, &after), 0);
  for (int const number : {SIGINT, SIGTERM, SIGUSR1, SIGALRM, SIGCHLD})
    EXPECT_EQ(sigismember(&after, number), sigismember(&before, number)) << number;
}

TEST(Housekeeper, StopsWhateverItDoes) {
  TierScene scene;
  auto const started = std::chrono::steady_clock::now();
  for (int i = 0; i < 50; ++i) {
    Housekeeper keeper{scene.tier()};
    if (i % 2 == 0) keeper.wake();
    scene.store(prompt_of(static_cast<std::uint64_t>(i), 64));
  }
  // Not a tick of 100 ms for each.
  EXPECT_LT(std::chrono::steady_clock::now() - started, std::chrono::seconds{4});
  EXPECT_EQ(scene.use().ready, 50u);
  EXPECT_TRUE(segment_is_sound(scene.state()));
}

}  // namespace
}  // namespace lmcache::test
