// SPDX-License-Identifier: Apache-2.0
#include <lmcache/memory/segment_file.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <utility>

namespace lmcache {
namespace {

std::string file_prefix() { return "lmcache-" + std::to_string(geteuid()) + "-"; }

bool valid_name(std::string_view name) {
  auto const allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  return !name.empty() && name.size() <= 128 && std::all_of(name.begin(), name.end(), allowed);
}

}  // namespace

Result<std::string> segment_path(std::string_view directory, std::string_view name) {
  if (!name.empty() && name.front() == '/') return std::string{name};
  if (!valid_name(name)) {
    return Error{ErrorCode::kInvalidArgument,
                 "segment name '" + std::string{name} +
                     "' is not allowed: use letters, digits, '.', '_' and '-' (128 at most), or an "
                     "absolute path"};
  }
  return std::string{directory} + "/" + file_prefix() + std::string{name};
}

Result<UniqueFd> open_segment_file(std::string const& path) {
  UniqueFd fd{::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW)};
  if (!fd) {
    int const saved = errno;
    auto const code = saved == ENOENT ? ErrorCode::kUnavailable : ErrorCode::kInvalidArgument;
    std::string hint;
    struct stat owner{};
    if (saved == EACCES && ::lstat(path.c_str(), &owner) == 0) {
      hint = "; it belongs to user " + std::to_string(owner.st_uid) + ", we are user " +
             std::to_string(geteuid());
    }
    return Error{code, "cannot open segment " + path + ": " + std::strerror(saved) + hint, saved};
  }
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return Error{ErrorCode::kIo, "fstat " + path, errno};
  if (!S_ISREG(info.st_mode)) {
    return Error{ErrorCode::kInvalidArgument, "segment " + path + " is not a regular file"};
  }
  if (info.st_uid != geteuid()) {
    return Error{ErrorCode::kInvalidArgument,
                 "segment " + path + " belongs to user " + std::to_string(info.st_uid) +
                     ", we are user " + std::to_string(geteuid()) +
                     ": choose another segment name, or run as its owner"};
  }
  if ((info.st_mode & 0077) != 0) {
    return Error{ErrorCode::kInvalidArgument,
                 "segment " + path + " can be opened by others: its mode must be 0600"};
  }
  return fd;
}

Result<UniqueFd> make_private_file() {
  UniqueFd fd{::memfd_create("lmcache", MFD_CLOEXEC)};
  if (!fd)
    return Error{ErrorCode::kIo, std::string{"memfd_create: "} + std::strerror(errno), errno};
  return fd;
}

Result<UniqueFd> publish_segment_file(std::string const& path, std::uint64_t file_bytes,
                                      std::function<Result<void>(int fd)> const& fill) {
  // O_TMPFILE leaves nothing behind when we are killed half-way, and linkat() is one atomic step.
  // hugetlbfs has no O_TMPFILE: there a named temporary is linked and removed.
  std::string const directory = path.substr(0, path.find_last_of('/'));
  std::string temporary;
  UniqueFd fd{::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)};
  if (!fd && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT || errno == EINVAL)) {
    temporary = path + ".new." + std::to_string(getpid());
    ::unlink(temporary.c_str());
    fd = UniqueFd{::open(temporary.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600)};
  }
  if (!fd) {
    return Error{ErrorCode::kIo, "cannot make segment " + path + ": " + std::strerror(errno),
                 errno};
  }
  auto const finish = [&]() -> Result<void> {
    if (::fchmod(fd.get(), 0600) != 0 ||
        ::ftruncate(fd.get(), static_cast<off_t>(file_bytes)) != 0) {
      return Error{ErrorCode::kIo, "cannot size segment " + path + ": " + std::strerror(errno),
                   errno};
    }
    LMC_TRY(fill(fd.get()));
    std::string const source =
        temporary.empty() ? "/proc/self/fd/" + std::to_string(fd.get()) : temporary;
    if (::linkat(AT_FDCWD, source.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) != 0) {
      if (errno == EEXIST)
        return Error{ErrorCode::kCancelled, "segment " + path + " exists", EEXIST};
      return Error{ErrorCode::kIo, "cannot name segment " + path + ": " + std::strerror(errno),
                   errno};
    }
    return {};
  };
  auto done = finish();
  if (!temporary.empty()) ::unlink(temporary.c_str());
  if (!done) return std::move(done).error();
  return fd;
}

Result<std::uint64_t> free_bytes(std::string const& directory) {
  struct statvfs info{};
  if (::statvfs(directory.c_str(), &info) != 0) {
    return Error{ErrorCode::kIo, "cannot use " + directory + ": " + std::strerror(errno), errno};
  }
  return static_cast<std::uint64_t>(info.f_bavail) * info.f_frsize;
}

Result<void> reserve_bytes(int fd, std::uint64_t offset, std::uint64_t size_bytes) {
  while (::fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(size_bytes)) != 0) {
    if (errno == EINTR) continue;
    return Error{ErrorCode::kOutOfMemory,
                 "no room for " + std::to_string(size_bytes) +
                     " bytes in the file system of the segment: " + std::strerror(errno),
                 errno};
  }
  return {};
}

Result<std::vector<SegmentFileInfo>> list_segment_files(std::string const& directory) {
  std::unique_ptr<DIR, int (*)(DIR*)> handle{::opendir(directory.c_str()), ::closedir};
  if (!handle) {
    return Error{ErrorCode::kIo, "cannot read " + directory + ": " + std::strerror(errno), errno};
  }
  std::vector<SegmentFileInfo> files;
  std::string const prefix = file_prefix();
  while (dirent const* item = ::readdir(handle.get())) {
    std::string_view const name{item->d_name};
    if (!name.starts_with(prefix)) continue;
    std::string path = directory + "/" + item->d_name;
    struct stat info{};
    if (::lstat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
    files.push_back({std::move(path), std::string{name.substr(prefix.size())},
                     static_cast<std::uint64_t>(info.st_blocks) * 512});
  }
  std::sort(files.begin(), files.end(),
            [](auto const& a, auto const& b) { return a.name < b.name; });
  return files;
}

}  // namespace lmcache
