// SPDX-License-Identifier: Apache-2.0
#include <lmcache/base/cpu_load.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <stop_token>
#include <thread>
#include <vector>

namespace lmcache::test {
namespace {

TEST(CpuLoad, ReadsTheThreadsThatRunOutOfTheFourthField) {
  EXPECT_EQ(runnable_threads("0.20 0.18 0.12 1/80 11206\n"), 1u);
  EXPECT_EQ(runnable_threads("65.01 64.10 63.99 4097/123456 99"), 4097u);
}

TEST(CpuLoad, DoesNotBelieveWhatSaysNothing) {
  for (auto const* text : {"", "\n", "0.20", "0.20 0.18 0.12", "0.20 0.18 0.12 ", "1 2 3 4 5",
                           "0.00 0.00 0.00 0/0 0", "0.20 0.18 0.12 x/80 11206",
                           "0.20 0.18 0.12 -1/80 11206", "0.20 0.18 0.12 99999999999/80 1"}) {
    EXPECT_FALSE(runnable_threads(text)) << text;
  }
}

TEST(CpuLoad, CpusAreWantedByAsManyThreadsAsThereAre) {
  std::vector<std::jthread> busy;
  for (unsigned i = 0; i < 2 * std::thread::hardware_concurrency(); ++i) {
    busy.emplace_back([](std::stop_token const& stop) {
      while (!stop.stop_requested()) {
      }
    });
  }
  bool wanted = false;
  for (int i = 0; i < 1000 && !wanted; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds{10});
    wanted = cpus_are_wanted();
  }
  EXPECT_TRUE(wanted);
}

}  // namespace
}  // namespace lmcache::test
