// SPDX-License-Identifier: Apache-2.0
#include <lmcache/io/file_table.hpp>

#include <algorithm>
#include <functional>
#include <string>

namespace lmcache::detail {

Result<IoFile> FileTable::add(Slot slot) {
  if (free_.empty()) {
    if (slots_.size() == kMostFiles) {
      return Error{ErrorCode::kOutOfMemory,
                   "all " + std::to_string(kMostFiles) + " files of the I/O engine are taken"};
    }
    slots_.push_back(slot);
    return IoFile{static_cast<std::uint32_t>(slots_.size() - 1)};
  }
  std::ranges::pop_heap(free_, std::greater{});
  std::uint32_t const number = free_.back();
  free_.pop_back();
  slots_[number] = slot;
  return IoFile{number};
}

void FileTable::remove(IoFile file) noexcept {
  if (find(file).fd < 0) return;
  slots_[file.number] = {};
  free_.push_back(file.number);
  std::ranges::push_heap(free_, std::greater{});
}

FileTable::Slot FileTable::find(IoFile file) const noexcept {
  return file.number < slots_.size() ? slots_[file.number] : Slot{};
}

}  // namespace lmcache::detail
