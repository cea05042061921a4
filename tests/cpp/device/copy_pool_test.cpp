// SPDX-License-Identifier: Apache-2.0
// What the conformance suite cannot see: who goes first, and how work is shared.
#include <lmcache/device/copy_pool.hpp>

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <latch>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "copier_conformance.hpp"

namespace lmcache::detail {
namespace {

// One byte per item, all in plane 0.
class OneByteBatches {
 public:
  CopyBatch make(std::uint32_t items, CopyPriority priority, CopyItemDone on_item) {
    CopyBatch batch{
        .priority = priority, .plane_count = 1, .items = {}, .on_item = std::move(on_item)};
    for (std::uint32_t i = 0; i < items; ++i) {
      auto const at = next_++;
      batch.items.push_back({.slot = &slots_[at], .runs = {{.engine = &engine_[at], .bytes = 1}}});
    }
    return batch;
  }

 private:
  std::vector<std::byte> engine_ = std::vector<std::byte>(1000);
  std::vector<std::byte> slots_ = std::vector<std::byte>(1000);
  std::size_t next_ = 0;
};

TEST(CopyPoolTest, BackgroundWaitsUntilNoForegroundBatchWaits) {
  OneByteBatches batches;
  CopyPool pool{{.threads = 1, .piece_bytes = 1}};
  ASSERT_TRUE(pool.start());
  std::latch inside{1};
  std::latch go{1};
  std::mutex mutex;
  std::string order;
  auto const note = [&](char who) {
    return [&, who](std::uint32_t, CopyStatus) {
      std::lock_guard const lock{mutex};
      order += who;
    };
  };
  // The foreground thread is held in its first item, so the second one waits for it.
  auto const first = pool.submit(
      batches.make(2, CopyPriority::kForeground, [&](std::uint32_t item, CopyStatus status) {
        if (item == 0) {
          inside.count_down();
          go.wait();
        }
        note('f')(item, status);
      }));
  inside.wait();
  auto const second = pool.submit(batches.make(2, CopyPriority::kBackground, note('b')));
  auto const third = pool.submit(batches.make(1, CopyPriority::kForeground, note('F')));
  EXPECT_FALSE(pool.wait(second, 0, std::chrono::steady_clock::now())->over);
  std::this_thread::sleep_for(std::chrono::milliseconds{5});
  EXPECT_EQ(pool.item_status(second, 0), CopyStatus::kPending);
  go.count_down();
  for (CopyTicket const ticket : {first, second, third}) {
    EXPECT_TRUE(pool.wait(ticket, 0xffffffff, test::soon())->over);
  }
  // The last foreground item is handed out before the first background one, but both may be
  // reported at the same time by their two threads.
  EXPECT_EQ(order.substr(0, 2), "ff");
}

TEST(CopyPoolTest, CancelledForegroundBatchLetsTheBackgroundGo) {
  OneByteBatches batches;
  CopyPool pool{{.threads = 1, .piece_bytes = 1}};
  ASSERT_TRUE(pool.start());
  std::latch inside{1};
  std::latch go{1};
  auto const held =
      pool.submit(batches.make(1, CopyPriority::kForeground, [&](std::uint32_t, CopyStatus) {
        inside.count_down();
        go.wait();
      }));
  inside.wait();
  auto const dropped = pool.submit(batches.make(3, CopyPriority::kForeground, {}));
  auto const background = pool.submit(batches.make(3, CopyPriority::kBackground, {}));
  pool.cancel(dropped);
  EXPECT_EQ(pool.item_status(dropped, 2), CopyStatus::kCancelled);
  EXPECT_TRUE(pool.wait(background, 0xffffffff, test::soon())->over);
  go.count_down();
  EXPECT_TRUE(pool.wait(held, 0xffffffff, test::soon())->over);
}

TEST(CopyPoolTest, SeveralThreadsWorkOnOneBatch) {
  OneByteBatches batches;
  CopyPool pool{{.threads = 3, .piece_bytes = 1}};
  ASSERT_TRUE(pool.start());
  std::latch three{3};  // opens only if three threads are in a callback at once
  auto const ticket = pool.submit(batches.make(
      3, CopyPriority::kForeground, [&](std::uint32_t, CopyStatus) { three.arrive_and_wait(); }));
  EXPECT_TRUE(pool.wait(ticket, 0xffffffff, test::soon())->over);
}

TEST(CopyPoolTest, OnlyBackgroundThreadsAreNice) {
  OneByteBatches batches;
  CopyPool pool{{.threads = 1, .background_nice = 3}};
  ASSERT_TRUE(pool.start());
  auto const nice_now = [] {
    return ::getpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)));
  };
  int const mine = nice_now();
  for (auto const priority : {CopyPriority::kForeground, CopyPriority::kBackground}) {
    std::atomic<int> seen{-100};
    auto const ticket = pool.submit(
        batches.make(1, priority, [&](std::uint32_t, CopyStatus) { seen = nice_now(); }));
    EXPECT_TRUE(pool.wait(ticket, 0xffffffff, test::soon())->over);
    EXPECT_EQ(seen, std::min(mine + (priority == CopyPriority::kBackground ? 3 : 0), 19));
  }
}

TEST(CopyPoolTest, PlaneWaiterIsWokenWhileTheBatchGoesOn) {
  OneByteBatches batches;
  CopyPool pool{{.threads = 1, .piece_bytes = 1}};
  ASSERT_TRUE(pool.start());
  std::latch go{1};
  std::latch woken{1};
  auto const held = pool.submit(
      batches.make(1, CopyPriority::kForeground, [&](std::uint32_t, CopyStatus) { go.wait(); }));
  auto batch =
      batches.make(2, CopyPriority::kForeground, [&](std::uint32_t, CopyStatus) { woken.wait(); });
  batch.direction = CopyDirection::kSlotToEngine;
  batch.plane_count = 2;
  batch.items[1].runs[0].plane = 1;
  auto const ticket = pool.submit(std::move(batch));
  auto const deadline = std::chrono::steady_clock::now() + std::chrono::seconds{20};
  std::thread waiter{[&] {
    auto const progress = pool.wait(ticket, 1, deadline);
    EXPECT_EQ(progress->planes_arrived, 1U);
    EXPECT_LT(std::chrono::steady_clock::now(), deadline);
    woken.count_down();
  }};
  std::this_thread::sleep_for(std::chrono::milliseconds{5});  // let it fall asleep
  go.count_down();
  waiter.join();
  EXPECT_TRUE(pool.wait(ticket, 0xffffffff, test::soon())->over);
  EXPECT_TRUE(pool.wait(held, 0xffffffff, test::soon())->over);
}

TEST(CopyPoolTest, WaiterLearnsThatItsBatchWasRetired) {
  OneByteBatches batches;
  CopyPool pool{{.threads = 1}};
  ASSERT_TRUE(pool.start());
  std::latch inside{1};
  std::latch go{1};
  auto const ticket =
      pool.submit(batches.make(1, CopyPriority::kForeground, [&](std::uint32_t, CopyStatus) {
        inside.count_down();
        go.wait();
      }));
  inside.wait();
  std::thread waiter{[&] {
    auto const progress = pool.wait(ticket, 0xffffffff, test::soon());
    EXPECT_TRUE(!progress || progress->over);  // forgotten, or seen over just before
  }};
  pool.retire(ticket);
  EXPECT_TRUE(pool.progress(ticket));  // not before it is over
  go.count_down();
  waiter.join();
}

}  // namespace
}  // namespace lmcache::detail
