// SPDX-License-Identifier: Apache-2.0
// The ring's tables of files and of memory: what is in them the kernel need not look up for each
// request. Both are optional: what is refused, or does not fit, is used the plain way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include <lmcache/io/file_table.hpp>

struct io_uring;

namespace lmcache::detail {

// One thread: the ring's.
class UringFiles {
 public:
  struct Target {
    int fd = -1;              // a descriptor, or a place in the ring's table
    bool registered = false;  // which of them
    std::uint32_t alignment_bytes = 1;
  };

  // The ring must outlive it.
  UringFiles(io_uring& ring, bool wanted);
  UringFiles(UringFiles const&) = delete;
  UringFiles& operator=(UringFiles const&) = delete;
  ~UringFiles();

  void set(IoFile file, FileTable::Slot slot);  // {}: the file goes
  // fd is -1 for a file that is not there.
  [[nodiscard]] Target find(IoFile file) const noexcept;
  [[nodiscard]] bool has_table() const noexcept { return table_size_ != 0; }

 private:
  io_uring& ring_;
  std::uint32_t table_size_ = 0;
  std::vector<Target> files_;
};

// One thread: the ring's.
class UringMemory {
 public:
  // The kernel allows 1 GiB. The ring stands still while a part is pinned: 256 MiB took 5 to 12 ms
  // in use, and 730 ms when every page had to be made first. Larger parts stop it for longer, and
  // more pieces lie across two smaller ones, which are then done the plain way.
  static constexpr std::uint64_t kPartBytes = 128ULL << 20;

  // The ring must outlive it.
  UringMemory(io_uring& ring, bool wanted);
  UringMemory(UringMemory const&) = delete;
  UringMemory& operator=(UringMemory const&) = delete;
  ~UringMemory();

  void add(std::span<std::byte> memory);
  // Parts that were added and are not registered yet.
  [[nodiscard]] bool has_waiting() const noexcept { return !waiting_.empty(); }
  void register_next();

  // The place in the ring's table of the part that holds all of it.
  [[nodiscard]] std::optional<std::uint16_t> find(std::byte const* data,
                                                  std::uint64_t size_bytes) const;
  [[nodiscard]] std::size_t registered_parts() const noexcept { return parts_.size(); }

 private:
  struct Part {
    std::byte const* end;
    std::uint16_t place;
  };

  io_uring& ring_;
  bool has_table_ = false;
  bool refused_ = false;  // once (RLIMIT_MEMLOCK), so not tried again: each try pins all the memory
  std::deque<std::span<std::byte>> waiting_;
  std::map<std::byte const*, Part> parts_;  // by first byte
};

}  // namespace lmcache::detail
