// SPDX-License-Identifier: Apache-2.0
// What a machine does to a disk cache that works: no room, no inodes, no descriptors, a folder that
// goes away. Nothing committed is lost but what cannot be there, nothing hangs, and it is said
// once.
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <thread>

#include <gtest/gtest.h>

#include "support/child_process.hpp"
#include "support/directory_invariants.hpp"
#include "support/disk_scene.hpp"
#include "support/faulty_io.hpp"
#include "support/manual_clock.hpp"

namespace lmcache::test {
namespace {

namespace fs = std::filesystem;
using Outcome = TierOutcome;

class DiskFaults : public testing::Test {
 protected:
  [[nodiscard]] std::size_t write_all(std::uint64_t first, std::uint64_t count) {
    return static_cast<std::size_t>(
        std::ranges::count(scene_.write(seeds(first, count)), Outcome::kDone));
  }
  [[nodiscard]] DiskOptions options_in(std::string const& folder) const {
    auto options = scene_.options();
    options.volume.folders = {folder};
    return options;
  }
  void expect_sound() {
    EXPECT_TRUE(directory_is_sound(scene_.tier().directory().state()));
    EXPECT_TRUE(directory_is_at_rest(scene_.tier().directory().state()));
  }

  ManualClock clock_;
  DiskScene scene_{{.payload_bytes = 100'000, .limit_bytes = 32u << 20, .clock = &clock_}};
};

TEST_F(DiskFaults, AFileSystemThatFillsUpIsGoneOnWith) {
  TempMount const mount{{"tmpfs", "size=6m"}};
  if (!mount) GTEST_SKIP() << mount.why();
  auto const options = options_in(mount.directory() / "cache");
  scene_.open(options);
  for (std::uint64_t i = 0; i < 10; ++i) EXPECT_EQ(write_all(10 * i, 10), 10u) << i;
  EXPECT_EQ(scene_.log().count("goes on with the room that it has"), 1u);
  EXPECT_GT(scene_.evicted(), 0);
  auto const use = scene_.tier().status().use;
  EXPECT_EQ(use.file_bytes, use.limit_bytes);
  EXPECT_EQ(scene_.count_there(seeds(0, 100)), use.chunks);
  EXPECT_GT(use.chunks, 30u);
  expect_sound();
  scene_.close();
  scene_.open(options);
  EXPECT_EQ(scene_.count_there(seeds(0, 100)), use.chunks);
}

TEST_F(DiskFaults, NoRoomForTheIndexIsAnErrorAtTheStart) {
  TempMount const mount{{"tmpfs", "size=64k"}};
  if (!mount) GTEST_SKIP() << mount.why();
  auto const opened = DiskTier::open(options_in(mount.directory() / "cache"), clock_, {});
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code(), ErrorCode::kOutOfMemory);
}

TEST_F(DiskFaults, AFullTableOfInodesIsGoneOnWith) {
  // For its root, the folder, volume, index, and one or two slabs.
  TempMount const mount{{"tmpfs", "size=20m,nr_inodes=6"}};
  if (!mount) GTEST_SKIP() << mount.why();
  scene_.open(options_in(mount.directory() / "cache"));
  for (std::uint64_t i = 0; i < 5; ++i) EXPECT_EQ(write_all(10 * i, 10), 10u) << i;
  EXPECT_LE(scene_.tier().status().use.slabs, 2u);
  EXPECT_EQ(scene_.log().count("goes on with the room that it has"), 1u);
  EXPECT_EQ(scene_.count_there(seeds(40, 10)), 10u);
  expect_sound();
}

TEST_F(DiskFaults, AFolderDeletedUnderUsCostsWhatIsToCome) {
  scene_.open();
  ASSERT_EQ(write_all(0, 5), 5u);
  fs::remove_all(scene_.path());
  EXPECT_EQ(scene_.count_there(seeds(0, 5)), 5u) << "their file is open";
  for (std::uint64_t i = 10; i < 60; ++i) (void)scene_.write({i});
  EXPECT_EQ(scene_.log().count("writes pause for a minute"), 1u);
  expect_sound();
  scene_.close();
  scene_.open();
  EXPECT_EQ(scene_.count_there(seeds(0, 60)), 0u);
  EXPECT_EQ(write_all(0, 5), 5u);
}

TEST_F(DiskFaults, ASlabDeletedUnderAnotherProcessIsAnError) {
  scene_.open();
  ASSERT_EQ(write_all(0, 5), 5u);
  auto const first = scene_.release();  // keeps the directory
  fs::remove(scene_.path() + "/slab-0");
  scene_.open();
  for (auto const outcome : scene_.read(seeds(0, 5))) EXPECT_EQ(outcome, Outcome::kIoError);
  expect_sound();
}

TEST_F(DiskFaults, AReadOnlyFileSystemIsRefusedAtTheStart) {
  TempMount const mount{{"tmpfs", "size=20m"}};
  if (!mount) GTEST_SKIP() << mount.why();
  auto const options = options_in(mount.directory() / "cache");
  scene_.open(options);
  ASSERT_EQ(write_all(0, 5), 5u);
  scene_.close();
  auto const remount = [&](unsigned long flags) {
    return ::mount(nullptr, mount.directory().path().c_str(), nullptr, MS_REMOUNT | flags, nullptr);
  };
  ASSERT_EQ(remount(MS_RDONLY), 0);
  auto const opened = DiskTier::open(options, clock_, {});
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().os_error(), EROFS);
  ASSERT_EQ(remount(0), 0);
  scene_.open(options);
  EXPECT_EQ(scene_.count_there(seeds(0, 5)), 5u);
}

// In a process of its own: the limit is that of a process.
TEST_F(DiskFaults, WithoutDescriptorsNothingIsLost) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the sanitizer opens a pipe to look at an object, and takes a refusal for a bug";
#endif
  ChildProcess child{[&] {
    scene_.open();
    if (write_all(0, 5) != 5) return 1;
    scene_.close();
    scene_.open();
    rlimit before{};
    ::getrlimit(RLIMIT_NOFILE, &before);
    rlimit const none{.rlim_cur = 0, .rlim_max = before.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &none);
    auto const reads = scene_.read(seeds(0, 5));
    auto const writes = scene_.write(seeds(10, 20));
    ::setrlimit(RLIMIT_NOFILE, &before);
    if (std::ranges::count(reads, Outcome::kIoError) != 5) return 2;
    if (std::ranges::count(writes, Outcome::kIoError) != 20) return 3;
    if (scene_.log().count("pause for a minute") != 1) return 4;
    clock_.advance_seconds(61);
    if (scene_.count_there(seeds(0, 5)) != 5) return 5;
    if (write_all(10, 20) != 20) return 6;
    scene_.close();
    return 0;
  }};
  EXPECT_EQ(child.wait(), 0);
}

TEST_F(DiskFaults, ClosingWithReadsAndWritesUnderWayAnswersAll) {
  FaultyIo* io = nullptr;
  auto& tier = scene_.open([&](std::unique_ptr<AsyncFileIo> inner) {
    auto made = std::make_unique<FaultyIo>(std::move(inner), nullptr);
    io = made.get();
    return made;
  });
  ASSERT_EQ(write_all(0, 10), 10u);
  io->set_plan([](IoRequest const&) { return IoFault::hold(); });
  auto const outcomes = std::make_shared<Outcomes>(20);
  std::vector<std::unique_ptr<SlotMemory>> slots;
  std::vector<DiskRead> reads;
  for (std::uint32_t i = 0; i < 20; ++i) {
    slots.push_back(std::make_unique<SlotMemory>(slot_bytes_of(100'000)));
    auto const& slot = *slots.back();
    if (i < 10) {
      reads.push_back({.key = disk_key(i), .slot = slot.data(), .slot_bytes = slot.size_bytes()});
      continue;
    }
    fill_record({slot.data(), slot.size_bytes()}, i, 100'000);
    tier.write({.key = disk_key(i), .slot = slot.data(), .slot_bytes = slot.size_bytes()},
               [outcomes, i](Outcome outcome) { outcomes->set(i, outcome); });
  }
  tier.read(std::move(reads),
            [outcomes](std::uint32_t item, Outcome outcome) { outcomes->set(item, outcome); });
  io->wait_held(20);
  for (int i = 0; i < 10; ++i) io->release();  // some of either
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
  auto const all = outcomes->wait();
  EXPECT_EQ(std::ranges::count(all, Outcome::kDone), 10);
  EXPECT_EQ(std::ranges::count(all, Outcome::kClosed), 10);
  scene_.open();
  for (std::uint32_t i = 0; i < 20; ++i) {
    bool const there = i < 10 || all[i] == Outcome::kDone;
    EXPECT_EQ(scene_.count_there({i}), there ? 1u : 0u) << i;
  }
  expect_sound();
}

}  // namespace
}  // namespace lmcache::test
