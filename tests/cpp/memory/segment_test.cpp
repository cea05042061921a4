// SPDX-License-Identifier: Apache-2.0
// What a segment is: its layout, and one memory for all that open it. See also
// segment_refusal_test.cpp (what is not opened) and segment_space_test.cpp (memory that is not
// there).
#include <lmcache/memory/segment.hpp>

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "memory/segment_scene.hpp"
#include "support/child_process.hpp"
#include "support/temp_directory.hpp"

namespace lmcache {
namespace {

using namespace std::chrono_literals;
using test::ChildProcess;
using test::kExtent;
using test::Milestone;
using test::open_segment;
using test::small_segment;
using test::TempDirectory;

Region region_at(std::size_t index) { return static_cast<Region>(index); }

TEST(Segment, RegionsAndPayloadLieApartAndAligned) {
  TempDirectory const directory;
  auto const options = small_segment(directory);
  auto const segment = open_segment(options).value();
  auto const* const base = reinterpret_cast<std::byte const*>(&segment->header());
  std::uint64_t end = sizeof(SegmentHeader);
  for (std::size_t i = 0; i < kRegionCount; ++i) {
    auto const region = segment->region(region_at(i));
    auto const offset = static_cast<std::uint64_t>(region.data() - base);
    EXPECT_EQ(offset % kPageBytes, 0U) << i;
    EXPECT_GE(offset, end) << i;
    EXPECT_GE(region.size(), options.regions[i].size_bytes) << i;
    end = offset + region.size();
  }
  auto const payload = static_cast<std::uint64_t>(segment->payload(0) - base);
  EXPECT_GE(payload, end);
  EXPECT_EQ(payload % kExtentAlignBytes, 0U);
  EXPECT_EQ(segment->header().payload_offset, payload);
  EXPECT_EQ(segment->header().file_bytes, payload + 4 * kExtent);
  EXPECT_EQ(segment->payload(3 * kExtent + 5) - segment->payload(0),
            static_cast<std::ptrdiff_t>(3 * kExtent + 5));
}

TEST(Segment, HeaderOfANewOne) {
  TempDirectory const directory;
  auto options = small_segment(directory);
  options.payload_bytes += kExtent / 2;  // no room for a fifth
  options.extent_bytes -= 4095;          // rounded up
  options.remove_when_unused = true;
  auto const segment = open_segment(options).value();
  auto const& header = segment->header();
  EXPECT_TRUE(segment->created());
  EXPECT_EQ(segment->path(),
            directory / ("lmcache-" + std::to_string(::geteuid()) + "-" + options.name));
  EXPECT_EQ(header.magic, kSegmentMagic);
  EXPECT_EQ(std::string(reinterpret_cast<char const*>(&header.magic), 8), "LMCache1");
  EXPECT_EQ(header.layout_version, kSegmentLayoutVersion);
  EXPECT_EQ(header.owner_uid, ::geteuid());
  EXPECT_EQ(header.extent_bytes, kExtent);
  EXPECT_EQ(header.extent_count, 4U);
  EXPECT_EQ(header.usable_extents.load(), 4U);
  EXPECT_EQ(header.remove_when_unused, 1U);
  EXPECT_EQ(header.closed.load(), 0U);
  EXPECT_NEAR(static_cast<double>(header.created_unix_s), static_cast<double>(::time(nullptr)), 5);
  EXPECT_EQ(header.departed.snapshot().lookups, 0U);
  EXPECT_EQ(segment->capacity_bytes(), 4 * kExtent);
  segment->header().usable_extents = 3;
  EXPECT_EQ(segment->capacity_bytes(), 3 * kExtent);
}

TEST(Segment, BeginsZeroed) {
  TempDirectory const directory;
  auto const segment = open_segment(small_segment(directory)).value();
  auto const zero = [](std::byte byte) { return byte == std::byte{0}; };
  for (std::size_t i = 0; i < kRegionCount; ++i) {
    EXPECT_TRUE(std::ranges::all_of(segment->region(region_at(i)), zero)) << i;
  }
}

TEST(Segment, APrivateOneHasNoNameAndIsNotShared) {
  TempDirectory const directory;
  auto const options = small_segment(directory, "");
  auto const first = open_segment(options).value();
  auto const second = open_segment(options).value();
  EXPECT_TRUE(first->created());
  EXPECT_TRUE(second->created());
  EXPECT_EQ(first->path(), "");
  ASSERT_TRUE(first->reserve_extent(0));
  first->payload(0)[0] = std::byte{1};
  ASSERT_TRUE(second->reserve_extent(0));
  EXPECT_EQ(second->payload(0)[0], std::byte{0});
  first->unlink();
  EXPECT_EQ(directory.file_count(), 0U);
}

TEST(Segment, TheSecondToOpenItSeesTheSameBytes) {
  TempDirectory const directory;
  auto options = small_segment(directory);
  auto const first = open_segment(options).value();
  options.payload_bytes *= 3;  // what exists stays as it is
  options.extent_bytes *= 2;
  auto const second = open_segment(options).value();
  EXPECT_FALSE(second->created());
  EXPECT_EQ(second->path(), first->path());
  EXPECT_NE(&second->header(), &first->header());
  EXPECT_EQ(second->header().extent_count, 4U);
  EXPECT_EQ(second->header().extent_bytes, kExtent);
  ASSERT_TRUE(first->reserve_extent(3));
  first->payload(3 * kExtent)[7] = std::byte{42};
  EXPECT_EQ(second->payload(3 * kExtent)[7], std::byte{42});
  second->region(Region::kSpace)[1] = std::byte{43};
  EXPECT_EQ(first->region(Region::kSpace)[1], std::byte{43});
}

TEST(Segment, OutlivesThoseWhoOpenedIt) {
  TempDirectory const directory;
  auto const options = small_segment(directory);
  {
    auto const segment = open_segment(options).value();
    ASSERT_TRUE(segment->reserve_extent(0));
    std::strcpy(reinterpret_cast<char*>(segment->payload(0)), "warm");
  }
  auto const again = open_segment(options).value();
  EXPECT_FALSE(again->created());
  EXPECT_STREQ(reinterpret_cast<char const*>(again->payload(0)), "warm");
  auto const attached = Segment::attach(again->path()).value();
  EXPECT_FALSE(attached->created());
  EXPECT_STREQ(reinterpret_cast<char const*>(attached->payload(0)), "warm");
}

TEST(Segment, AnAbsolutePathNeedsNoFolder) {
  TempDirectory const directory;
  auto options = small_segment(directory, directory / "anywhere");
  options.directory = "/no/such/folder";
  auto const segment = open_segment(options).value();
  EXPECT_EQ(segment->path(), directory / "anywhere");
  EXPECT_TRUE(test::exists(directory / "anywhere"));
}

struct Filling {
  std::string path;
  int calls = 0;
  bool visible = false;
  bool fails = false;
};

Result<void> fill(Segment& fresh, void* context) {
  auto& filling = *static_cast<Filling*>(context);
  ++filling.calls;
  filling.visible = test::exists(filling.path);
  if (filling.fails) return Error{ErrorCode::kInternal, "cannot fill"};
  fresh.region(Region::kSpace)[0] = std::byte{7};
  return {};
}

TEST(Segment, IsFilledOnceBeforeAnybodySeesIt) {
  TempDirectory const directory;
  auto const options = small_segment(directory, directory / "a");
  Filling filling{.path = directory / "a"};
  auto const first = Segment::open_or_create(options, &fill, &filling, {}).value();
  EXPECT_FALSE(filling.visible);
  auto const second = Segment::open_or_create(options, &fill, &filling, {}).value();
  EXPECT_EQ(filling.calls, 1);
  EXPECT_EQ(second->region(Region::kSpace)[0], std::byte{7});
}

TEST(Segment, OneThatCannotBeFilledIsNotThere) {
  TempDirectory const directory;
  auto const options = small_segment(directory, directory / "a");
  Filling filling{.path = directory / "a", .fails = true};
  test::expect_error(Segment::open_or_create(options, &fill, &filling, {}), ErrorCode::kInternal,
                     "cannot fill");
  EXPECT_EQ(directory.file_count(), 0U);
  filling.fails = false;
  EXPECT_TRUE(Segment::open_or_create(options, &fill, &filling, {}).value()->created());
}

TEST(Segment, ACreatorKilledWhileFillingLeavesNothing) {
  TempDirectory const directory;
  auto const options = small_segment(directory);
  Milestone filling;
  ChildProcess child{[&]() -> int {
    auto const wait_in_it = [](Segment&, void* context) -> Result<void> {
      static_cast<Milestone*>(context)->reach();
      test::wait_to_be_killed();
    };
    (void)Segment::open_or_create(options, wait_in_it, &filling, {});
    return 1;
  }};
  filling.await();
  child.kill();
  EXPECT_EQ(child.wait(), 256 + SIGKILL);
  EXPECT_EQ(directory.file_count(), 0U);
  EXPECT_TRUE(open_segment(options).value()->created());
}

TEST(Segment, OfManyThatCreateItAtOnceOneDoes) {
  constexpr int kProcesses = 8;
  constexpr int kRounds = 10;
  constexpr int kCreated = 1;
  constexpr int kFailed = 99;
  for (int round = 0; round < kRounds; ++round) {
    TempDirectory const directory;
    auto const options = small_segment(directory, directory / "a");
    Milestone ready, go, done, leave;
    std::vector<ChildProcess> children;
    for (int i = 0; i < kProcesses; ++i) {
      children.emplace_back([&] {
        Filling filling{.path = directory / "a"};
        ready.reach();
        go.await();
        auto const segment = Segment::open_or_create(options, &fill, &filling, {});
        bool const filled = segment && segment.value()->region(Region::kSpace)[0] == std::byte{7};
        if (filled) segment.value()->header().departed.lookups.fetch_add(1);
        done.reach();
        leave.await();
        return !filled ? kFailed : segment.value()->created() ? kCreated : 0;
      });
    }
    for (int i = 0; i < kProcesses; ++i) ready.await();
    go.reach(kProcesses);
    for (int i = 0; i < kProcesses; ++i) done.await();
    EXPECT_EQ(directory.file_count(), 1U);
    auto const segment = Segment::attach(directory / "a").value();
    EXPECT_EQ(segment->header().departed.lookups.load(), kProcesses)
        << "all of them have the same one";
    leave.reach(kProcesses);
    int created = 0;
    for (auto& child : children) {
      int const status = child.wait();
      EXPECT_NE(status, kFailed);
      created += status;
    }
    EXPECT_EQ(created, 1);
  }
}

TEST(Segment, ItsLockSurvivesAHolderThatIsKilled) {
  TempDirectory const directory;
  auto const options = small_segment(directory);
  auto const segment = open_segment(options).value();
  Milestone locked;
  ChildProcess child{[&]() -> int {
    auto const own = open_segment(options);
    if (!own || own.value()->created() || !own.value()->header().space_lock.lock(5s)) return 1;
    locked.reach();
    test::wait_to_be_killed();
  }};
  locked.await();
  auto& lock = segment->header().space_lock;
  EXPECT_EQ(lock.lock(0ms).error().code(), ErrorCode::kTimeout);
  child.kill();
  EXPECT_EQ(lock.lock(5s).value(), LockState::kOwnerDied);
  lock.mark_consistent();
  lock.unlock();
}

TEST(Segment, UnlinkTakesTheNameAndLeavesTheMemory) {
  TempDirectory const directory;
  auto const options = small_segment(directory);
  auto const first = open_segment(options).value();
  auto const second = open_segment(options).value();
  first->unlink();
  EXPECT_EQ(directory.file_count(), 0U);
  second->region(Region::kSpace)[0] = std::byte{9};
  EXPECT_EQ(first->region(Region::kSpace)[0], std::byte{9});
  auto const next = open_segment(options).value();
  EXPECT_TRUE(next->created());
  EXPECT_EQ(next->region(Region::kSpace)[0], std::byte{0});
}

TEST(Segment, UnlinkLeavesAnothersFileOfThatName) {
  TempDirectory const directory;
  auto const options = small_segment(directory);
  auto const old = open_segment(options).value();
  old->unlink();
  auto const next = open_segment(options).value();
  old->unlink();
  EXPECT_TRUE(test::exists(next->path()));
  next->unlink();
  next->unlink();
  EXPECT_EQ(directory.file_count(), 0U);
  ASSERT_EQ(::symlink("/dev/null", next->path().c_str()), 0);
  next->unlink();
  EXPECT_TRUE(test::exists(next->path()));
}

}  // namespace
}  // namespace lmcache
