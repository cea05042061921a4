// SPDX-License-Identifier: Apache-2.0
// Memory that forked children share with the test, and that can be mapped twice.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>
#include <utility>

#include <lmcache/base/mapped_region.hpp>
#include <lmcache/base/unique_fd.hpp>

namespace lmcache::test {

class SharedMemory {
 public:
  explicit SharedMemory(std::uint64_t size_bytes)
      : fd_{::memfd_create("lmcache-test", MFD_CLOEXEC)},
        size_bytes_{(size_bytes + 4095) / 4096 * 4096} {
    EXPECT_EQ(::ftruncate(fd_.get(), static_cast<off_t>(size_bytes_)), 0);
    region_ = map();
  }

  // Another mapping of the same bytes.
  [[nodiscard]] MappedRegion map() const {
    auto region = MappedRegion::map_file({.fd = fd_.get(), .size_bytes = size_bytes_});
    EXPECT_TRUE(region);
    return std::move(region).value();
  }
  [[nodiscard]] std::span<std::byte> bytes() noexcept { return region_.bytes(); }
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }

 private:
  UniqueFd fd_;
  std::uint64_t size_bytes_;
  MappedRegion region_;
};

// One object in shared memory.
template <class T>
class Shared {
 public:
  Shared() : memory_{sizeof(T)}, object_{new(memory_.bytes().data()) T{}} {}
  [[nodiscard]] T* operator->() const noexcept { return object_; }
  [[nodiscard]] T& operator*() const noexcept { return *object_; }
  [[nodiscard]] SharedMemory const& memory() const noexcept { return memory_; }

 private:
  SharedMemory memory_;
  T* object_;
};

}  // namespace lmcache::test
