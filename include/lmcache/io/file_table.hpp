// SPDX-License-Identifier: Apache-2.0
// The numbers under which an engine knows its files.
#pragma once

#include <cstdint>
#include <vector>

#include <lmcache/base/result.hpp>
#include <lmcache/io/async_file_io.hpp>

namespace lmcache::detail {

// Externally synchronised.
class FileTable {
 public:
  // More than a tier of segment files needs; the kernel's table of registered files is as long.
  static constexpr std::uint32_t kMostFiles = 4096;

  struct Slot {
    int fd = -1;                        // -1: no such file
    std::uint32_t alignment_bytes = 1;  // of transfers, see io_file.hpp
  };

  // The lowest free number, so that a short table of the kernel serves as many as it can.
  // kOutOfMemory: all are taken.
  [[nodiscard]] Result<IoFile> add(Slot slot);
  void remove(IoFile file) noexcept;
  // {} for a number that is not taken.
  [[nodiscard]] Slot find(IoFile file) const noexcept;

 private:
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_;  // a heap: the lowest number first
};

}  // namespace lmcache::detail
