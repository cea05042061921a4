// SPDX-License-Identifier: Apache-2.0
// Opening files for asynchronous I/O: past the page cache where the file system allows it.
#pragma once

#include <fcntl.h>

#include <cstdint>
#include <string>

#include <lmcache/base/result.hpp>
#include <lmcache/base/unique_fd.hpp>

namespace lmcache {

enum class IoAccess : std::uint8_t { kRead, kReadWrite };
enum class IoCreate : std::uint8_t {
  kExisting,  // ENOENT if it is not there
  kAllowed,   // made if it is not there
  kNew,       // EEXIST if it is there
};
enum class IoCaching : std::uint8_t {
  kDirect,    // past the page cache (O_DIRECT); buffered where the file system refuses that
  kBuffered,  // through the page cache
};

struct IoFileOptions {
  IoAccess access = IoAccess::kReadWrite;
  IoCreate create = IoCreate::kAllowed;
  IoCaching caching = IoCaching::kDirect;
};

struct OpenedFile {
  UniqueFd fd;
  bool direct = false;
  // Offset, size and address of every transfer must be a multiple of it; 1 when buffered.
  std::uint32_t alignment_bytes = 1;
};

// A new file has mode 0600; a symbolic link is not followed (ELOOP). `path` is relative to
// `folder_fd`. Errors: kOutOfMemory (no space, quota, descriptors), else kIo; os_error() says
// which.
[[nodiscard]] Result<OpenedFile> open_io_file(int folder_fd, std::string const& path,
                                              IoFileOptions options = {});
[[nodiscard]] inline Result<OpenedFile> open_io_file(std::string const& path,
                                                     IoFileOptions options = {}) {
  return open_io_file(AT_FDCWD, path, options);
}

// As OpenedFile::alignment_bytes, of any open file.
[[nodiscard]] std::uint32_t io_alignment_bytes(int fd) noexcept;

enum class Allocation : std::uint8_t {
  kReserved,  // the space is the file's: writes cannot fail for want of it
  kSparse,    // the file system cannot reserve: only the length is set
};

// Makes the file `size_bytes` long at least; what it holds stays. May block. Errors: kOutOfMemory
// (ENOSPC, EDQUOT), else kIo.
[[nodiscard]] Result<Allocation> allocate_file(int fd, std::uint64_t size_bytes);

}  // namespace lmcache
