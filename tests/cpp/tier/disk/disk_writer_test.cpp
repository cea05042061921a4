// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cerrno>
#include <thread>

#include <gtest/gtest.h>

#include <lmcache/tier/disk/disk_tier.hpp>

#include "support/directory_invariants.hpp"
#include "support/disk_scene.hpp"
#include "support/faulty_io.hpp"
#include "support/manual_clock.hpp"

namespace lmcache::test {
namespace {

using Outcome = TierOutcome;

class DiskWriter : public testing::Test {
 protected:
  DiskTier& open(IoFaultPlan plan = {}) {
    return scene_.open([&](std::unique_ptr<AsyncFileIo> inner) {
      auto made = std::make_unique<FaultyIo>(std::move(inner), std::move(plan));
      io_ = made.get();
      return made;
    });
  }
  [[nodiscard]] DirectoryState& state() { return scene_.tier().directory().state(); }

  ManualClock clock_;
  DiskScene scene_{{.payload_bytes = 100'000, .limit_bytes = 8u << 20, .clock = &clock_}};
  FaultyIo* io_ = nullptr;
};

IoFault fail_writes(IoRequest const& request) {
  return request.op == IoOp::kWrite ? IoFault::error(EIO) : IoFault::none();
}

TEST_F(DiskWriter, WhatIsThereIsNotWrittenAgain) {
  open();
  EXPECT_EQ(scene_.write({1, 1, 2}),
            (std::vector{Outcome::kDone, Outcome::kDuplicate, Outcome::kDone}));
  EXPECT_EQ(scene_.write({1})[0], Outcome::kDuplicate);
  EXPECT_EQ(scene_.count_there({1, 2}), 2u);
}

TEST_F(DiskWriter, ARecordOfAnotherKeyOrLongerThanItsSlotIsNotWritten) {
  auto& tier = open();
  SlotMemory slot{slot_bytes_of(100'000)};
  auto const outcome_of = [&](ChunkKey const& key) {
    auto const outcomes = std::make_shared<Outcomes>(1);
    tier.write({.key = key, .slot = slot.data(), .slot_bytes = slot.size_bytes()},
               [outcomes](Outcome outcome) { outcomes->set(0, outcome); });
    return outcomes->wait()[0];
  };
  fill_record({slot.data(), slot.size_bytes()}, 1, 100'000);
  EXPECT_EQ(outcome_of(disk_key(2)), Outcome::kMissing);
  auto header = peek_header({slot.data(), slot.size_bytes()});
  header.payload_bytes = slot.size_bytes();
  std::memcpy(slot.data(), &header, sizeof header);
  EXPECT_EQ(outcome_of(disk_key(1)), Outcome::kMissing);
  EXPECT_TRUE(directory_is_at_rest(state()));
}

TEST_F(DiskWriter, WhatIsLargerThanTheVolumeHasNoSpace) {
  DiskScene scene{{.payload_bytes = 9u << 20, .limit_bytes = 8u << 20}};
  scene.open();
  EXPECT_EQ(scene.write({1})[0], Outcome::kNoSpace);
}

TEST_F(DiskWriter, AFailedWriteLeavesNothingAndThePlaceIsUsedAgain) {
  int writes = 0;
  open([&](IoRequest const& request) {
    return request.op == IoOp::kWrite && ++writes == 2 ? IoFault::error(EIO) : IoFault::none();
  });
  EXPECT_EQ(scene_.write({1})[0], Outcome::kDone);
  EXPECT_EQ(scene_.write({2})[0], Outcome::kIoError);
  EXPECT_EQ(scene_.read({2})[0], Outcome::kMissing);
  EXPECT_EQ(scene_.write({2})[0], Outcome::kDone);
  EXPECT_EQ(scene_.count_there({1, 2}), 2u);
  EXPECT_TRUE(directory_is_sound(state()));
  EXPECT_TRUE(directory_is_at_rest(state()));
}

TEST_F(DiskWriter, ATornWriteIsNoChunkAfterARestart) {
  open([](IoRequest const& request) {
    return request.op == IoOp::kWrite ? IoFault::torn(kDiskPageBytes, EIO) : IoFault::none();
  });
  EXPECT_EQ(scene_.write({1})[0], Outcome::kIoError);
  scene_.close();
  open();
  EXPECT_EQ(scene_.read({1})[0], Outcome::kMissing);
}

TEST_F(DiskWriter, AWriteThatWasNotWhatItSaidIsFoundOut) {
  open([](IoRequest const& request) {
    return request.op == IoOp::kWrite ? IoFault::torn(kDiskPageBytes, 0) : IoFault::none();
  });
  EXPECT_EQ(scene_.write({1})[0], Outcome::kDone) << "so the device says";
  EXPECT_EQ(scene_.read({1})[0], Outcome::kCorrupt);
  EXPECT_EQ(scene_.read({1})[0], Outcome::kMissing);
}

TEST_F(DiskWriter, AFailureInTheMiddleOfABatchLetsTheOthersPass) {
  int writes = 0;
  open([&](IoRequest const& request) {
    return request.op == IoOp::kWrite && ++writes % 5 == 3 ? IoFault::error(EIO) : IoFault::none();
  });
  auto const outcomes = scene_.write(seeds(0, 20));
  EXPECT_EQ(std::ranges::count(outcomes, Outcome::kDone), 16);
  EXPECT_EQ(std::ranges::count(outcomes, Outcome::kIoError), 4);
  EXPECT_EQ(scene_.count_there(seeds(0, 20)), 16u);
  EXPECT_TRUE(directory_is_sound(state()));
}

TEST_F(DiskWriter, ADeviceThatFailsIsLeftAloneForAMinuteAndSaysSoOnce) {
  open(fail_writes);
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    EXPECT_EQ(scene_.write({seed})[0], Outcome::kIoError);
  }
  EXPECT_EQ(scene_.log().count("writes pause for a minute"), 1u);
  io_->set_plan({});
  EXPECT_EQ(scene_.write({1})[0], Outcome::kIoError) << "still paused";
  clock_.advance_seconds(61);
  EXPECT_EQ(scene_.write({1})[0], Outcome::kDone);
  EXPECT_EQ(scene_.count_there({1}), 1u);
}

TEST_F(DiskWriter, NoSpaceOnTheDeviceSaysSo) {
  open([](IoRequest const& request) {
    return request.op == IoOp::kWrite ? IoFault::error(ENOSPC) : IoFault::none();
  });
  EXPECT_EQ(scene_.write({1})[0], Outcome::kNoSpace);
}

TEST_F(DiskWriter, ClearedRecordsAreFreedBeforeTheirSlotsAreUsedAgain) {
  open();
  auto const first = seeds(0, 60);
  ASSERT_EQ(std::ranges::count(scene_.write(first), Outcome::kDone), 60);
  // Writes race with the freeing of what was cleared: each one that is done must stay.
  EXPECT_EQ(scene_.tier().clear(), 60u);
  auto const second = seeds(100, 60);
  ASSERT_EQ(std::ranges::count(scene_.write(second), Outcome::kDone), 60);
  ASSERT_TRUE(scene_.tier().drain(std::chrono::seconds{30}));
  EXPECT_TRUE(directory_is_at_rest(state()));
  scene_.close();
  open();
  EXPECT_EQ(scene_.count_there(second), 60u);
  EXPECT_EQ(scene_.count_there(first), 0u);
}

TEST_F(DiskWriter, ClosingFinishesWhatWasHandedOver) {
  auto const outcomes = std::make_shared<Outcomes>(30);
  std::vector<std::unique_ptr<SlotMemory>> slots;
  auto& tier = open();
  for (std::uint32_t i = 0; i < 30; ++i) {
    slots.push_back(std::make_unique<SlotMemory>(slot_bytes_of(100'000)));
    fill_record({slots[i]->data(), slots[i]->size_bytes()}, i, 100'000);
    tier.write({.key = disk_key(i), .slot = slots[i]->data(), .slot_bytes = slots[i]->size_bytes()},
               [outcomes, i](Outcome outcome) { outcomes->set(i, outcome); });
  }
  scene_.close();
  EXPECT_EQ(std::ranges::count(outcomes->wait(), Outcome::kDone), 30);
  open();
  EXPECT_EQ(scene_.count_there(seeds(0, 30)), 30u);
}

// A device that answers no more: after 5 s all is answered, nothing half is kept.
TEST_F(DiskWriter, ClosingDoesNotWaitForEver) {
  auto& tier = open([](IoRequest const& request) {
    return request.op == IoOp::kWrite ? IoFault::hold() : IoFault::none();
  });
  auto const outcomes = std::make_shared<Outcomes>(3);
  std::vector<std::unique_ptr<SlotMemory>> slots;
  for (std::uint32_t i = 0; i < 3; ++i) {
    slots.push_back(std::make_unique<SlotMemory>(slot_bytes_of(100'000)));
    fill_record({slots[i]->data(), slots[i]->size_bytes()}, i, 100'000);
    tier.write({.key = disk_key(i), .slot = slots[i]->data(), .slot_bytes = slots[i]->size_bytes()},
               [outcomes, i](Outcome outcome) { outcomes->set(i, outcome); });
  }
  io_->wait_held(3);
  std::atomic<bool> closed{false};
  std::thread time{[&] {
    while (!closed) {
      clock_.advance_seconds(1);
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
  }};
  scene_.close();
  closed = true;
  time.join();
  EXPECT_EQ(std::ranges::count(outcomes->wait(), Outcome::kClosed), 3);
  open();
  EXPECT_EQ(scene_.count_there(seeds(0, 3)), 0u);
}

TEST_F(DiskWriter, TheOrderOfUseIsWrittenNowAndThen) {
  auto options = scene_.options();
  options.checkpoint_every = std::chrono::milliseconds{1};
  auto& tier = scene_.open(options);
  ASSERT_EQ(scene_.write({1})[0], Outcome::kDone);
  auto const order = [&] { return must(tier.files().read_order()); };
  auto const deadline = std::chrono::steady_clock::now() + std::chrono::seconds{30};
  while (order().now == 0 && std::chrono::steady_clock::now() < deadline) {
    clock_.advance_seconds(1);
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  EXPECT_GT(order().now, 0u);
}

TEST_F(DiskWriter, DurableWritesAreReadBackToo) {
  DiskScene scene{{.payload_bytes = 100'000, .durability = Durability::kData}};
  scene.open();
  ASSERT_EQ(std::ranges::count(scene.write(seeds(0, 20)), Outcome::kDone), 20);
  scene.close();
  scene.open();
  EXPECT_EQ(scene.count_there(seeds(0, 20)), 20u);
}

}  // namespace
}  // namespace lmcache::test
