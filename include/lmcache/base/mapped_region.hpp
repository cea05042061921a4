// SPDX-License-Identifier: Apache-2.0
// The owner of one mmap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <lmcache/base/result.hpp>

namespace lmcache {

enum class MapAccess : std::uint8_t { kRead, kReadWrite };

struct FileMapping {
  int fd = -1;
  std::uint64_t offset_bytes = 0;  // multiple of the page size (of the huge page size on hugetlbfs)
  std::uint64_t size_bytes = 0;
  MapAccess access = MapAccess::kReadWrite;
  int extra_flags = 0;  // further MAP_ flags, e.g. MAP_NORESERVE or MAP_POPULATE
};

// Move-only; unmaps on destruction. The address does not change when the object is moved.
// Externally synchronised.
class MappedRegion {
 public:
  MappedRegion() noexcept = default;

  // MAP_SHARED; the descriptor may be closed afterwards. kOutOfMemory on ENOMEM, else kIo.
  [[nodiscard]] static Result<MappedRegion> map_file(FileMapping const& mapping);

  // Private zeroed pages of this process alone.
  [[nodiscard]] static Result<MappedRegion> map_anonymous(std::uint64_t size_bytes,
                                                          int extra_flags = 0);

  MappedRegion(MappedRegion&& other) noexcept;
  MappedRegion& operator=(MappedRegion&& other) noexcept;
  MappedRegion(MappedRegion const&) = delete;
  MappedRegion& operator=(MappedRegion const&) = delete;
  ~MappedRegion() { reset(); }

  [[nodiscard]] explicit operator bool() const noexcept { return data_ != nullptr; }
  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return size_bytes_; }
  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return {data_, size_bytes_}; }

  void reset() noexcept;

 private:
  MappedRegion(std::byte* data, std::uint64_t size_bytes) noexcept
      : data_{data}, size_bytes_{size_bytes} {}
  [[nodiscard]] static Result<MappedRegion> map(FileMapping const& mapping, int flags);

  std::byte* data_ = nullptr;
  std::uint64_t size_bytes_ = 0;
};

}  // namespace lmcache
