// SPDX-License-Identifier: Apache-2.0
// Cuts a batch into pieces of work, in the order in which its bytes should arrive.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <lmcache/device/copy_batch.hpp>

namespace lmcache::detail {

// A run, or a part of a long one, with its direction worked out.
struct CopyPart {
  std::byte* to = nullptr;
  std::byte const* from = nullptr;
  std::size_t bytes = 0;
  std::uint32_t item = 0;
  std::uint32_t plane = 0;
};

// Loads go plane by plane over all items, stores item by item (see DeviceCopier::submit). Nothing
// is laid out in advance: a batch of 10^5 runs costs the submitting thread one table, not a list of
// pieces. Externally synchronised.
class BatchWalk {
 public:
  // Sorts the runs of a load's items by plane where they are not.
  BatchWalk(CopyDirection direction, std::uint32_t plane_count, std::vector<CopyItem> items);

  // Appends the next parts, up to `max_bytes` and kMaxParts of them. At least one until at_end().
  void next(std::uint64_t max_bytes, std::vector<CopyPart>& out);
  [[nodiscard]] bool at_end() const noexcept { return item_ == items_.size(); }

  // Bounds the time of next() where runs are tiny.
  static constexpr std::size_t kMaxParts = 1024;

 private:
  [[nodiscard]] std::size_t run_end() const noexcept;
  void skip_to_bytes() noexcept;
  void enter_cell() noexcept;

  CopyDirection direction_;
  std::uint32_t plane_count_;
  std::vector<CopyItem> items_;
  // Loads: plane_begin_[item * (plane_count + 1) + plane] is that plane's first run. Empty for
  // stores.
  std::vector<std::uint32_t> plane_begin_;

  std::uint32_t plane_ = 0;
  std::size_t item_ = 0;
  std::size_t run_ = 0;
  std::uint64_t offset_ = 0;  // in the run
};

}  // namespace lmcache::detail
