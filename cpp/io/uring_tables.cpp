// SPDX-License-Identifier: Apache-2.0
#include "io/uring_tables.hpp"

#include <liburing.h>
#include <sys/resource.h>

#include <algorithm>
#include <iterator>

namespace lmcache::detail {
namespace {

// 1 TiB of memory. The kernel allows 16384.
constexpr unsigned kMostParts = 8192;

// The kernel refuses a table that is longer than the limit of open files, though it counts none.
std::uint32_t longest_file_table() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  return static_cast<std::uint32_t>(
      std::min<rlim_t>(limit.rlim_cur, rlim_t{FileTable::kMostFiles}));
}

}  // namespace

UringFiles::UringFiles(io_uring& ring, bool wanted) : ring_{ring} {
  std::uint32_t const size = wanted ? longest_file_table() : 0;
  if (size == 0) return;
  int refused = io_uring_register_files_sparse(&ring, size);
  if (refused != 0) {  // before 5.19
    std::vector<int> const none(size, -1);
    refused = io_uring_register_files(&ring, none.data(), size);
  }
  if (refused == 0) table_size_ = size;
}

// Now, and not some time after the ring is closed: the files are to be closed when we return.
UringFiles::~UringFiles() {
  if (has_table()) io_uring_unregister_files(&ring_);
}

void UringFiles::set(IoFile file, FileTable::Slot slot) {
  if (file.number >= files_.size()) files_.resize(file.number + 1);
  Target& target = files_[file.number];
  bool const was_registered = target.registered;
  target = {.fd = slot.fd, .alignment_bytes = slot.alignment_bytes};
  if (file.number >= table_size_ || (slot.fd < 0 && !was_registered)) return;
  bool const placed = io_uring_register_files_update(&ring_, file.number, &slot.fd, 1) == 1;
  // A descriptor that is none is left to fail when it is used.
  if (placed && slot.fd >= 0) {
    target.fd = static_cast<int>(file.number);
    target.registered = true;
  }
}

UringFiles::Target UringFiles::find(IoFile file) const noexcept {
  return file.number < files_.size() ? files_[file.number] : Target{};
}

UringMemory::UringMemory(io_uring& ring, bool wanted) : ring_{ring} {
  has_table_ = wanted && io_uring_register_buffers_sparse(&ring, kMostParts) == 0;  // 5.19
}

UringMemory::~UringMemory() {
  if (has_table_) io_uring_unregister_buffers(&ring_);
}

void UringMemory::add(std::span<std::byte> memory) {
  if (!has_table_ || refused_) return;
  while (!memory.empty()) {
    auto const size = static_cast<std::size_t>(std::min<std::uint64_t>(memory.size(), kPartBytes));
    waiting_.push_back(memory.first(size));
    memory = memory.subspan(size);
  }
}

void UringMemory::register_next() {
  if (waiting_.empty()) return;
  std::span<std::byte> const memory = waiting_.front();
  waiting_.pop_front();
  iovec const range{.iov_base = memory.data(), .iov_len = memory.size()};
  __u64 const no_tag = 0;
  auto const place = static_cast<unsigned>(parts_.size());
  // Twice the same memory: the first registration serves.
  if (find(memory.data(), memory.size())) return;
  if (place == kMostParts || parts_.contains(memory.data()) ||
      io_uring_register_buffers_update_tag(&ring_, place, &range, &no_tag, 1) != 1) {
    waiting_.clear();
    refused_ = true;
    return;
  }
  parts_.emplace(memory.data(), Part{.end = memory.data() + memory.size(),
                                     .place = static_cast<std::uint16_t>(place)});
}

std::optional<std::uint16_t> UringMemory::find(std::byte const* data,
                                               std::uint64_t size_bytes) const {
  auto const after = parts_.upper_bound(data);
  if (after == parts_.begin()) return std::nullopt;
  Part const& part = std::prev(after)->second;
  if (data >= part.end || size_bytes > static_cast<std::uint64_t>(part.end - data)) {
    return std::nullopt;
  }
  return part.place;
}

}  // namespace lmcache::detail
