// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/disk/disk_tier.hpp>

#include <algorithm>
#include <cerrno>
#include <random>

#include <gtest/gtest.h>

#include "support/child_process.hpp"
#include "support/directory_invariants.hpp"
#include "support/disk_scene.hpp"
#include "support/faulty_io.hpp"
#include "support/manual_clock.hpp"

namespace lmcache::test {
namespace {

class DiskTierBy : public testing::TestWithParam<IoKind> {};

TEST_P(DiskTierBy, ReadsWhatWasWritten) {
  DiskScene scene{{.io = GetParam()}};
  scene.open();
  auto const outcomes = scene.write(seeds(0, 50));
  EXPECT_EQ(std::ranges::count(outcomes, TierOutcome::kDone), 50);
  EXPECT_EQ(scene.count_there(seeds(0, 50)), 50u);
  EXPECT_EQ(scene.read({99})[0], TierOutcome::kMissing);
}

TEST_P(DiskTierBy, FindsEverythingAfterARestart) {
  DiskScene scene{{.io = GetParam()}};
  scene.open();
  ASSERT_EQ(std::ranges::count(scene.write(seeds(0, 50)), TierOutcome::kDone), 50);
  scene.close();
  scene.open();
  EXPECT_TRUE(scene.tier().loaded());
  EXPECT_EQ(scene.count_there(seeds(0, 50)), 50u);
}

TEST_P(DiskTierBy, EvictsLeastRecentlyUsedWithinTheLimit) {
  DiskScene scene{{.payload_bytes = 200'000, .limit_bytes = 8u << 20, .io = GetParam()}};
  scene.open();
  for (std::uint64_t i = 0; i < 100; ++i) {
    ASSERT_EQ(scene.write({i})[0], TierOutcome::kDone) << i;
    std::vector<ChunkKey> const first{disk_key(0)};
    scene.tier().touch(first);
    auto const use = scene.tier().status().use;
    EXPECT_LE(use.file_bytes, use.limit_bytes);
  }
  EXPECT_GT(scene.evicted(), 50);
  EXPECT_EQ(scene.count_there({0}), 1u);
  EXPECT_EQ(scene.count_there({1}), 0u);
  EXPECT_EQ(scene.count_there({99}), 1u);
}

TEST_P(DiskTierBy, KeepsTheOrderOfUseOverARestart) {
  DiskScene scene{{.payload_bytes = 200'000, .limit_bytes = 8u << 20, .io = GetParam()}};
  scene.open();
  for (std::uint64_t i = 0; i < 20; ++i) ASSERT_EQ(scene.write({i})[0], TierOutcome::kDone);
  std::vector<ChunkKey> const first{disk_key(0)};
  scene.tier().touch(first);
  scene.close();
  scene.open();
  for (std::uint64_t i = 20; i < 50; ++i) ASSERT_EQ(scene.write({i})[0], TierOutcome::kDone);
  EXPECT_EQ(scene.count_there({0}), 1u);
  EXPECT_EQ(scene.count_there({1}), 0u);
}

TEST_P(DiskTierBy, SmallRecordsGoThroughThePageCache) {
  DiskScene scene{{.payload_bytes = 3'001, .io = GetParam()}};
  scene.open();
  ASSERT_EQ(std::ranges::count(scene.write(seeds(0, 50)), TierOutcome::kDone), 50);
  scene.close();
  scene.open();
  EXPECT_EQ(scene.count_there(seeds(0, 50)), 50u);
}

TEST_P(DiskTierBy, MixedSizesStayWithinTheLimitOnTheDiskToo) {
  DiskScene scene{{.limit_bytes = 6u << 20,
                   .io = GetParam(),
                   .sizes = {200'000, 3'001, 90'000, 500'000, 70'000}},
                  3};
  scene.open();
  std::mt19937 random{5};
  for (int step = 0; step < 60; ++step) {
    std::vector<std::uint64_t> batch;
    for (int i = 0; i < 8; ++i) batch.push_back(random() % 400);
    (void)scene.write(batch);
    (void)scene.read(batch);
    auto const use = scene.tier().status().use;
    ASSERT_LE(use.file_bytes, use.limit_bytes);
    ASSERT_LE(scene.bytes_on_disk(), use.limit_bytes) << step;
  }
  EXPECT_TRUE(directory_is_sound(scene.tier().directory().state()));
  scene.close();
  EXPECT_LE(scene.bytes_on_disk(), scene.shape().limit_bytes);
  scene.open();
  EXPECT_GT(scene.count_there(seeds(0, 400)), 10u);
  EXPECT_LE(scene.bytes_on_disk(), scene.shape().limit_bytes);
}

TEST_P(DiskTierBy, TwoOfOneProcessShareTheirChunks) {
  DiskScene scene{{.io = GetParam()}};
  scene.open();
  ASSERT_EQ(std::ranges::count(scene.write(seeds(0, 20)), TierOutcome::kDone), 20);
  auto const first = scene.release();
  scene.open();
  EXPECT_FALSE(scene.tier().loaded());
  EXPECT_EQ(scene.count_there(seeds(0, 20)), 20u);
  EXPECT_EQ(scene.write({3})[0], TierOutcome::kDuplicate);
  ASSERT_EQ(scene.write({100})[0], TierOutcome::kDone);
  ChunkKey const key = disk_key(100);
  std::optional<DiskPlace> place;
  first->find({&key, 1}, {&place, 1});
  EXPECT_TRUE(place);
}

TEST_P(DiskTierBy, TwoProcessesShareTheirChunks) {
  DiskScene scene{{.io = GetParam()}};
  Milestone written;
  Milestone seen;
  ChildProcess child{[&] {
    scene.open();
    bool const done = std::ranges::count(scene.write(seeds(0, 20)), TierOutcome::kDone) == 20;
    written.reach();
    seen.await();
    bool const theirs = scene.count_there(seeds(20, 20)) == 20;
    scene.close();
    return done && theirs ? 0 : 1;
  }};
  written.await();
  scene.open();
  EXPECT_FALSE(scene.tier().loaded());
  EXPECT_EQ(scene.count_there(seeds(0, 20)), 20u);
  EXPECT_EQ(std::ranges::count(scene.write(seeds(20, 20)), TierOutcome::kDone), 20);
  seen.reach();
  EXPECT_EQ(child.wait(), 0);
}

TEST_P(DiskTierBy, WhatIsBeingReadIsNotEvicted) {
  ManualClock clock;
  DiskScene scene{
      {.payload_bytes = 200'000, .limit_bytes = 3u << 20, .io = GetParam(), .clock = &clock}};
  FaultyIo* io = nullptr;
  auto& tier = scene.open([&](std::unique_ptr<AsyncFileIo> inner) {
    auto made = std::make_unique<FaultyIo>(std::move(inner), [](IoRequest const& request) {
      return request.op == IoOp::kRead ? IoFault::hold() : IoFault::none();
    });
    io = made.get();
    return made;
  });
  ASSERT_EQ(scene.write({1})[0], TierOutcome::kDone);
  auto const outcomes = std::make_shared<Outcomes>(1);
  SlotMemory slot{slot_bytes_of(200'000)};
  tier.read({{.key = disk_key(1), .slot = slot.data(), .slot_bytes = slot.size_bytes()}},
            [outcomes](std::uint32_t item, TierOutcome outcome) { outcomes->set(item, outcome); });
  io->wait_held(1);
  EXPECT_EQ(tier.queued_read_bytes(),
            transfer_bytes(slot_bytes_of(200'000), record_bytes(200'000, kDiskTokens)));
  for (std::uint64_t seed = 10; seed < 40; ++seed) {
    ASSERT_EQ(scene.write({seed})[0], TierOutcome::kDone);
  }
  io->release_all();
  EXPECT_EQ(outcomes->wait()[0], TierOutcome::kDone);
  EXPECT_TRUE(has_record({slot.data(), slot.size_bytes()}, 1, 200'000));
}

TEST_P(DiskTierBy, AFlippedBitIsFoundOnceAndTheChunkIsGone) {
  DiskScene scene{{.io = GetParam()}};
  bool flip = false;
  scene.open([&](std::unique_ptr<AsyncFileIo> inner) {
    return std::make_unique<FaultyIo>(std::move(inner), [&](IoRequest const& request) {
      return flip && request.op == IoOp::kRead ? IoFault::flip(70'000) : IoFault::none();
    });
  });
  ASSERT_EQ(scene.write({1})[0], TierOutcome::kDone);
  flip = true;
  EXPECT_EQ(scene.read({1})[0], TierOutcome::kCorrupt);
  EXPECT_EQ(scene.read({1})[0], TierOutcome::kMissing);
  flip = false;
  EXPECT_EQ(scene.write({1})[0], TierOutcome::kDone) << "and may be written anew";
  EXPECT_EQ(scene.count_there({1}), 1u);
  scene.close();
  scene.open();
  EXPECT_EQ(scene.count_there({1}), 1u);
}

TEST_P(DiskTierBy, ReadsThatFailAreMissesAndLeaveTheChunk) {
  ManualClock clock;
  DiskScene scene{{.io = GetParam(), .clock = &clock}};
  int os_error = EIO;
  scene.open([&](std::unique_ptr<AsyncFileIo> inner) {
    return std::make_unique<FaultyIo>(std::move(inner), [&](IoRequest const& request) {
      return request.op == IoOp::kRead ? IoFault{.kind = IoFault::Kind::kTorn,
                                                 .os_error = os_error,
                                                 .bytes = os_error == 0 ? ~0ull : 4096}
                                       : IoFault::none();
    });
  });
  ASSERT_EQ(scene.write({1})[0], TierOutcome::kDone);
  for (int i = 0; i < 30; ++i) EXPECT_EQ(scene.read({1})[0], TierOutcome::kIoError);
  EXPECT_EQ(scene.log().count("reads fail"), 3u) << "once for each eight";
  ChunkKey const key = disk_key(1);
  std::optional<DiskPlace> place;
  scene.tier().find({&key, 1}, {&place, 1});
  EXPECT_FALSE(place) << "nobody is sent there for a minute";
  clock.advance_seconds(61);
  os_error = 0;
  scene.tier().find({&key, 1}, {&place, 1});
  EXPECT_TRUE(place);
  EXPECT_EQ(scene.count_there({1}), 1u);
}

TEST_P(DiskTierBy, ASlotTooSmallForTheChunkIsAMiss) {
  DiskScene scene{{.io = GetParam()}};
  auto& tier = scene.open();
  ASSERT_EQ(scene.write({1})[0], TierOutcome::kDone);
  SlotMemory slot{64u << 10};
  auto const outcomes = std::make_shared<Outcomes>(1);
  tier.read({{.key = disk_key(1), .slot = slot.data(), .slot_bytes = slot.size_bytes()}},
            [outcomes](std::uint32_t item, TierOutcome outcome) { outcomes->set(item, outcome); });
  EXPECT_EQ(outcomes->wait()[0], TierOutcome::kMissing);
  EXPECT_EQ(scene.count_there({1}), 1u) << "others may read it";
}

TEST_P(DiskTierBy, AnExpiredChunkIsGone) {
  ManualClock clock;
  DiskScene scene{{.io = GetParam(), .clock = &clock}};
  auto& tier = scene.open();
  SlotMemory slot{slot_bytes_of(100'000)};
  fill_record({slot.data(), slot.size_bytes()}, 1, 100'000);
  auto header = peek_header({slot.data(), slot.size_bytes()});
  header.expires_unix_s = static_cast<std::uint32_t>(clock.unix_seconds() + 60);
  std::memcpy(slot.data(), &header, sizeof header);
  auto const outcomes = std::make_shared<Outcomes>(1);
  tier.write({.key = disk_key(1), .slot = slot.data(), .slot_bytes = slot.size_bytes()},
             [outcomes](TierOutcome outcome) { outcomes->set(0, outcome); });
  ASSERT_EQ(outcomes->wait()[0], TierOutcome::kDone);
  EXPECT_EQ(scene.count_there({1}), 1u);
  scene.close();
  scene.open();
  EXPECT_EQ(scene.count_there({1}), 1u);
  clock.advance_seconds(60);
  EXPECT_EQ(scene.read({1})[0], TierOutcome::kMissing);
  EXPECT_EQ(scene.write({1})[0], TierOutcome::kDone);
}

TEST_P(DiskTierBy, ALimitOfTheRateIsKeptAndDoesNotHoldUpTheEnd) {
  DiskScene scene{{.io = GetParam()}};
  auto options = scene.options();
  options.bytes_per_second = 100u << 20;
  scene.open(options);
  ASSERT_EQ(std::ranges::count(scene.write(seeds(0, 20)), TierOutcome::kDone), 20);
  EXPECT_EQ(scene.count_there(seeds(0, 20)), 20u);
}

TEST_P(DiskTierBy, ModelsAndTheirSpeedsAreRemembered) {
  DiskScene scene{{.io = GetParam()}};
  scene.open();
  ModelRecord record{};
  record.root = disk_key(1);
  record.model = {"a model"};
  scene.tier().describe_model(record);
  record.prefill_ps_per_token = 500;
  scene.tier().describe_model(record);
  record.prefill_ps_per_token = 0;
  scene.tier().describe_model(record);
  scene.close();
  scene.open();
  auto const models = scene.tier().models();
  ASSERT_EQ(models.size(), 1u);
  EXPECT_EQ(models[0].prefill_ps_per_token, 500u);
  EXPECT_STREQ(models[0].model.data(), "a model");
}

TEST_P(DiskTierBy, ItsStatusSaysWhatThereIs) {
  DiskScene scene{{.io = GetParam()}, 2};
  scene.open();
  ASSERT_EQ(std::ranges::count(scene.write(seeds(0, 20)), TierOutcome::kDone), 20);
  auto const status = scene.tier().status();
  EXPECT_EQ(status.use.chunks, 20u);
  EXPECT_EQ(status.use.used_bytes, 2'000'000u);
  EXPECT_EQ(status.use.folders, 2u);
  EXPECT_EQ(status.folders, (std::vector<std::string>{scene.path(0), scene.path(1)}));
  EXPECT_EQ(status.engine, GetParam() == IoKind::kUring ? "io_uring" : "threads");
  EXPECT_TRUE(std::filesystem::exists(status.directory));
  EXPECT_GT(scene.tier().status().use.write_bytes_per_s, 0u);
  EXPECT_EQ(scene.count_there(seeds(0, 20)), 20u);
  EXPECT_GT(scene.tier().read_bytes_per_s(), 0u);
}

INSTANTIATE_TEST_SUITE_P(Engines, DiskTierBy, testing::Values(IoKind::kUring, IoKind::kThreads),
                         [](auto const& kind) {
                           return kind.param == IoKind::kUring ? "Uring" : "Threads";
                         });

}  // namespace
}  // namespace lmcache::test
