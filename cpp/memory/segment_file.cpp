// SPDX-License-Identifier: Apache-2.0
#include <lmcache/memory/segment_file.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <memory>
#include <utility>

#include <lmcache/base/bytes.hpp>

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

constexpr auto kNoLimit = std::numeric_limits<std::uint64_t>::max();

// Huge pages that are free and promised to nobody, and those that the kernel may still make.
std::uint64_t free_huge_page_bytes(std::uint64_t page_bytes) {
  std::string const directory =
      "/sys/kernel/mm/hugepages/hugepages-" + std::to_string(page_bytes / 1024) + "kB/";
  auto const read = [&](char const* name) {
    std::int64_t pages = 0;
    std::ifstream{directory + name} >> pages;
    return pages;
  };
  std::int64_t const pages = read("free_hugepages") - read("resv_hugepages") +
                             read("nr_overcommit_hugepages") - read("surplus_hugepages");
  return static_cast<std::uint64_t>(std::max<std::int64_t>(0, pages)) * page_bytes;
}

std::string owner_text(uid_t owner) {
  return "it belongs to user " + std::to_string(owner) + ", we are user " +
         std::to_string(geteuid());
}

Result<void> set_file_size(int fd, std::uint64_t file_bytes) {
  // Beyond this limit ftruncate() does not merely fail: the kernel sends a signal that kills.
  rlimit limit{};
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
      file_bytes > limit.rlim_cur) {
    return Error{ErrorCode::kOutOfMemory,
                 "the segment needs a file of " + format_bytes(file_bytes) +
                     ", this process may write files of " + format_bytes(limit.rlim_cur) +
                     ": raise it (ulimit -f)"};
  }
  if (::ftruncate(fd, static_cast<off_t>(file_bytes)) != 0) {
    return Error{ErrorCode::kIo,
                 "cannot make a file of " + format_bytes(file_bytes) + ": " + std::strerror(errno),
                 errno};
  }
  return {};
}

// A file of mode 0600 that is named `temporary` or, while that is empty, has no name.
Result<UniqueFd> make_temporary(std::string const& path, std::string& temporary) {
  // O_TMPFILE leaves nothing behind when we are killed half-way. Some file systems (NFS, overlayfs
  // before Linux 6.1, hugetlbfs before 5.6) do not have it.
  UniqueFd fd{::open(segment_directory(path).c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)};
  if (!fd && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT || errno == EINVAL)) {
    temporary = path + ".new.XXXXXX";
    fd = UniqueFd{::mkostemp(temporary.data(), O_CLOEXEC)};
  }
  if (!fd) {
    return Error{ErrorCode::kIo, "cannot make segment " + path + ": " + std::strerror(errno),
                 errno};
  }
  return fd;
}

}  // namespace

std::string segment_directory(std::string const& path) {
  auto const slash = path.find_last_of('/');
  return slash == 0 ? "/" : path.substr(0, slash);
}

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
    bool const ours = saved == EMFILE || saved == ENFILE || saved == ENOMEM || saved == EIO;
    auto const code = saved == ENOENT ? ErrorCode::kUnavailable
                      : ours          ? ErrorCode::kIo
                                      : ErrorCode::kInvalidArgument;
    std::string why = std::strerror(saved);
    struct stat named{};
    if (::lstat(path.c_str(), &named) == 0) {
      if (S_ISLNK(named.st_mode)) why = "it is a symbolic link";
      if (saved == EACCES && named.st_uid != geteuid()) why += "; " + owner_text(named.st_uid);
    }
    return Error{code, "cannot open segment " + path + ": " + why, saved};
  }
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return Error{ErrorCode::kIo, "fstat " + path, errno};
  if (!S_ISREG(info.st_mode)) {
    return Error{ErrorCode::kInvalidArgument, "segment " + path + " is not a regular file"};
  }
  if (info.st_uid != geteuid()) {
    return Error{ErrorCode::kInvalidArgument,
                 "segment " + path + ": " + owner_text(info.st_uid) +
                     ": choose another segment name, or run as its owner"};
  }
  if ((info.st_mode & 0077) != 0) {
    return Error{ErrorCode::kInvalidArgument,
                 "segment " + path + " can be opened by others: its mode must be 0600"};
  }
  return fd;
}

Result<UniqueFd> make_private_file(std::uint64_t file_bytes) {
  UniqueFd fd{::memfd_create("lmcache", MFD_CLOEXEC)};
  if (!fd) {
    return Error{ErrorCode::kIo, std::string{"memfd_create: "} + std::strerror(errno), errno};
  }
  LMC_TRY(set_file_size(fd.get(), file_bytes));
  return fd;
}

Result<UniqueFd> publish_segment_file(std::string const& path, std::uint64_t file_bytes,
                                      std::function<Result<void>(int fd)> const& fill) {
  std::string temporary;
  LMC_TRY_ASSIGN(auto fd, make_temporary(path, temporary));
  auto const finish = [&]() -> Result<void> {
    if (::fchmod(fd.get(), 0600) != 0) {  // the umask may have taken our own rights away
      return Error{ErrorCode::kIo, "fchmod " + path + ": " + std::strerror(errno), errno};
    }
    LMC_TRY(set_file_size(fd.get(), file_bytes));
    LMC_TRY(fill(fd.get()));
    std::string const source =
        temporary.empty() ? "/proc/self/fd/" + std::to_string(fd.get()) : temporary;
    if (::linkat(AT_FDCWD, source.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) != 0) {
      auto const code = errno == EEXIST ? ErrorCode::kCancelled : ErrorCode::kIo;
      return Error{code, "cannot name segment " + path + ": " + std::strerror(errno), errno};
    }
    return {};
  };
  auto done = finish();
  if (!temporary.empty()) ::unlink(temporary.c_str());
  if (!done) return std::move(done).error();
  return fd;
}

Result<std::uint64_t> free_bytes(std::string const& directory) {
  struct statfs info{};
  if (::statfs(directory.c_str(), &info) != 0) {
    return Error{ErrorCode::kIo, "cannot use " + directory + ": " + std::strerror(errno), errno};
  }
  auto const block_bytes = static_cast<std::uint64_t>(info.f_bsize);
  bool const unlimited = info.f_blocks == 0;  // tmpfs of size=0, hugetlbfs without a size
  std::uint64_t const bytes = unlimited ? kNoLimit : info.f_bavail * block_bytes;
  if (static_cast<std::uint64_t>(info.f_type) != HUGETLBFS_MAGIC) return bytes;
  return std::min(bytes, free_huge_page_bytes(block_bytes));
}

Result<void> reserve_bytes(int fd, std::uint64_t offset, std::uint64_t size_bytes) {
  constexpr std::uint64_t kSmallestStep = 64u << 10;
  std::uint64_t step = size_bytes;
  for (std::uint64_t done = 0; done < size_bytes;) {
    std::uint64_t const piece = std::min(step, size_bytes - done);
    if (::fallocate(fd, 0, static_cast<off_t>(offset + done), static_cast<off_t>(piece)) == 0) {
      done += piece;
      continue;
    }
    int const saved = errno;
    if (saved == EINTR) {
      // Linux 6.1 and its like then give back all that the call had reserved. Where signals come
      // often, as under a profiler, only small pieces get done.
      step = std::max(step / 2, kSmallestStep);
      continue;
    }
    bool const full = saved == ENOSPC || saved == ENOMEM || saved == EDQUOT;
    return Error{full ? ErrorCode::kOutOfMemory : ErrorCode::kIo,
                 "no room for " + std::to_string(size_bytes) +
                     " bytes in the file system of the segment: " + std::strerror(saved),
                 saved};
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
