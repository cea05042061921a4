// SPDX-License-Identifier: Apache-2.0
// Memory behind a segment: none before it is needed, and an error instead of a SIGBUS where there
// is none.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <string>

#include <lmcache/base/unique_fd.hpp>
#include <lmcache/memory/segment.hpp>
#include <lmcache/memory/segment_file.hpp>

#include "memory/segment_scene.hpp"
#include "support/temp_directory.hpp"

namespace lmcache {
namespace {

using test::allocated_bytes;
using test::expect_error;
using test::kExtent;
using test::open_segment;
using test::small_segment;
using test::TempDirectory;
using test::TempMount;

constexpr std::uint64_t kMegabyte = 1u << 20;

// Takes memory of the file system until all but `left_bytes` is gone.
UniqueFd occupy(TempDirectory const& directory, std::uint64_t left_bytes) {
  UniqueFd fd{::open((directory / "occupied").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600)};
  auto const free = free_bytes(directory.path());
  EXPECT_TRUE(free);
  EXPECT_EQ(::fallocate(fd.get(), 0, 0, static_cast<off_t>(free.value() - left_bytes)), 0);
  return fd;
}

TEST(SegmentSpace, FiveHundredGigabytesOpenWithoutMemory) {
  TempDirectory const directory;
  auto options = small_segment(directory, "");
  options.payload_bytes = 500'000'000'000;
  options.extent_bytes = 256 * kMegabyte;
  auto const opened = open_segment(options);
  ASSERT_TRUE(opened);
  auto& segment = *opened.value();
  EXPECT_GT(segment.capacity_bytes(), 499'000'000'000U);
  EXPECT_LT(allocated_bytes(segment), kMegabyte) << "header and reserved regions only";
  // Its far end is as good as its beginning.
  std::uint32_t const last = segment.header().extent_count - 1;
  std::byte* const end = segment.payload((last + 1) * segment.header().extent_bytes);
  ASSERT_TRUE(segment.reserve_extent(last));
  EXPECT_EQ(allocated_bytes(segment) / kMegabyte, 256U);
  end[-1] = std::byte{1};
  EXPECT_EQ(end[-1], std::byte{1});
}

TEST(SegmentSpace, RegionsAreReservedAsAsked) {
  TempDirectory const directory;
  auto const options = small_segment(directory);
  std::uint64_t expected = (sizeof(SegmentHeader) + 4095) / 4096 * 4096;
  for (auto const& region : options.regions) {
    if (region.reserve) expected += (region.size_bytes + 4095) / 4096 * 4096;
  }
  auto const segment = open_segment(options).value();
  EXPECT_EQ(allocated_bytes(*segment), expected);
  ASSERT_TRUE(segment->reserve_region(Region::kEntries, 0, 64 * 1024));
  ASSERT_TRUE(segment->reserve_region(Region::kEntries, 512 * 1024, 64 * 1024));
  ASSERT_TRUE(segment->reserve_region(Region::kEntries, 0, 64 * 1024)) << "again: no harm";
  EXPECT_EQ(allocated_bytes(*segment), expected + 128 * 1024);
  std::memset(segment->region(Region::kEntries).data(), 1, 64 * 1024);
  EXPECT_EQ(allocated_bytes(*segment), expected + 128 * 1024) << "written where it was reserved";
}

TEST(SegmentSpace, ExtentsAreReservedOneByOneAndKeepTheirBytes) {
  TempDirectory const directory;
  auto const segment = open_segment(small_segment(directory)).value();
  std::uint64_t const before = allocated_bytes(*segment);
  for (std::uint32_t extent : {2U, 0U, 3U}) {
    std::uint64_t const now = allocated_bytes(*segment);
    ASSERT_TRUE(segment->reserve_extent(extent));
    EXPECT_EQ(allocated_bytes(*segment), now + kExtent);
    std::memset(segment->payload(extent * kExtent), static_cast<int>(extent) + 1, kExtent);
    EXPECT_TRUE(segment->populate_extent(extent).value());
  }
  EXPECT_EQ(allocated_bytes(*segment), before + 3 * kExtent);
  for (std::uint32_t extent : {2U, 0U, 3U}) {
    auto const* const bytes = segment->payload(extent * kExtent);
    EXPECT_TRUE(std::all_of(bytes, bytes + kExtent, [&](std::byte byte) {
      return byte == static_cast<std::byte>(extent + 1);
    }));
  }
}

TEST(SegmentSpace, PopulatingReservesWhatIsNotThere) {
  TempDirectory const directory;
  auto const segment = open_segment(small_segment(directory)).value();
  std::uint64_t const before = allocated_bytes(*segment);
  EXPECT_TRUE(segment->populate_extent(1).value());
  EXPECT_EQ(allocated_bytes(*segment), before + kExtent);
  std::stop_source stopped;
  stopped.request_stop();
  EXPECT_FALSE(segment->populate_extent(2, stopped.get_token()).value());
  EXPECT_EQ(allocated_bytes(*segment), before + kExtent);
  segment->release_extent(1);
  EXPECT_EQ(allocated_bytes(*segment), before);
}

class SegmentOnSmallTmpfsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!mount_) GTEST_SKIP() << mount_.why();
  }
  TempMount mount_{{.type = "tmpfs", .options = "size=16m,mode=0700"}};
  TempDirectory const& directory_{mount_.directory()};
};

TEST_F(SegmentOnSmallTmpfsTest, TooSmallIsSaidAtTheStartWithBothNumbers) {
  auto options = small_segment(directory_);
  options.payload_bytes = 64 * kMegabyte;
  auto const segment = open_segment(options);
  expect_error(segment, ErrorCode::kOutOfMemory, directory_.path() + " has 16 MB free");
  expect_error(segment, ErrorCode::kOutOfMemory, "the segment needs 69 MB");
  expect_error(segment, ErrorCode::kOutOfMemory, "--shm-size");
  EXPECT_EQ(directory_.file_count(), 0U);
  EXPECT_EQ(free_bytes(directory_.path()).value(), 16 * kMegabyte);
}

TEST_F(SegmentOnSmallTmpfsTest, WhatFitsIsMadeAndFilled) {
  auto const segment = open_segment(small_segment(directory_)).value();
  for (std::uint32_t extent = 0; extent < 4; ++extent) {
    ASSERT_TRUE(segment->reserve_extent(extent));
    std::memset(segment->payload(extent * kExtent), 1, kExtent);
  }
}

TEST_F(SegmentOnSmallTmpfsTest, WhatAnotherTookMeanwhileIsAnErrorNotASignal) {
  auto const segment = open_segment(small_segment(directory_)).value();
  ASSERT_TRUE(segment->reserve_extent(0));
  std::memset(segment->payload(0), 1, kExtent);
  {
    auto const occupied = occupy(directory_, 512 * 1024);
    std::uint64_t const before = allocated_bytes(*segment);
    auto const reserved = segment->reserve_extent(1);
    expect_error(reserved, ErrorCode::kOutOfMemory, "No space left");
    EXPECT_EQ(reserved.error().os_error(), ENOSPC);
    expect_error(segment->reserve_region(Region::kEntries, 0, 1u << 20), ErrorCode::kOutOfMemory,
                 "");
    EXPECT_EQ(allocated_bytes(*segment), before) << "no half of it stays behind";
    expect_error(segment->populate_extent(1), ErrorCode::kOutOfMemory, "No space left");
    EXPECT_TRUE(segment->reserve_extent(0)) << "what is there stays usable";
    EXPECT_EQ(segment->payload(kExtent - 1)[0], std::byte{1});
  }
  ASSERT_EQ(::unlink((directory_ / "occupied").c_str()), 0);
  EXPECT_TRUE(segment->reserve_extent(1));
}

// The check at the start passes, and then the memory is gone.
Result<void> occupy_all(Segment& fresh, void* context) {
  auto const fd = occupy(*static_cast<TempDirectory const*>(context), 0);
  return fresh.reserve_region(Region::kEntries, 0, 1u << 20);
}

TEST_F(SegmentOnSmallTmpfsTest, OneThatFillsUpWhileItIsMadeIsNotThere) {
  auto const segment = Segment::open_or_create(small_segment(directory_), &occupy_all,
                                               const_cast<TempDirectory*>(&directory_), {});
  expect_error(segment, ErrorCode::kOutOfMemory, "No space left");
  EXPECT_EQ(directory_.file_count(), 1U) << "only what fills the file system";
}

TEST(SegmentSpace, ATmpfsWithoutALimitTakesIt) {
  TempMount const mount{{.type = "tmpfs", .options = "size=0,mode=0700"}};
  if (!mount) GTEST_SKIP() << mount.why();
  auto options = small_segment(mount.directory());
  options.payload_bytes = 100'000'000'000;
  EXPECT_TRUE(open_segment(options));
}

std::uint64_t free_huge_pages() {
  std::ifstream file{"/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"};
  std::uint64_t pages = 0;
  file >> pages;
  return pages;
}

TEST(SegmentSpace, HugePages) {
  constexpr std::uint64_t kNeeded = 6;  // header and regions in two at most, four extents
  if (free_huge_pages() < kNeeded) {
    GTEST_SKIP() << "needs " << kNeeded << " free huge pages of 2 MB, there are "
                 << free_huge_pages();
  }
  TempMount const mount{{.type = "hugetlbfs", .options = "pagesize=2M,mode=0700"}};
  if (!mount) GTEST_SKIP() << mount.why();
  auto const options = small_segment(mount.directory());
  auto const first = open_segment(options);
  ASSERT_TRUE(first) << first.error().message();
  auto const second = open_segment(options).value();
  EXPECT_FALSE(second->created());
  EXPECT_EQ(mount.directory().file_count(), 1U);
  for (std::uint32_t extent = 0; extent < 4; ++extent) {
    ASSERT_TRUE(first.value()->reserve_extent(extent));
    EXPECT_TRUE(first.value()->populate_extent(extent).value());
    std::memset(first.value()->payload(extent * kExtent), static_cast<int>(extent) + 1, kExtent);
    EXPECT_EQ(second->payload((extent + 1) * kExtent)[-1], static_cast<std::byte>(extent + 1));
  }
  ASSERT_TRUE(first.value()->reserve_region(Region::kEntries, 0, 1u << 20));
  std::memset(first.value()->region(Region::kEntries).data(), 1, 1u << 20);
}

TEST(SegmentSpace, HugePagesThatAreNotThereAreSaidAtTheStart) {
  TempMount const mount{{.type = "hugetlbfs", .options = "pagesize=2M,mode=0700"}};
  if (!mount) GTEST_SKIP() << mount.why();
  auto options = small_segment(mount.directory());
  options.payload_bytes = 1'000'000'000'000;
  auto const segment = open_segment(options);
  expect_error(segment, ErrorCode::kOutOfMemory, "MB free, the segment needs 1000");
  EXPECT_EQ(mount.directory().file_count(), 0U);
}

}  // namespace
}  // namespace lmcache
