// SPDX-License-Identifier: Apache-2.0
// Names, files and free space of segments.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <lmcache/base/result.hpp>
#include <lmcache/base/unique_fd.hpp>

namespace lmcache {

inline constexpr std::string_view kDefaultSegmentDirectory = "/dev/shm";

// `<directory>/lmcache-<uid>-<name>`, or `name` itself when it is an absolute path.
[[nodiscard]] Result<std::string> segment_path(std::string_view directory, std::string_view name);

// The folder of an absolute path.
[[nodiscard]] std::string segment_directory(std::string const& path);

// Opens read-write. Errors: kUnavailable when there is none; kInvalidArgument when it is no regular
// file, belongs to another user or is open to others (mode must be 0600); kIo when this process has
// no room for another open file.
[[nodiscard]] Result<UniqueFd> open_segment_file(std::string const& path);

// An anonymous file of this process alone. Takes no memory yet. Errors: kOutOfMemory (limit of the
// process), kIo.
[[nodiscard]] Result<UniqueFd> make_private_file(std::uint64_t file_bytes);

// Makes a file of `file_bytes`, lets `fill` write it, then gives it its name in one step, so that
// nobody ever opens a half-made one. Errors: kCancelled when another process was first,
// kOutOfMemory (limit of the process), kIo, and those of `fill`.
[[nodiscard]] Result<UniqueFd> publish_segment_file(
    std::string const& path, std::uint64_t file_bytes,
    std::function<Result<void>(int fd)> const& fill);

// Bytes free on the file system of `directory` (on hugetlbfs: in huge pages); the largest number
// when it has no limit.
[[nodiscard]] Result<std::uint64_t> free_bytes(std::string const& directory);

// Reserves backing store. Errors: kOutOfMemory when the file system is full, kIo when it cannot
// reserve.
[[nodiscard]] Result<void> reserve_bytes(int fd, std::uint64_t offset, std::uint64_t size_bytes);

struct SegmentFileInfo {
  std::string path;
  std::string name;
  std::uint64_t allocated_bytes;
};
// All segment files of this user in `directory`, by name.
[[nodiscard]] Result<std::vector<SegmentFileInfo>> list_segment_files(std::string const& directory);

}  // namespace lmcache
