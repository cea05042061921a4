// SPDX-License-Identifier: Apache-2.0
// Small segments for the tests of Segment.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <lmcache/memory/segment.hpp>

#include "support/temp_directory.hpp"

namespace lmcache::test {

constexpr std::uint64_t kExtent = kExtentAlignBytes;

// Four extents; every region but the entries is reserved at once.
inline SegmentOptions small_segment(TempDirectory const& directory, std::string name = "test") {
  SegmentOptions options;
  options.name = std::move(name);
  options.directory = directory.path();
  options.payload_bytes = 4 * kExtent;
  options.extent_bytes = kExtent;
  for (std::size_t i = 0; i < kRegionCount; ++i) options.regions[i] = {4096 * (i + 1) - 100, true};
  options.regions[static_cast<std::size_t>(Region::kEntries)] = {1u << 20, false};
  return options;
}

inline Result<void> leave_as_it_is(Segment& /*fresh*/, void* /*context*/) { return {}; }

struct LogLines {
  std::vector<std::string> lines;
  [[nodiscard]] LogHook hook() {
    return [this](LogLevel, std::string_view message) { lines.emplace_back(message); };
  }
};

inline Result<std::unique_ptr<Segment>> open_segment(SegmentOptions const& options) {
  return Segment::open_or_create(options, &leave_as_it_is, nullptr, LogHook{});
}

inline std::uint64_t allocated_bytes(Segment const& segment) {
  struct stat info{};
  EXPECT_EQ(::fstat(segment.fd(), &info), 0);
  return static_cast<std::uint64_t>(info.st_blocks) * 512;
}

inline bool exists(std::string const& path) {
  struct stat info{};
  return ::lstat(path.c_str(), &info) == 0;
}

template <class T>
void expect_error(Result<T> const& result, ErrorCode code, std::string_view text) {
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), code);
  EXPECT_NE(result.error().message().find(text), std::string::npos) << result.error().message();
}

}  // namespace lmcache::test
