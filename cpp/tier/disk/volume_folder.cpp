// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include <lmcache/tier/disk/volume_files.hpp>

namespace lmcache {
namespace {

constexpr off_t kSetupByte = 0;
constexpr off_t kUseByte = 1;

struct flock byte_lock(off_t byte, short type) {
  struct flock lock{};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return lock;
}

Error failure(std::string const& what) {
  int const error = errno;
  bool const room = error == ENOSPC || error == EDQUOT;
  return {room ? ErrorCode::kOutOfMemory : ErrorCode::kIo, what + ": " + std::strerror(error),
          error};
}

Error nothing_there(std::string const& path) {
  return {ErrorCode::kUnavailable, "there is no disk cache in " + path};
}

Result<void> make_folders(std::string const& path) {
  for (std::size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    std::string const part = path.substr(0, slash);
    if (::mkdir(part.c_str(), 0700) != 0 && errno != EEXIST && errno != EROFS && errno != EACCES) {
      return failure("cannot make the folder " + part);
    }
    if (slash == std::string::npos) return {};
  }
}

}  // namespace

Result<VolumeFolder> VolumeFolder::open(std::string const& path, IoCreate create) {
  if (path.empty() || path.front() != '/') {
    return Error{ErrorCode::kInvalidArgument, "the folder '" + path + "' is no absolute path"};
  }
  if (create == IoCreate::kAllowed) LMC_TRY(make_folders(path));
  VolumeFolder out;
  out.path_ = path;
  out.opened_by_ = ::getpid();
  out.folder_ = UniqueFd{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!out.folder_ && errno == ENOENT) return nothing_there(path);
  if (!out.folder_) return failure("cannot open the folder " + path);
  int const making = create == IoCreate::kAllowed ? O_CREAT : 0;
  out.volume_ = UniqueFd{
      ::openat(out.fd(), "volume", O_RDWR | making | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600)};
  if (!out.volume_ && errno == ENOENT) return nothing_there(path);
  if (!out.volume_) {
    bool const denied = errno == EACCES || errno == EPERM;
    auto error = failure("cannot open " + path + "/volume");
    if (!denied) return error;
    return Error{ErrorCode::kInvalidArgument,
                 error.message() + ": the folder belongs to another user; give each its own",
                 error.os_error()};
  }
  struct stat info{};
  if (::fstat(out.volume_.get(), &info) != 0) return failure("fstat " + path + "/volume");
  if (!S_ISREG(info.st_mode) || info.st_uid != ::geteuid()) {
    return Error{ErrorCode::kInvalidArgument,
                 path + " is a disk cache of user " + std::to_string(info.st_uid) +
                     ", we are user " + std::to_string(::geteuid()) + ": give each its own folder"};
  }
  return out;
}

VolumeFolder::~VolumeFolder() {
  if (!volume_ || opened_by_ != ::getpid()) return;
  auto lock = byte_lock(kSetupByte, F_UNLCK);
  lock.l_len = kUseByte - kSetupByte + 1;
  ::fcntl(volume_.get(), F_OFD_SETLK, &lock);
}

Result<void> VolumeFolder::lock_setup(std::chrono::milliseconds timeout) {
  auto const deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    auto lock = byte_lock(kSetupByte, F_WRLCK);
    if (::fcntl(volume_.get(), F_OFD_SETLK, &lock) == 0) return {};
    if (errno != EAGAIN && errno != EACCES && errno != EINTR) {
      return failure("cannot lock " + path_ + "/volume");
    }
    if (std::chrono::steady_clock::now() > deadline) {
      return Error{ErrorCode::kTimeout, path_ + " is being opened by another process, for " +
                                            std::to_string(timeout.count()) + " ms by now"};
    }
    std::this_thread::sleep_for(std::chrono::milliseconds{2});
  }
}

void VolumeFolder::unlock_setup() noexcept {
  auto lock = byte_lock(kSetupByte, F_UNLCK);
  ::fcntl(volume_.get(), F_OFD_SETLK, &lock);
}

Result<void> VolumeFolder::lock_use(Use use) {
  auto lock = byte_lock(kUseByte, use == Use::kShared ? F_RDLCK : F_WRLCK);
  if (::fcntl(volume_.get(), F_OFD_SETLK, &lock) == 0) return {};
  if (errno != EAGAIN && errno != EACCES) return failure("cannot lock " + path_ + "/volume");
  return Error{ErrorCode::kUnavailable, path_ + " is in use"};
}

VolumeFolder::FileIdentity VolumeFolder::identity() const noexcept {
  struct stat info{};
  if (::fstat(volume_.get(), &info) != 0) return {};
  return {.device = info.st_dev, .inode = info.st_ino, .removed = info.st_nlink == 0};
}

Result<std::optional<VolumeHeader>> VolumeFolder::read_header() const {
  VolumeHeader raw;
  auto const bytes = std::as_writable_bytes(std::span{&raw, 1});
  ssize_t const got = ::pread(volume_.get(), bytes.data(), bytes.size(), 0);
  if (got < 0) return failure("cannot read " + path_ + "/volume");
  if (got == 0) return std::optional<VolumeHeader>{};
  auto header = parse_volume_header(bytes.first(static_cast<std::size_t>(got)));
  if (!header) return std::move(header).error().with_context(path_ + "/volume");
  return std::optional{header.value()};
}

Result<void> VolumeFolder::write_header(VolumeHeader const& header) const {
  VolumeHeader sealed = header;
  seal(sealed);
  // One page in one call: never half of it, but for a lost power supply.
  if (::pwrite(volume_.get(), &sealed, sizeof sealed, 0) != sizeof sealed) {
    return failure("cannot write " + path_ + "/volume");
  }
  return {};
}

}  // namespace lmcache
