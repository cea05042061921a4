// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include <lmcache/base/robust_mutex.hpp>

#include "support/child_process.hpp"
#include "support/shared_memory.hpp"

namespace lmcache {
namespace {

using std::chrono::milliseconds;
using test::ChildProcess;
using test::Milestone;
using test::Shared;

constexpr milliseconds kLong{30'000};  // never reached unless something is broken
constexpr int kFailed = 99;

class RobustMutexTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(mutex_->init()); }

  // A process that has the lock (in the state it found it) until it is killed.
  ChildProcess holder(LockState expected = LockState::kConsistent) {
    Milestone locked;
    ChildProcess child{[&] {
      auto const state = mutex_->lock(kLong);
      if (!state || state.value() != expected) return kFailed;
      locked.reach();
      test::wait_to_be_killed();
    }};
    locked.await();
    return child;
  }

  [[nodiscard]] std::optional<LockState> lock(milliseconds timeout = kLong) {
    auto const state = mutex_->lock(timeout);
    if (!state) return std::nullopt;
    return state.value();
  }

  Shared<RobustMutex> mutex_;
};

TEST_F(RobustMutexTest, IsFreeAtFirstAndAfterEachUnlock) {
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(lock(), LockState::kConsistent);
    mutex_->unlock();
  }
}

TEST_F(RobustMutexTest, GuardUnlocksOnceHoweverOftenItMoves) {
  ASSERT_EQ(lock(), LockState::kConsistent);
  {
    std::optional<RobustGuard> outer;
    {
      RobustGuard inner{*mutex_};
      outer.emplace(std::move(inner));
    }
    ChildProcess child{[&] { return mutex_->lock(milliseconds{0}) ? 1 : 0; }};
    EXPECT_EQ(child.wait(), 0) << "the lock was released by a guard that had been moved from";
  }
  EXPECT_EQ(lock(milliseconds{0}), LockState::kConsistent);
  mutex_->unlock();
}

TEST_F(RobustMutexTest, TimesOutNotBeforeTheTimeAndIsUnharmed) {
  auto child = holder();
  for (auto const timeout :
       {milliseconds{-5}, milliseconds{0}, milliseconds{30}, milliseconds{1005}}) {
    auto const start = std::chrono::steady_clock::now();
    auto const state = mutex_->lock(timeout);
    ASSERT_FALSE(state);
    EXPECT_EQ(state.error().code(), ErrorCode::kTimeout) << timeout.count() << " ms";
    EXPECT_GE(std::chrono::steady_clock::now() - start, timeout);
  }
  child.kill();
  EXPECT_EQ(lock(), LockState::kOwnerDied);
  mutex_->mark_consistent();
  mutex_->unlock();
}

TEST_F(RobustMutexTest, OwnerKilledThenRepaired) {
  auto child = holder();
  child.kill();
  ASSERT_EQ(lock(), LockState::kOwnerDied);
  mutex_->mark_consistent();
  mutex_->unlock();
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(lock(), LockState::kConsistent);
    mutex_->unlock();
  }
}

TEST_F(RobustMutexTest, TheDeadOwnerNeedNotBeWaitedFor) {
  auto child = holder();
  ASSERT_EQ(::kill(child.pid(), SIGKILL), 0);  // at once: it may or may not be gone yet
  ASSERT_EQ(lock(), LockState::kOwnerDied);
  mutex_->mark_consistent();
  mutex_->unlock();
}

TEST_F(RobustMutexTest, OneOfTheWaitersIsToldAndTheOthersFollow) {
  constexpr int kWaiters = 3;
  constexpr int kToldOfDeath = 1;
  auto owner = holder();
  Milestone waiting;
  std::vector<ChildProcess> waiters;
  for (int i = 0; i < kWaiters; ++i) {
    waiters.emplace_back([&] {
      waiting.reach();
      auto const state = mutex_->lock(kLong);
      if (!state) return kFailed;
      bool const died = state.value() == LockState::kOwnerDied;
      if (died) mutex_->mark_consistent();
      mutex_->unlock();
      return died ? kToldOfDeath : 0;
    });
  }
  for (int i = 0; i < kWaiters; ++i) waiting.await();
  owner.kill();
  int told = 0;
  for (auto& waiter : waiters) {
    int const status = waiter.wait();
    EXPECT_NE(status, kFailed);
    told += status;
  }
  EXPECT_EQ(told, 1);
}

TEST_F(RobustMutexTest, DeathDuringTheRepairIsToldToTheNextOwner) {
  auto first = holder();
  first.kill();
  for (int i = 0; i < 3; ++i) {
    auto repairer = holder(LockState::kOwnerDied);
    repairer.kill();
    EXPECT_EQ(repairer.wait(), 256 + SIGKILL);
  }
  ASSERT_EQ(lock(), LockState::kOwnerDied);
  mutex_->mark_consistent();
  mutex_->unlock();
  EXPECT_EQ(lock(), LockState::kConsistent);
  mutex_->unlock();
}

TEST_F(RobustMutexTest, DeathAfterTheRepairIsAnotherDeath) {
  auto first = holder();
  first.kill();
  ASSERT_EQ(lock(), LockState::kOwnerDied);
  mutex_->mark_consistent();
  mutex_->unlock();
  auto second = holder();
  second.kill();
  EXPECT_EQ(lock(), LockState::kOwnerDied);
  mutex_->mark_consistent();
  mutex_->unlock();
}

TEST_F(RobustMutexTest, GivingTheRepairUpLeavesItToTheNextOwner) {
  auto child = holder();
  child.kill();
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(lock(), LockState::kOwnerDied);
    mutex_->unlock();
  }
  auto repairer = holder(LockState::kOwnerDied);
  repairer.kill();
  ASSERT_EQ(lock(), LockState::kOwnerDied);
  mutex_->mark_consistent();
  mutex_->unlock();
  EXPECT_EQ(lock(), LockState::kConsistent);
  mutex_->unlock();
}

TEST_F(RobustMutexTest, AThreadThatEndsWithTheLockIsADeadOwnerToo) {
  std::thread{[&] { EXPECT_EQ(lock(), LockState::kConsistent); }}.join();
  EXPECT_EQ(lock(), LockState::kOwnerDied);
  mutex_->mark_consistent();
  mutex_->unlock();
}

TEST_F(RobustMutexTest, TwoMappingsInOneProcessAreOneLock) {
  auto const second = mutex_.memory().map();
  auto& there = *reinterpret_cast<RobustMutex*>(second.data());
  ASSERT_NE(&there, &*mutex_);
  ASSERT_EQ(lock(), LockState::kConsistent);
  EXPECT_FALSE(there.lock(milliseconds{0}));
  mutex_->unlock();

  std::thread{[&] { EXPECT_TRUE(there.lock(kLong)); }}.join();  // ends with the lock of its mapping
  ASSERT_EQ(lock(), LockState::kOwnerDied);
  mutex_->mark_consistent();
  mutex_->unlock();

  Milestone locked;
  ChildProcess child{[&] {
    auto const third = mutex_.memory().map();
    if (!reinterpret_cast<RobustMutex*>(third.data())->lock(kLong)) return kFailed;
    locked.reach();
    test::wait_to_be_killed();
  }};
  locked.await();
  child.kill();
  auto const state = there.lock(kLong);
  ASSERT_TRUE(state);
  EXPECT_EQ(state.value(), LockState::kOwnerDied);
  there.mark_consistent();
  there.unlock();
  EXPECT_EQ(lock(), LockState::kConsistent);
  mutex_->unlock();
}

TEST_F(RobustMutexTest, OnlyOneProcessAtATimeIsInside) {
  constexpr int kProcesses = 4;
  constexpr int kRounds = 2000;
  Shared<std::int64_t> sum;  // plain: a lost update shows
  std::vector<ChildProcess> children;
  for (int i = 0; i < kProcesses; ++i) {
    children.emplace_back([&] {
      for (int round = 0; round < kRounds; ++round) {
        if (!mutex_->lock(kLong)) return kFailed;
        RobustGuard const guard{*mutex_};
        auto volatile* const cell = &*sum;
        std::int64_t const before = *cell;
        *cell = before + 1;
      }
      return 0;
    });
  }
  for (auto& child : children) EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(*sum, kProcesses * kRounds);
}

// Two cells that only ever grow together, by processes that are killed at any instruction.
struct Pair {
  std::atomic<std::uint64_t> left;
  std::atomic<std::uint64_t> right;
  std::atomic<std::uint64_t> torn;  // seen unequal without having been told of a death
  std::atomic<std::uint64_t> repaired;
};

TEST_F(RobustMutexTest, WhatTheLockGuardsIsNeverFoundTornUnannounced) {
  constexpr int kProcesses = 3;
  constexpr int kKills = 60;
  constexpr unsigned kSeed = 20240607;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  std::mt19937 random{kSeed};
  Shared<Pair> pair;
  auto const worker = [&] {
    for (;;) {
      auto const state = mutex_->lock(kLong);
      if (!state) return kFailed;
      RobustGuard const guard{*mutex_};
      if (state.value() == LockState::kOwnerDied) {
        pair->right.store(pair->left.load());
        pair->repaired.fetch_add(1);
        mutex_->mark_consistent();
      } else if (pair->left.load() != pair->right.load()) {
        pair->torn.fetch_add(1);
      }
      pair->left.fetch_add(1);
      pair->right.fetch_add(1);
    }
  };
  std::vector<std::optional<ChildProcess>> workers(kProcesses);
  for (int kill = 0; kill < kKills; ++kill) {
    for (auto& slot : workers) {
      if (!slot) slot.emplace(worker);
    }
    // The next one dies when the others have got this far.
    std::uint64_t const target = pair->left.load() + random() % 500;
    while (pair->left.load() < target) std::this_thread::yield();
    auto& victim = workers[random() % kProcesses];
    victim->kill();
    EXPECT_EQ(victim->wait(), 256 + SIGKILL) << "a worker gave up by itself";
    victim.reset();
  }
  workers.clear();
  EXPECT_EQ(pair->torn.load(), 0U);
  EXPECT_GT(pair->left.load(), 0U);
  auto const state = lock();
  ASSERT_TRUE(state);
  if (*state == LockState::kOwnerDied) mutex_->mark_consistent();
  mutex_->unlock();
}

}  // namespace
}  // namespace lmcache
