// SPDX-License-Identifier: Apache-2.0
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include <lmcache/base/bytes.hpp>
#include <lmcache/base/mapped_region.hpp>

namespace lmcache {
namespace {

Error invalid(std::string message) {
  return Error{ErrorCode::kInvalidArgument, std::move(message)};
}

}  // namespace

Result<MappedRegion> MappedRegion::map(FileMapping const& mapping, int flags) {
  if (mapping.size_bytes == 0) return invalid("mmap: size_bytes is 0");
  constexpr auto kMaxOffset = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());
  if (mapping.offset_bytes > kMaxOffset || mapping.size_bytes > kMaxOffset) {
    return invalid("mmap: offset_bytes " + std::to_string(mapping.offset_bytes) +
                   " or size_bytes " + std::to_string(mapping.size_bytes) + " is over 2^63 - 1");
  }
  int const protection =
      mapping.access == MapAccess::kReadWrite ? PROT_READ | PROT_WRITE : PROT_READ;
  void* const address = ::mmap(nullptr, mapping.size_bytes, protection, flags, mapping.fd,
                               static_cast<off_t>(mapping.offset_bytes));
  if (address == MAP_FAILED) {
    int const error = errno;
    return Error{error == ENOMEM ? ErrorCode::kOutOfMemory : ErrorCode::kIo,
                 "mmap of " + format_bytes(mapping.size_bytes) + " at offset " +
                     std::to_string(mapping.offset_bytes) + ": " + std::strerror(error),
                 error};
  }
  return MappedRegion{static_cast<std::byte*>(address), mapping.size_bytes};
}

Result<MappedRegion> MappedRegion::map_file(FileMapping const& mapping) {
  if (mapping.fd < 0) return invalid("mmap: fd " + std::to_string(mapping.fd) + " is not open");
  return map(mapping, MAP_SHARED | mapping.extra_flags);
}

Result<MappedRegion> MappedRegion::map_anonymous(std::uint64_t size_bytes, int extra_flags) {
  return map(FileMapping{.size_bytes = size_bytes}, MAP_PRIVATE | MAP_ANONYMOUS | extra_flags);
}

MappedRegion::MappedRegion(MappedRegion&& other) noexcept
    : data_{std::exchange(other.data_, nullptr)},
      size_bytes_{std::exchange(other.size_bytes_, 0)} {}

MappedRegion& MappedRegion::operator=(MappedRegion&& other) noexcept {
  if (this != &other) {
    reset();
    data_ = std::exchange(other.data_, nullptr);
    size_bytes_ = std::exchange(other.size_bytes_, 0);
  }
  return *this;
}

void MappedRegion::reset() noexcept {
  if (data_ != nullptr) ::munmap(data_, size_bytes_);
  data_ = nullptr;
  size_bytes_ = 0;
}

}  // namespace lmcache
