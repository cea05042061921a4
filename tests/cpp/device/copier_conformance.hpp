// SPDX-License-Identifier: Apache-2.0
// What every DeviceCopier must do. A device is one class with
//   using EngineMemory = ...;                        // as HostEngineMemory
//   static std::unique_ptr<DeviceCopier> make();     // a new copier; null: no such device here
// and one line: INSTANTIATE_TYPED_TEST_SUITE_P(Name, CopierConformance, TheClass);
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <latch>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <lmcache/device/device_copier.hpp>

#include "copy_scene.hpp"

namespace lmcache::test {

inline CopyDeadline soon() { return std::chrono::steady_clock::now() + std::chrono::seconds{60}; }
inline CopyDeadline now() { return std::chrono::steady_clock::now(); }

// Notes what a batch's callback was told, per item. Thread-safe.
class ItemLog {
 public:
  explicit ItemLog(std::size_t items) : told_(items) {}
  CopyItemDone callback() {
    return [this](std::uint32_t item, CopyStatus status) {
      std::lock_guard const lock{mutex_};
      told_[item].push_back(status);
    };
  }
  [[nodiscard]] std::vector<std::vector<CopyStatus>> told() const {
    std::lock_guard const lock{mutex_};
    return told_;
  }
  // Every item exactly once, with this status.
  void expect_all(CopyStatus status) const {
    for (auto const& times : told()) EXPECT_EQ(times, std::vector{status});
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::vector<CopyStatus>> told_;
};

template <class Device>
class CopierConformance : public ::testing::Test {
 protected:
  using Scene = CopyScene<typename Device::EngineMemory>;

  void SetUp() override {
    if (copier == nullptr) GTEST_SKIP() << "this machine has no such device";
  }
  CopyTicket submit(CopyBatch batch) {
    auto ticket = copier->submit(std::move(batch));
    EXPECT_TRUE(ticket) << ticket.error().message();
    return ticket ? ticket.value() : CopyTicket{};
  }
  void wait(CopyTicket ticket) {
    auto const over = copier->wait(ticket, soon());
    ASSERT_TRUE(over) << over.error().message();
    ASSERT_TRUE(over.value());
  }

  std::unique_ptr<DeviceCopier> copier = Device::make();
};

TYPED_TEST_SUITE_P(CopierConformance);

TYPED_TEST_P(CopierConformance, RoundTripIsBitExact) {
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    typename TestFixture::Scene scene{{.planes = static_cast<std::uint32_t>(1 + seed * 3),
                                       .blocks_per_chunk = static_cast<std::uint32_t>(1 + seed),
                                       .chunks = static_cast<std::uint32_t>(9 - seed),
                                       .largest_page = seed % 2 == 0 ? 300U : 20000U},
                                      seed};
    this->wait(this->submit(scene.batch(CopyDirection::kEngineToSlot, CopyPriority::kBackground)));
    EXPECT_TRUE(scene.all_same()) << "store, seed " << seed;
    EXPECT_TRUE(scene.rest_of_engine_untouched());
    scene.refill_engine();
    EXPECT_FALSE(scene.all_same());
    this->wait(this->submit(scene.batch(CopyDirection::kSlotToEngine)));
    EXPECT_TRUE(scene.all_same()) << "load, seed " << seed;
    EXPECT_TRUE(scene.rest_of_engine_untouched());
  }
}

TYPED_TEST_P(CopierConformance, EveryItemIsReportedOnceBeforeTheBatchIsDone) {
  typename TestFixture::Scene scene{{.planes = 3, .chunks = 40}, 11};
  for (auto const direction : {CopyDirection::kEngineToSlot, CopyDirection::kSlotToEngine}) {
    ItemLog log{40};
    auto batch = scene.batch(direction);
    batch.on_item = log.callback();
    auto const ticket = this->submit(std::move(batch));
    this->wait(ticket);
    log.expect_all(CopyStatus::kCopied);
    EXPECT_TRUE(this->copier->done(ticket));
    EXPECT_TRUE(this->copier->plane_done(ticket, 2));
    EXPECT_TRUE(this->copier->plane_done(ticket, 1000));
    for (std::uint32_t item = 0; item < 40; ++item) {
      EXPECT_TRUE(this->copier->item_done(ticket, item));
      EXPECT_EQ(this->copier->item_status(ticket, item), CopyStatus::kCopied);
    }
    this->copier->retire(ticket);
  }
}

TYPED_TEST_P(CopierConformance, ReportedItemIsWhole) {
  typename TestFixture::Scene scene{{.planes = 5, .chunks = 20}, 12};
  std::atomic<int> wrong{0};
  auto batch = scene.batch(CopyDirection::kEngineToSlot);
  batch.on_item = [&](std::uint32_t item, CopyStatus) { wrong += scene.same(item, 5) ? 0 : 1; };
  this->wait(this->submit(std::move(batch)));
  EXPECT_EQ(wrong, 0);
}

TYPED_TEST_P(CopierConformance, PlanesArriveInOrderAndWhole) {
  constexpr std::uint32_t kPlanes = 12;
  typename TestFixture::Scene scene{{.planes = kPlanes, .chunks = 8, .largest_page = 30000}, 13};
  auto const ticket = this->submit(scene.batch(CopyDirection::kSlotToEngine));
  for (std::uint32_t plane = 0; plane < kPlanes; ++plane) {
    auto const arrived = this->copier->wait_plane(ticket, plane, soon());
    ASSERT_TRUE(arrived) << arrived.error().message();
    ASSERT_TRUE(arrived.value());
    for (std::uint32_t p = 0; p <= plane; ++p) EXPECT_TRUE(this->copier->plane_done(ticket, p));
  }
  auto const beyond = this->copier->wait_plane(ticket, 0xffffffff, soon());
  EXPECT_TRUE(beyond && beyond.value());
  EXPECT_TRUE(scene.all_same());
}

TYPED_TEST_P(CopierConformance, NothingToCopy) {
  auto const empty = this->submit({});
  this->wait(empty);
  EXPECT_TRUE(this->copier->plane_done(empty, 0));

  auto const planeless =
      this->submit({.direction = CopyDirection::kSlotToEngine, .items = {{}, {}}});
  this->wait(planeless);
  EXPECT_EQ(this->copier->item_status(planeless, 1), CopyStatus::kCopied);

  ItemLog log{3};
  std::byte slot{};
  CopyBatch batch{
      .plane_count = 2,
      .items = {{}, {.slot = &slot, .runs = {{}, {.plane = 1}}}, {.slot = &slot, .runs = {}}},
      .on_item = log.callback()};
  auto const ticket = this->submit(std::move(batch));
  this->wait(ticket);
  log.expect_all(CopyStatus::kCopied);
  EXPECT_TRUE(this->copier->plane_done(ticket, 1));
}

TYPED_TEST_P(CopierConformance, BadBatchIsRefusedWhole) {
  std::byte byte{};
  ItemLog log{2};
  auto const refused = [&](CopyItem bad) {
    CopyBatch batch{.plane_count = 2,
                    .items = {{.slot = &byte, .runs = {}}, std::move(bad)},
                    .on_item = log.callback()};
    auto const ticket = this->copier->submit(std::move(batch));
    return !ticket && ticket.error().code() == ErrorCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused({.slot = nullptr, .runs = {{.engine = &byte, .bytes = 1}}}));
  EXPECT_TRUE(refused({.slot = &byte, .runs = {{.engine = nullptr, .bytes = 1}}}));
  EXPECT_TRUE(refused({.slot = &byte, .runs = {{.engine = &byte, .bytes = 1, .plane = 2}}}));
  EXPECT_EQ(this->copier->stats().rejected_batches, 3U);
  EXPECT_EQ(this->copier->stats().batches, 0U);
  for (auto const& times : log.told()) EXPECT_TRUE(times.empty());
}

TYPED_TEST_P(CopierConformance, UnknownTickets) {
  typename TestFixture::Scene scene{{}, 14};
  auto const retired = this->submit(scene.batch(CopyDirection::kEngineToSlot));
  this->wait(retired);
  this->copier->retire(retired);
  for (CopyTicket const ticket : {CopyTicket{}, CopyTicket{987654}, retired}) {
    EXPECT_TRUE(this->copier->done(ticket));
    EXPECT_FALSE(this->copier->plane_done(ticket, 0));
    EXPECT_EQ(this->copier->item_status(ticket, 0), CopyStatus::kCancelled);
    EXPECT_EQ(this->copier->wait(ticket, soon()).error().code(), ErrorCode::kInvalidArgument);
    EXPECT_EQ(this->copier->wait_plane(ticket, 0, soon()).error().code(),
              ErrorCode::kInvalidArgument);
    this->copier->cancel(ticket);
    this->copier->retire(ticket);
  }
}

TYPED_TEST_P(CopierConformance, WaitKeepsItsDeadline) {
  typename TestFixture::Scene scene{{}, 15};
  std::latch go{1};
  auto batch = scene.batch(CopyDirection::kEngineToSlot);
  batch.on_item = [&](std::uint32_t, CopyStatus) { go.wait(); };
  auto const ticket = this->submit(std::move(batch));
  auto const over = this->copier->wait(ticket, now() + std::chrono::milliseconds{5});
  ASSERT_TRUE(over);
  EXPECT_FALSE(over.value());
  EXPECT_FALSE(this->copier->done(ticket));
  go.count_down();
  this->wait(ticket);
}

TYPED_TEST_P(CopierConformance, NothingIsTouchedAfterCancel) {
  for (std::uint64_t round = 0; round < 20; ++round) {
    typename TestFixture::Scene scene{{.planes = 6, .chunks = 30, .largest_page = 1500},
                                      100 + round};
    auto const direction =
        round % 2 == 0 ? CopyDirection::kEngineToSlot : CopyDirection::kSlotToEngine;
    ItemLog log{30};
    auto batch = scene.batch(direction,
                             round % 4 < 2 ? CopyPriority::kBackground : CopyPriority::kForeground);
    batch.on_item = log.callback();
    auto const ticket = this->submit(std::move(batch));
    std::this_thread::sleep_for(std::chrono::microseconds{round * 15});
    this->copier->cancel(ticket);
    EXPECT_TRUE(this->copier->done(ticket));
    auto const told = log.told();
    bool dropped = false;
    for (std::uint32_t item = 0; item < 30; ++item) {
      ASSERT_EQ(told[item].size(), 1U);
      EXPECT_EQ(told[item][0], this->copier->item_status(ticket, item));
      EXPECT_TRUE(told[item][0] != CopyStatus::kCopied || scene.same(item, 6));
      dropped = dropped || told[item][0] == CopyStatus::kCancelled;
    }
    scene.poison(std::byte{0xa5});
    if (dropped) {
      EXPECT_FALSE(this->copier->plane_done(ticket, 5));
      EXPECT_EQ(this->copier->wait_plane(ticket, 5, soon()).error().code(), ErrorCode::kCancelled);
    }
    this->copier->cancel(ticket);  // no effect
    this->copier->retire(ticket);
    std::this_thread::sleep_for(std::chrono::microseconds{200});
    EXPECT_TRUE(scene.is_poisoned(std::byte{0xa5}));
  }
}

TYPED_TEST_P(CopierConformance, CancelWaitsForACallbackThatRuns) {
  typename TestFixture::Scene scene{{.chunks = 1}, 16};
  std::latch inside{1};
  std::latch go{1};
  std::atomic<bool> returned{false};
  auto batch = scene.batch(CopyDirection::kEngineToSlot);
  batch.on_item = [&](std::uint32_t, CopyStatus) {
    inside.count_down();
    go.wait();
    returned = true;
  };
  auto const ticket = this->submit(std::move(batch));
  inside.wait();
  std::thread other{[&] {
    this->copier->cancel(ticket);
    EXPECT_TRUE(returned);
  }};
  std::thread third{[&] {
    this->copier->cancel(ticket);
    EXPECT_TRUE(returned);
  }};
  std::this_thread::sleep_for(std::chrono::milliseconds{2});
  go.count_down();
  other.join();
  third.join();
  EXPECT_EQ(this->copier->item_status(ticket, 0), CopyStatus::kCopied);
}

TYPED_TEST_P(CopierConformance, ManyThreadsSubmitWaitAndCancel) {
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (std::uint64_t round = 0; round < 12; ++round) {
        typename TestFixture::Scene scene{{.chunks = 5}, 1000 * t + round};
        ItemLog log{5};
        auto const priority =
            round % 2 == 0 ? CopyPriority::kBackground : CopyPriority::kForeground;
        auto batch = scene.batch(CopyDirection::kEngineToSlot, priority);
        batch.on_item = log.callback();
        auto const ticket = this->submit(std::move(batch));
        if (round % 3 == 2) {
          this->copier->cancel(ticket);
        } else {
          this->wait(ticket);
          log.expect_all(CopyStatus::kCopied);
          EXPECT_TRUE(scene.all_same());
        }
        this->copier->retire(ticket);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TYPED_TEST_P(CopierConformance, RetiredBatchStillArrives) {
  typename TestFixture::Scene scene{{.chunks = 10}, 17};
  std::latch all{10};
  auto batch = scene.batch(CopyDirection::kEngineToSlot);
  batch.on_item = [&](std::uint32_t, CopyStatus) { all.count_down(); };
  this->copier->retire(this->submit(std::move(batch)));
  all.wait();
  this->copier.reset();  // the callbacks have returned, too
  EXPECT_TRUE(scene.all_same());
}

TYPED_TEST_P(CopierConformance, CallbackMaySubmitAndPoll) {
  typename TestFixture::Scene first{{.chunks = 1}, 18};
  typename TestFixture::Scene second{{.chunks = 1}, 19};
  std::latch both{2};
  std::mutex mutex;
  CopyTicket ticket;
  auto batch = first.batch(CopyDirection::kEngineToSlot);
  batch.on_item = [&](std::uint32_t, CopyStatus) {
    std::lock_guard const lock{mutex};  // the ticket is written
    auto next = second.batch(CopyDirection::kEngineToSlot);
    next.on_item = [&](std::uint32_t, CopyStatus) { both.count_down(); };
    EXPECT_FALSE(this->copier->done(ticket));
    EXPECT_TRUE(this->copier->submit(std::move(next)));
    both.count_down();
  };
  {
    std::lock_guard const lock{mutex};
    ticket = this->submit(std::move(batch));
  }
  both.wait();
  this->copier.reset();  // the callbacks have returned, too
  EXPECT_TRUE(first.all_same());
  EXPECT_TRUE(second.all_same());
}

TYPED_TEST_P(CopierConformance, DestructorDrains) {
  std::vector<std::unique_ptr<typename TestFixture::Scene>> scenes;
  std::vector<std::unique_ptr<ItemLog>> logs;
  for (std::uint64_t i = 0; i < 12; ++i) {
    scenes.push_back(std::make_unique<typename TestFixture::Scene>(SceneShape{.chunks = 3}, i));
    logs.push_back(std::make_unique<ItemLog>(3));
    auto batch =
        scenes.back()->batch(CopyDirection::kEngineToSlot,
                             i % 2 == 0 ? CopyPriority::kBackground : CopyPriority::kForeground);
    batch.on_item = logs.back()->callback();
    this->submit(std::move(batch));
  }
  this->copier.reset();
  for (auto const& log : logs) log->expect_all(CopyStatus::kCopied);
  for (auto const& scene : scenes) EXPECT_TRUE(scene->all_same());
}

TYPED_TEST_P(CopierConformance, CountsWhatWasAsked) {
  for (auto const direction : {CopyDirection::kEngineToSlot, CopyDirection::kSlotToEngine}) {
    typename TestFixture::Scene scene{{.chunks = 2}, 20};
    this->wait(this->submit(scene.batch(direction)));
  }
  auto const stats = this->copier->stats();
  EXPECT_EQ(stats.batches, 2U);
  EXPECT_EQ(stats.items, 4U);
  EXPECT_GT(stats.bytes_to_slots, 0U);
  EXPECT_EQ(stats.bytes_to_slots, stats.bytes_to_engine);
}

REGISTER_TYPED_TEST_SUITE_P(CopierConformance, RoundTripIsBitExact,
                            EveryItemIsReportedOnceBeforeTheBatchIsDone, ReportedItemIsWhole,
                            PlanesArriveInOrderAndWhole, NothingToCopy, BadBatchIsRefusedWhole,
                            UnknownTickets, WaitKeepsItsDeadline, NothingIsTouchedAfterCancel,
                            CancelWaitsForACallbackThatRuns, ManyThreadsSubmitWaitAndCancel,
                            RetiredBatchStillArrives, CallbackMaySubmitAndPoll, DestructorDrains,
                            CountsWhatWasAsked);

}  // namespace lmcache::test
