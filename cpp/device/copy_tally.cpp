// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/copy_tally.hpp>

namespace lmcache::detail {

CopyTally::CopyTally(std::uint32_t plane_count, std::span<CopyItem const> items)
    : item_left_(items.size(), 0),
      plane_left_(plane_count, 0),
      statuses_(items.size(), CopyStatus::kPending) {
  for (std::size_t i = 0; i < items.size(); ++i) {
    for (CopyRun const& run : items[i].runs) {
      item_left_[i] += run.bytes;
      plane_left_[run.plane] += run.bytes;
    }
    total_bytes_ += item_left_[i];
  }
  skip_whole_planes();
}

void CopyTally::skip_whole_planes() noexcept {
  while (planes_arrived_ < plane_left_.size() && plane_left_[planes_arrived_] == 0)
    ++planes_arrived_;
}

bool CopyTally::arrived(std::span<CopyPart const> parts, std::vector<std::uint32_t>& whole_items) {
  for (CopyPart const& part : parts) {
    plane_left_[part.plane] -= part.bytes;
    item_left_[part.item] -= part.bytes;
    if (item_left_[part.item] == 0) whole_items.push_back(part.item);
  }
  std::uint32_t const before = planes_arrived_;
  skip_whole_planes();
  return planes_arrived_ != before;
}

void CopyTally::settle(std::uint32_t item, CopyStatus status) {
  statuses_[item] = status;
  ++settled_;
}

std::vector<std::uint32_t> CopyTally::empty_items() const {
  std::vector<std::uint32_t> empty;
  for (std::uint32_t i = 0; i < item_left_.size(); ++i) {
    if (item_left_[i] == 0) empty.push_back(i);
  }
  return empty;
}

std::vector<std::uint32_t> CopyTally::pending_items() const {
  std::vector<std::uint32_t> pending;
  for (std::uint32_t i = 0; i < statuses_.size(); ++i) {
    if (statuses_[i] == CopyStatus::kPending) pending.push_back(i);
  }
  return pending;
}

CopyStatus CopyTally::status(std::uint32_t item) const {
  return item < statuses_.size() ? statuses_[item] : CopyStatus::kCancelled;
}

CopyProgress CopyTally::progress() const noexcept {
  return {.planes_arrived = planes_arrived_,
          .plane_count = static_cast<std::uint32_t>(plane_left_.size()),
          .over = over()};
}

}  // namespace lmcache::detail
