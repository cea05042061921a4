// SPDX-License-Identifier: Apache-2.0
// The hash index under processes that are killed at any instruction, and under threads.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include <lmcache/base/bytes.hpp>
#include <lmcache/index/hash_index.hpp>

#include "support/child_process.hpp"
#include "support/shared_memory.hpp"

namespace lmcache {
namespace {

using test::ChildProcess;

constexpr std::chrono::milliseconds kLong{30'000};  // never reached unless something is broken
constexpr std::uint32_t kEntries = 1024;
constexpr std::uint32_t kBuckets = kShardCount;  // chains of 16
constexpr unsigned kSeed = 20240720;

// Entry i only ever holds key i, so that each state says what must be found.
ChunkKey key_of(std::uint32_t entry) {
  ChunkKey out;
  store_le(out.bytes.data(), std::uint64_t{entry} * 0x9E37'79B9'7F4A'7C15);
  store_le(out.bytes.data() + 16, entry);
  return out;
}

struct Progress {
  std::atomic<std::uint64_t> steps;
};

class HashIndexStressTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(index_.initialise());
    index_.set_entry_limit(kEntries);
  }

  // One change as the tier makes it: the key before the state, the state before the chain.
  [[nodiscard]] bool flip(std::uint32_t at) {
    auto const key = key_of(at);
    auto const guard = index_.lock(key, kLong);
    if (!guard) return false;
    auto& entry = index_.at(at);
    if (entry.state.load(std::memory_order_relaxed) == EntryState::kFree) {
      entry.set_key(key);
      entry.state.store(EntryState::kReady, std::memory_order_release);
      index_.insert(at);
    } else {
      entry.state.store(EntryState::kFree, std::memory_order_release);
      index_.erase(at);
    }
    return true;
  }

  // Entries that the chains and the states disagree about.
  [[nodiscard]] std::uint32_t count_lies() {
    std::uint32_t lies = 0;
    for (std::uint32_t at = 0; at < kEntries; ++at) {
      auto const guard = index_.lock(key_of(at), kLong);
      if (!guard) return kEntries;
      bool const there = index_.at(at).state.load() != EntryState::kFree;
      if (index_.find(key_of(at)) != (there ? at : kNoEntry)) ++lies;
    }
    return lies;
  }

  test::SharedMemory shards_{sizeof(ShardTable)};
  test::SharedMemory buckets_{kBuckets * sizeof(std::uint32_t)};
  test::SharedMemory entries_{kEntries * sizeof(Entry)};
  HashIndex index_{{.shards = shards_.bytes(),
                    .buckets = buckets_.bytes().first(kBuckets * sizeof(std::uint32_t)),
                    .entries = entries_.bytes()}};
};

TEST_F(HashIndexStressTest, ProcessesKilledAtAnyInstructionLeaveNoLie) {
  constexpr int kProcesses = 3;
  constexpr int kKills = 100;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  std::mt19937 random{kSeed};
  test::Shared<Progress> progress;
  auto const worker = [&](unsigned seed) {
    return [&, seed] {
      std::mt19937 own{seed};
      for (;;) {
        // Two shards only, so that most are killed with a lock or waiting for one.
        auto const at = static_cast<std::uint32_t>(own() % kEntries);
        if (HashIndex::shard_of(key_of(at)) > 1) continue;
        if (!flip(at)) return 1;
        auto const probe = key_of(static_cast<std::uint32_t>(own() % kEntries));
        index_.prefetch_bucket(probe);
        index_.prefetch_entry(probe);
        progress->steps.fetch_add(1);
      }
    };
  };
  std::vector<std::optional<ChildProcess>> workers(kProcesses);
  for (int kill = 0; kill < kKills; ++kill) {
    for (auto& slot : workers) {
      if (!slot) slot.emplace(worker(static_cast<unsigned>(random())));
    }
    std::uint64_t const target = progress->steps.load() + random() % 300;
    while (progress->steps.load() < target) std::this_thread::yield();
    auto& victim = workers[random() % kProcesses];
    victim->kill();
    ASSERT_EQ(victim->wait(), 256 + SIGKILL) << "a worker could not have a lock";
    victim.reset();
    if (kill % 10 == 9) {
      workers = std::vector<std::optional<ChildProcess>>(kProcesses);
      ASSERT_EQ(count_lies(), 0U) << "after " << kill + 1 << " deaths";
    }
  }
  RecordProperty("repaired", static_cast<int>(index_.repaired_shards()));
}

// For ThreadSanitizer: every access to the chains is under a lock, but the hints.
TEST_F(HashIndexStressTest, ThreadsAgree) {
  constexpr int kThreads = 4;
  constexpr int kSteps = 20'000;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  std::vector<std::thread> threads;
  std::atomic<int> failed{0};
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      std::mt19937 own{kSeed + static_cast<unsigned>(thread)};
      for (int step = 0; step < kSteps; ++step) {
        index_.prefetch_bucket(key_of(static_cast<std::uint32_t>(own() % kEntries)));
        index_.prefetch_entry(key_of(static_cast<std::uint32_t>(own() % kEntries)));
        if (!flip(static_cast<std::uint32_t>(own() % kEntries))) failed.fetch_add(1);
        if (step % 1000 == 0) {
          auto const shard = static_cast<std::uint32_t>(own() % kShardCount);
          if (auto const guard = index_.lock_shard(shard, kLong)) index_.rebuild(shard);
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(failed.load(), 0);
  EXPECT_EQ(count_lies(), 0U);
}

TEST_F(HashIndexStressTest, EntriesBeyondTheLimitAreNotTouched) {
  // As those that have no memory yet, on a file system that is full.
  auto const page = entries_.bytes().subspan(kEntries * sizeof(Entry) / 2);
  ASSERT_TRUE(flip(3));
  index_.set_entry_limit(kEntries / 2);
  ASSERT_EQ(::mprotect(page.data(), page.size(), PROT_NONE), 0);
  index_.rebuild_all();
  for (std::uint32_t shard = 0; shard < kShardCount; ++shard) index_.rebuild(shard);
  EXPECT_EQ(index_.find(key_of(3)), 3U);
  ASSERT_EQ(::mprotect(page.data(), page.size(), PROT_READ | PROT_WRITE), 0);
}

}  // namespace
}  // namespace lmcache
