// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

#include <gtest/gtest.h>

#include <lmcache/tier/disk/disk_tier.hpp>

#include "support/directory_invariants.hpp"
#include "support/disk_scene.hpp"
#include "support/faulty_io.hpp"
#include "support/manual_clock.hpp"

namespace lmcache::test {
namespace {

class SpeedProbe : public testing::Test {
 protected:
  DiskTier& open() {
    return scene_.open([this](std::unique_ptr<AsyncFileIo> inner) {
      return std::make_unique<FaultyIo>(std::move(inner), [this](IoRequest const& request) {
        if (request.op == IoOp::kRead) read_bytes_ += request.size_bytes;
        return IoFault::none();
      });
    });
  }
  // Lets time pass until it is so, for a minute of ours at most.
  [[nodiscard]] bool comes_true(std::function<bool()> const& so) {
    auto const deadline = std::chrono::steady_clock::now() + std::chrono::minutes{1};
    while (!so()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      clock_.advance_seconds(1);
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
    return true;
  }
  // So long that the tier's thread, which each write wakes, looks after its house several times.
  void let_pass(int seconds) {
    for (int i = 0; i < 2 * seconds; ++i) {
      (void)scene_.write({1000});  // wakes it; there already
      clock_.advance_seconds(1);
    }
  }

  std::atomic<std::uint64_t> read_bytes_{0};
  ManualClock clock_;
  DiskScene scene_{{.payload_bytes = 1'000'000, .limit_bytes = 64u << 20, .clock = &clock_}};
};

TEST_F(SpeedProbe, ReadsALittleBeforeAnybodyAsks) {
  auto& tier = open();
  ASSERT_EQ(std::ranges::count(scene_.write(seeds(0, 30)), TierOutcome::kDone), 30);
  EXPECT_TRUE(comes_true([&] { return tier.read_bytes_per_s() != 0; }));
  EXPECT_GE(read_bytes_, 1'000'000u);
  EXPECT_EQ(scene_.count_there(seeds(0, 30)), 30u) << "and spoils nothing";
  scene_.close();
}

TEST_F(SpeedProbe, AsksAgainOnlyWhenTheSpeedIsDoubted) {
  auto& tier = open();
  ASSERT_EQ(std::ranges::count(scene_.write(seeds(0, 5)), TierOutcome::kDone), 5);
  ASSERT_EQ(scene_.write({1000})[0], TierOutcome::kDone);
  ASSERT_TRUE(comes_true([&] { return tier.read_bytes_per_s() != 0; }));
  ASSERT_TRUE(comes_true([&] { return tier.queued_read_bytes() == 0; }));
  auto const before = read_bytes_.load();
  let_pass(10);
  EXPECT_EQ(read_bytes_, before);
  tier.doubt_speed();
  EXPECT_TRUE(comes_true([&] { return read_bytes_ > before; }));
}

TEST_F(SpeedProbe, TellsWhatItFoundDamaged) {
  open();
  ASSERT_EQ(std::ranges::count(scene_.write(seeds(0, 5)), TierOutcome::kDone), 5);
  scene_.close();
  for (auto const& file : std::filesystem::directory_iterator{scene_.options().volume.folders[0]}) {
    if (!file.path().filename().string().starts_with("slab-")) continue;
    auto const size_bytes = std::filesystem::file_size(file);
    std::ofstream{file.path(), std::ios::trunc}.close();
    std::filesystem::resize_file(file, size_bytes);
  }
  open().doubt_speed();
  EXPECT_TRUE(comes_true([&] { return scene_.damaged() == 5; }));
  EXPECT_EQ(scene_.count_there(seeds(0, 5)), 0u);
}

TEST_F(SpeedProbe, LeasesNothingForGood) {
  auto& tier = open();
  ASSERT_EQ(std::ranges::count(scene_.write(seeds(0, 5)), TierOutcome::kDone), 5);
  ASSERT_TRUE(comes_true([&] { return read_bytes_ != 0 && tier.queued_read_bytes() == 0; }));
  ASSERT_TRUE(comes_true(
      [&] { return static_cast<bool>(directory_is_at_rest(tier.directory().state())); }));
}

}  // namespace
}  // namespace lmcache::test
