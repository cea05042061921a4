// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/batch_walk.hpp>

#include <algorithm>
#include <utility>

namespace lmcache::detail {
namespace {

bool plane_less(CopyRun const& a, CopyRun const& b) { return a.plane < b.plane; }

}  // namespace

BatchWalk::BatchWalk(CopyDirection direction, std::uint32_t plane_count,
                     std::vector<CopyItem> items)
    : direction_{direction}, plane_count_{plane_count}, items_{std::move(items)} {
  if (direction_ == CopyDirection::kSlotToEngine) {
    plane_begin_.reserve(items_.size() * (std::size_t{plane_count_} + 1));
    for (CopyItem& item : items_) {
      auto& runs = item.runs;
      if (!std::is_sorted(runs.begin(), runs.end(), plane_less)) {
        std::stable_sort(runs.begin(), runs.end(), plane_less);
      }
      std::uint32_t run = 0;
      for (std::uint32_t plane = 0; plane < plane_count_; ++plane) {
        plane_begin_.push_back(run);
        while (run < runs.size() && runs[run].plane == plane) ++run;
      }
      plane_begin_.push_back(run);
    }
  }
  if (plane_count_ == 0) item_ = items_.size();  // no plane, no run
  if (!at_end()) {
    enter_cell();
    skip_to_bytes();
  }
}

// A cell is what is walked without a jump: one plane of one item for loads, one item for stores.
void BatchWalk::enter_cell() noexcept {
  run_ = plane_begin_.empty() ? 0 : plane_begin_[item_ * (std::size_t{plane_count_} + 1) + plane_];
}

std::size_t BatchWalk::run_end() const noexcept {
  if (plane_begin_.empty()) return items_[item_].runs.size();
  return plane_begin_[item_ * (std::size_t{plane_count_} + 1) + plane_ + 1];
}

void BatchWalk::skip_to_bytes() noexcept {
  for (;;) {
    std::size_t const end = run_end();
    while (run_ < end && items_[item_].runs[run_].bytes == 0) ++run_;
    if (run_ < end) return;
    ++item_;
    if (item_ == items_.size()) {
      // Loads begin the next plane with the first item; stores, and loads after the last plane,
      // end.
      if (plane_begin_.empty() || plane_ + 1 >= plane_count_) return;
      ++plane_;
      item_ = 0;
    }
    enter_cell();
  }
}

void BatchWalk::next(std::uint64_t max_bytes, std::vector<CopyPart>& out) {
  std::uint64_t left = std::max<std::uint64_t>(max_bytes, 1);
  for (std::size_t parts = 0; parts < kMaxParts && left > 0 && !at_end(); ++parts) {
    CopyRun const& run = items_[item_].runs[run_];
    std::uint64_t const bytes = std::min(left, run.bytes - offset_);
    std::byte* const engine = run.engine + offset_;
    std::byte* const slot = items_[item_].slot + run.slot_offset + offset_;
    bool const load = direction_ == CopyDirection::kSlotToEngine;
    out.push_back({.to = load ? engine : slot,
                   .from = load ? slot : engine,
                   .bytes = static_cast<std::size_t>(bytes),
                   .item = static_cast<std::uint32_t>(item_),
                   .plane = run.plane});
    left -= bytes;
    offset_ += bytes;
    if (offset_ == run.bytes) {
      offset_ = 0;
      ++run_;
      skip_to_bytes();
    }
  }
}

}  // namespace lmcache::detail
