// SPDX-License-Identifier: Apache-2.0
#include <lmcache/io/io_file.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include <lmcache/base/bytes.hpp>

namespace lmcache {
namespace {

// Where the kernel does not say (before 6.1, and on tmpfs): the logical blocks of no common disk
// are larger, nor are pages.
constexpr std::uint32_t kUsualAlignment = 4096;

Error os_failure(std::string const& what, int error) {
  bool const full =
      error == ENOSPC || error == EDQUOT || error == EMFILE || error == ENFILE || error == ENOMEM;
  return Error{full ? ErrorCode::kOutOfMemory : ErrorCode::kIo, what + ": " + std::strerror(error),
               error};
}

int open_flags(IoFileOptions options) {
  int flags = O_CLOEXEC | O_NOFOLLOW;
  flags |= options.access == IoAccess::kRead ? O_RDONLY : O_RDWR;
  if (options.create != IoCreate::kExisting) flags |= O_CREAT;
  if (options.create == IoCreate::kNew) flags |= O_EXCL;
  return flags;
}

// What direct transfers must be aligned to; 0: the file cannot do them; nothing: not known.
std::optional<std::uint32_t> asked_alignment([[maybe_unused]] int fd) noexcept {
#ifdef STATX_DIOALIGN
  struct statx status{};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 &&
      (status.stx_mask & STATX_DIOALIGN) != 0) {
    return std::max(status.stx_dio_mem_align, status.stx_dio_offset_align);
  }
#endif
  return std::nullopt;
}

// O_DIRECT is set after open(), not by it: a file system that refuses it may have made the file by
// then, and the second try with O_EXCL would find it there.
bool make_direct(int fd) noexcept {
  int const flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || asked_alignment(fd) == 0U) return false;
  return ::fcntl(fd, F_SETFL, flags | O_DIRECT) == 0;
}

}  // namespace

Result<OpenedFile> open_io_file(int folder_fd, std::string const& path, IoFileOptions options) {
  int fd = -1;
  do {
    fd = ::openat(folder_fd, path.c_str(), open_flags(options), 0600);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return os_failure("open " + path, errno);
  OpenedFile opened{.fd = UniqueFd{fd}};
  opened.direct = options.caching == IoCaching::kDirect && make_direct(fd);
  opened.alignment_bytes = io_alignment_bytes(fd);
  return opened;
}

std::uint32_t io_alignment_bytes(int fd) noexcept {
  int const flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || (flags & O_DIRECT) == 0) return 1;
  return std::max(asked_alignment(fd).value_or(kUsualAlignment), 1U);
}

Result<Allocation> allocate_file(int fd, std::uint64_t size_bytes) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) return os_failure("fstat", errno);
  if (size_bytes == 0) return Allocation::kReserved;  // fallocate() takes no length of 0
  auto const length = static_cast<off_t>(size_bytes);
  int error = 0;
  do {
    error = ::fallocate(fd, 0, 0, length) == 0 ? 0 : errno;
  } while (error == EINTR);
  if (error == 0) return Allocation::kReserved;
  if (error != EOPNOTSUPP) return os_failure("fallocate of " + format_bytes(size_bytes), error);
  if (status.st_size < length && ::ftruncate(fd, length) != 0) {
    return os_failure("ftruncate to " + format_bytes(size_bytes), errno);
  }
  return Allocation::kSparse;
}

}  // namespace lmcache
