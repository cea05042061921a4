// SPDX-License-Identifier: Apache-2.0
// Segment files that are not opened, and never touched: a clear message, no new segment in their
// place.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include <lmcache/memory/segment.hpp>

#include "memory/segment_scene.hpp"
#include "support/child_process.hpp"
#include "support/temp_directory.hpp"

namespace lmcache {
namespace {

using test::ChildProcess;
using test::expect_error;
using test::kExtent;
using test::LogLines;
using test::open_segment;
using test::small_segment;
using test::TempDirectory;

class SegmentRefusalTest : public testing::Test {
 protected:
  // A sound segment that nobody has open.
  std::string make_segment() {
    auto const segment = open_segment(options_);
    EXPECT_TRUE(segment);
    return segment.value()->path();
  }

  // Its beginning and its length; the rest was never written.
  static std::string content(std::string const& path) {
    std::string text(64 * 1024, '\0');
    std::ifstream file{path, std::ios::binary};
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(file.gcount()));
    return std::to_string(std::filesystem::file_size(path)) + ":" + text;
  }

  template <class T>
  static void patch(std::string const& path, std::size_t offset, T value) {
    int const fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    EXPECT_EQ(::pwrite(fd, &value, sizeof value, static_cast<off_t>(offset)),
              static_cast<ssize_t>(sizeof value));
    ::close(fd);
  }

  void expect_refused(ErrorCode code, std::string_view text) {
    std::string const before = content(path_);
    expect_error(Segment::attach(path_), code, text);
    expect_error(open_segment(options_), code, text);
    EXPECT_EQ(content(path_), before);
    EXPECT_EQ(directory_.file_count(), 1U);
  }

  TempDirectory directory_;
  SegmentOptions options_{small_segment(directory_)};
  std::string path_{make_segment()};
};

TEST_F(SegmentRefusalTest, NothingToAttachTo) {
  std::filesystem::remove(path_);
  expect_error(Segment::attach(path_), ErrorCode::kUnavailable, path_);
  EXPECT_EQ(directory_.file_count(), 0U) << "attach() makes nothing";
}

TEST_F(SegmentRefusalTest, BadNames) {
  for (std::string const name : {"a/b", "a b", "../../etc/passwd"}) {
    options_.name = name;
    expect_error(open_segment(options_), ErrorCode::kInvalidArgument,
                 "segment name '" + name + "'");
  }
  EXPECT_EQ(directory_.file_count(), 1U);
}

TEST_F(SegmentRefusalTest, FolderThatIsNotThere) {
  options_.directory = directory_ / "none";
  expect_error(open_segment(options_), ErrorCode::kIo, directory_ / "none");
}

TEST_F(SegmentRefusalTest, ModeThatLetsOthersIn) {
  ASSERT_EQ(::chmod(path_.c_str(), 0660), 0);
  expect_refused(ErrorCode::kInvalidArgument, "0600");
}

TEST_F(SegmentRefusalTest, OtherOwner) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  ASSERT_EQ(::chown(path_.c_str(), 65534, 65534), 0);
  expect_refused(ErrorCode::kInvalidArgument, "belongs to user 65534, we are user 0");
}

TEST_F(SegmentRefusalTest, SymbolicLink) {
  std::filesystem::rename(path_, directory_ / "elsewhere");
  std::filesystem::create_symlink(directory_ / "elsewhere", path_);
  expect_error(open_segment(options_), ErrorCode::kInvalidArgument, "symbolic link");
}

TEST_F(SegmentRefusalTest, SomethingElse) {
  for (std::string const& text : {std::string{}, std::string{"#!/bin/sh\n"},
                                  std::string(100'000, '\0'), std::string(100'000, 'x')}) {
    std::ofstream{path_, std::ios::binary | std::ios::trunc} << text;
    expect_refused(ErrorCode::kInvalidArgument, "not a segment");
  }
}

TEST_F(SegmentRefusalTest, CutOffAnywhere) {
  auto const whole = std::filesystem::file_size(path_);
  for (auto const size : {whole - 1, whole - kExtent, whole / 2, std::uintmax_t{8192}}) {
    std::filesystem::resize_file(path_, size);
    expect_refused(ErrorCode::kCorrupted, std::to_string(size) + " bytes long");
  }
  std::filesystem::resize_file(path_, sizeof(SegmentHeader) - 1);
  expect_refused(ErrorCode::kInvalidArgument, "not a segment");
}

TEST_F(SegmentRefusalTest, Grown) {
  std::filesystem::resize_file(path_, std::filesystem::file_size(path_) + kExtent);
  expect_refused(ErrorCode::kCorrupted, "damaged");
}

TEST_F(SegmentRefusalTest, HeaderThatPointsOutOfTheFile) {
  auto const check = [&]<class T>(std::size_t offset, T value) {
    std::string const sound = content(path_);
    T before{};
    std::memcpy(&before, sound.data() + sound.find(':') + 1 + offset, sizeof before);
    patch(path_, offset, value);
    expect_refused(ErrorCode::kCorrupted, "damaged");
    patch(path_, offset, before);
    EXPECT_TRUE(Segment::attach(path_));
  };
  std::uint64_t const file_bytes = std::filesystem::file_size(path_);
  check(offsetof(SegmentHeader, file_bytes), file_bytes - 1);
  for (auto const bad : {std::uint64_t{0}, kExtent / 2, file_bytes * 2, ~std::uint64_t{0}}) {
    check(offsetof(SegmentHeader, payload_offset), bad);
    check(offsetof(SegmentHeader, extent_bytes), bad);
  }
  for (auto const bad : {0U, 3U, 5U, ~0U}) check(offsetof(SegmentHeader, extent_count), bad);
  for (std::size_t region = 0; region < kRegionCount; ++region) {
    std::size_t const span = offsetof(SegmentHeader, regions) + region * sizeof(RegionSpan);
    for (auto const bad : {std::uint64_t{0}, file_bytes, ~std::uint64_t{0}}) {
      check(span + offsetof(RegionSpan, offset), bad);
    }
    check(span + offsetof(RegionSpan, size_bytes), file_bytes);
    check(span + offsetof(RegionSpan, size_bytes), ~std::uint64_t{0});
  }
}

TEST_F(SegmentRefusalTest, OtherLayoutVersionNamesBoth) {
  patch(path_, offsetof(SegmentHeader, layout_version), kSegmentLayoutVersion + 6);
  auto const attached = Segment::attach(path_);
  expect_error(attached, ErrorCode::kInvalidArgument,
               "layout version " + std::to_string(kSegmentLayoutVersion + 6));
  expect_error(attached, ErrorCode::kInvalidArgument,
               "reads version " + std::to_string(kSegmentLayoutVersion));
  EXPECT_EQ(attached.error().os_error(), kSegmentLayoutMismatch);
}

TEST_F(SegmentRefusalTest, OtherLayoutVersionIsLeftAloneAndAnotherSegmentUsed) {
  patch(path_, offsetof(SegmentHeader, layout_version), kSegmentLayoutVersion + 6);
  std::string const before = content(path_);
  std::string const ours = path_ + ".v" + std::to_string(kSegmentLayoutVersion);
  LogLines log;
  auto const first = Segment::open_or_create(options_, &test::leave_as_it_is, nullptr, log.hook());
  ASSERT_TRUE(first);
  EXPECT_TRUE(first.value()->created());
  EXPECT_EQ(first.value()->path(), ours);
  ASSERT_EQ(log.lines.size(), 1U);
  EXPECT_NE(log.lines[0].find("layout version " + std::to_string(kSegmentLayoutVersion + 6)),
            std::string::npos);
  EXPECT_NE(log.lines[0].find("using " + ours), std::string::npos);
  EXPECT_EQ(content(path_), before);

  auto const second = open_segment(options_);  // nobody listens to its log
  ASSERT_TRUE(second);
  EXPECT_FALSE(second.value()->created());
  EXPECT_EQ(second.value()->path(), ours);

  patch(ours, offsetof(SegmentHeader, layout_version), kSegmentLayoutVersion + 7);
  expect_error(open_segment(options_), ErrorCode::kInvalidArgument,
               "layout version " + std::to_string(kSegmentLayoutVersion + 7));
}

TEST_F(SegmentRefusalTest, SizesThatMakeNoSegment) {
  options_.name = "fresh";
  auto const refused = [&](std::uint64_t payload_bytes, std::uint64_t extent_bytes,
                           std::string_view text) {
    options_.payload_bytes = payload_bytes;
    options_.extent_bytes = extent_bytes;
    expect_error(open_segment(options_), ErrorCode::kInvalidArgument, text);
  };
  refused(kExtent - 1, kExtent, "2097151 bytes is too small");
  refused(kExtent, kExtent + 1, "4194304 bytes");
  refused(0, kExtent, "too small");
  refused(kExtent, 0, "too small");
  refused(1ULL << 50, kExtent, "16777216 are allowed");
  EXPECT_EQ(directory_.file_count(), 1U);
}

#if !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)  // they need all the addresses there are
TEST_F(SegmentRefusalTest, NoAddressesLeft) {
  ChildProcess child{[&] {
    rlimit const little{.rlim_cur = 1u << 20, .rlim_max = 1u << 20};
    ::setrlimit(RLIMIT_AS, &little);
    auto const existing = Segment::attach(path_);
    if (existing || existing.error().code() != ErrorCode::kOutOfMemory) return 1;
    options_.name = "fresh";
    auto const fresh = open_segment(options_);
    return !fresh && fresh.error().code() == ErrorCode::kOutOfMemory ? 0 : 2;
  }};
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(directory_.file_count(), 1U);
}
#endif

}  // namespace
}  // namespace lmcache
