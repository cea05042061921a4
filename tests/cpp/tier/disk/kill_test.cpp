// SPDX-License-Identifier: Apache-2.0
// Processes that write chunks are killed at any moment. Whoever opens the volume then, on the same
// node or after a reboot, finds every chunk that was reported committed and not evicted since, no
// wrong byte, and no more on disk than the limit allows.
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <random>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "support/child_process.hpp"
#include "support/directory_invariants.hpp"
#include "support/disk_reports.hpp"

namespace lmcache::test {
namespace {

class KilledWriter {
 public:
  KilledWriter(std::string const& root, std::uint64_t limit_bytes, std::uint64_t choice) {
    int ends[2] = {-1, -1};
    EXPECT_EQ(::pipe(ends), 0);
    reports_ = UniqueFd{ends[0]};
    UniqueFd const write_end{ends[1]};
    ::fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    child_ = std::make_unique<ChildProcess>([&] {
      ::execl(LMC_DISK_WRITER_PATH, "tier_disk_writer", root.c_str(),
              std::to_string(limit_bytes).c_str(), std::to_string(choice).c_str(),
              std::to_string(ends[1]).c_str(), nullptr);
      return 127;
    });
  }

  // Follows it for so many reports; then kills it and reads the rest.
  [[nodiscard]] std::vector<DiskReport> follow(std::size_t reports) {
    std::vector<DiskReport> out;
    while (out.size() < reports && next(out)) {
    }
    child_->kill();
    while (next(out)) {
    }
    return out;
  }

 private:
  bool next(std::vector<DiskReport>& out) {
    DiskReport report{};
    pollfd ready{.fd = reports_.get(), .events = POLLIN, .revents = 0};
    constexpr int kAllWritten = 500;  // ms; nothing is new to it any more, or it is very slow
    if (::poll(&ready, 1, kAllWritten) != 1) return false;
    if (::read(reports_.get(), &report, sizeof report) != sizeof report) return false;
    out.push_back(report);
    return true;
  }

  UniqueFd reports_;
  std::unique_ptr<ChildProcess> child_;
};

class DiskKill : public testing::TestWithParam<bool> {
 protected:
  [[nodiscard]] static bool reboots() { return GetParam(); }
  void open() {
    tier_ = must(DiskTier::open(kill_options(folder_.path(), limit_bytes_), clock_, {}));
  }
  void forget_memory() const {
    for (auto const& file : std::filesystem::directory_iterator{folder_.path()}) {
      if (file.is_regular_file()) std::filesystem::remove(file.path());
    }
  }
  // Those that are there; fails for wrong bytes.
  [[nodiscard]] std::set<std::uint32_t> there() {
    auto const shape = kill_shape(0);
    auto const outcomes = std::make_shared<Outcomes>(kKillSeeds);
    std::vector<SlotMemory> slots;
    std::vector<DiskRead> reads;
    for (std::uint32_t seed = 0; seed < kKillSeeds; ++seed) {
      slots.emplace_back(slot_bytes_of(shape.payload_of(seed)));
      reads.push_back({.key = disk_key(seed),
                       .slot = slots.back().data(),
                       .slot_bytes = slots.back().size_bytes()});
    }
    tier_->read(std::move(reads), [outcomes](std::uint32_t item, TierOutcome outcome) {
      outcomes->set(item, outcome);
    });
    auto const results = outcomes->wait();
    std::set<std::uint32_t> out;
    for (std::uint32_t seed = 0; seed < kKillSeeds; ++seed) {
      EXPECT_NE(results[seed], TierOutcome::kCorrupt) << seed << ": its record was committed";
      if (results[seed] != TierOutcome::kDone) continue;
      EXPECT_TRUE(
          has_record({slots[seed].data(), slots[seed].size_bytes()}, seed, shape.payload_of(seed)))
          << seed;
      out.insert(seed);
    }
    return out;
  }
  void begin_anew(std::set<std::uint32_t>& expected) const {
    std::filesystem::remove_all(folder_ / "d0");
    std::filesystem::remove_all(folder_ / "d1");
    expected.clear();
  }
  [[nodiscard]] std::uint64_t bytes_on_disk() const {
    if (!std::filesystem::exists(folder_ / "d1")) return 0;
    return bytes_of_folder(folder_ / "d0") + bytes_of_folder(folder_ / "d1");
  }
  static void apply(std::vector<DiskReport> const& reports, std::set<std::uint32_t>& expected) {
    for (auto const& report : reports) {
      if (report.kind == DiskReport::Kind::kCommitted) expected.insert(report.seed);
      if (report.kind == DiskReport::Kind::kEvicted) expected.erase(report.seed);
    }
  }
  // How many of those that must be there are not.
  [[nodiscard]] std::size_t reopen_and_miss(std::set<std::uint32_t>& expected) {
    if (reboots()) forget_memory();
    EXPECT_LE(bytes_on_disk(), limit_bytes_);
    open();
    EXPECT_TRUE(tier_->loaded() || !reboots());
    auto const found = there();
    std::size_t missing = 0;
    for (auto const seed : expected) missing += found.contains(seed) ? 0 : 1;
    expected = found;
    EXPECT_TRUE(directory_is_sound(tier_->directory().state()));
    tier_.reset();
    return missing;
  }

  TempDirectory folder_;
  SystemClock clock_;
  std::uint64_t limit_bytes_ = 64u << 20;
  std::unique_ptr<DiskTier> tier_;
  std::mt19937_64 random_{99};
};

TEST_P(DiskKill, NothingCommittedIsLost) {
  std::set<std::uint32_t> expected;
  for (int round = 0; round < 75; ++round) {
    if (round % 15 == 0) begin_anew(expected);  // before all there are were written
    KilledWriter writer{folder_.path(), limit_bytes_, random_()};
    apply(writer.follow(random_() % 24), expected);
    ASSERT_EQ(reopen_and_miss(expected), 0u) << round;
  }
}

// An eviction is decided before it can be reported: the last one of each life may be unknown, and
// it may have been that of a slab.
TEST_P(DiskKill, NothingIsLostThatWasNotEvicted) {
  constexpr std::size_t kMostInASlab = (1u << 20) / (12u << 10);
  limit_bytes_ = fixed_file_bytes(2, 1024) + (3u << 20);
  std::set<std::uint32_t> expected;
  std::size_t evictions = 0;
  for (int round = 0; round < 75; ++round) {
    KilledWriter writer{folder_.path(), limit_bytes_, random_()};
    auto const reports = writer.follow(random_() % 60);
    for (auto const& report : reports) evictions += report.kind == DiskReport::Kind::kEvicted;
    apply(reports, expected);
    ASSERT_LE(reopen_and_miss(expected), kMostInASlab) << round;
  }
  EXPECT_GT(evictions, 300u);
}

TEST_P(DiskKill, TheDeathOfOneOfTwoWritersCostsNothing) {
  std::set<std::uint32_t> expected;
  std::size_t reported = 0;
  for (int round = 0; round < 20; ++round) {
    if (round % 2 == 0) begin_anew(expected);
    KilledWriter first{folder_.path(), limit_bytes_, random_()};
    KilledWriter second{folder_.path(), limit_bytes_, random_()};
    apply(first.follow(random_() % 12), expected);
    apply(second.follow(random_() % 12), expected);
    reported += expected.size();
    ASSERT_EQ(reopen_and_miss(expected), 0u) << round;
  }
  EXPECT_GT(reported, 100u);
}

INSTANTIATE_TEST_SUITE_P(Then, DiskKill, testing::Bool(), [](auto const& then) {
  return then.param ? "AReboot" : "TheSameNodeGoesOn";
});

}  // namespace
}  // namespace lmcache::test
