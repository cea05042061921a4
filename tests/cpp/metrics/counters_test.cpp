// SPDX-License-Identifier: Apache-2.0
#include <lmcache/metrics/counters.hpp>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <map>
#include <new>
#include <numeric>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace lmcache {
namespace {

constexpr std::size_t kCells = sizeof(CountersSnapshot) / sizeof(std::uint64_t);

// Every cell another value, by its place in memory: 1, 2, 3, ...
CountersSnapshot numbered() {
  std::array<std::uint64_t, kCells> cells{};
  std::iota(cells.begin(), cells.end(), std::uint64_t{1});
  return std::bit_cast<CountersSnapshot>(cells);
}

TEST(CountersTest, NamesAreDistinctAndKnown) {
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < kDropReasons; ++i) names.insert(name(static_cast<DropReason>(i)));
  EXPECT_EQ(names.size(), kDropReasons);
  EXPECT_FALSE(names.contains("unknown"));
  names.clear();
  for (std::size_t i = 0; i < kLoadFailures; ++i) names.insert(name(static_cast<LoadFailure>(i)));
  EXPECT_EQ(names.size(), kLoadFailures);
  EXPECT_FALSE(names.contains("unknown"));
  EXPECT_EQ(name(DropReason::kDuplicate), "duplicate");
  EXPECT_EQ(name(DropReason::kCopyFailed), "copy_failed");
  EXPECT_EQ(name(LoadFailure::kGone), "gone");
  EXPECT_EQ(name(DropReason::kCount), "unknown");
  EXPECT_EQ(name(LoadFailure::kCount), "unknown");
}

TEST(CountersTest, ForEachVisitsEveryCellOnce) {
  std::map<std::string, std::uint64_t> seen;
  std::set<std::uint64_t> values;
  numbered().for_each([&](std::string_view name, std::uint64_t value) {
    EXPECT_TRUE(seen.emplace(name, value).second) << name;
    values.insert(value);
  });
  EXPECT_EQ(seen.size(), kCells);
  EXPECT_EQ(values.size(), kCells);
  CountersSnapshot const counts = numbered();
  EXPECT_EQ(seen["lookups"], counts.lookups);
  EXPECT_EQ(seen["repaired_locks"], counts.repaired_locks);
  EXPECT_EQ(seen["dropped_stores_lock_timeout"],
            counts.dropped_stores[static_cast<std::size_t>(DropReason::kLockTimeout)]);
  EXPECT_EQ(seen["load_failures_timeout"],
            counts.load_failures[static_cast<std::size_t>(LoadFailure::kTimeout)]);
}

TEST(CountersTest, AdditionCoversEveryCell) {
  CountersSnapshot sum = numbered();
  sum += numbered();
  Counters live;
  live.add(numbered());
  live.add(numbered());
  using Cells = std::array<std::uint64_t, kCells>;
  auto const cells = std::bit_cast<Cells>(sum);
  EXPECT_EQ(std::bit_cast<Cells>(live.snapshot()), cells);
  for (std::size_t i = 0; i < kCells; ++i) EXPECT_EQ(cells[i], 2 * (i + 1));
  EXPECT_EQ(sum.total(), kCells * (kCells + 1));
}

TEST(CountersTest, DuplicatesAreNoLoss) {
  Counters counters;
  count(counters.dropped(DropReason::kNoSpace), 3);
  count(counters.dropped(DropReason::kDuplicate), 100);
  count(counters.dropped(DropReason::kCopyFailed));
  count(counters.failed(LoadFailure::kGone), 5);
  CountersSnapshot copy = counters.snapshot();
  EXPECT_EQ(copy.lost_stores(), 4U);
  EXPECT_EQ(copy.dropped(DropReason::kDuplicate), 100U);
  EXPECT_EQ(copy.failed(LoadFailure::kGone), 5U);
}

TEST(CountersTest, NoCountIsLostBetweenThreads) {
  Counters counters;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&counters] {
      for (int i = 0; i < 10'000; ++i) count(counters.lookup_tokens, 3);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counters.snapshot().lookup_tokens, 120'000U);
}

TEST(CountersTest, ZeroedSharedMemoryIsValidAndReadAcrossProcesses) {
  void* const memory =
      ::mmap(nullptr, sizeof(Counters), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  auto* const counters = std::launder(static_cast<Counters*>(memory));
  EXPECT_EQ(counters->snapshot().lookups, 0U);
  pid_t const child = ::fork();
  if (child == 0) {
    count(counters->lookups, 7);
    ::_exit(0);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(counters->snapshot().lookups, 7U);
  ::munmap(memory, sizeof(Counters));
}

}  // namespace
}  // namespace lmcache
