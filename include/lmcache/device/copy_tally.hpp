// SPDX-License-Identifier: Apache-2.0
// Counts the bytes of a batch as they arrive and tells which items and planes are whole.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <lmcache/device/batch_walk.hpp>
#include <lmcache/device/copy_batch.hpp>
#include <lmcache/device/device_copier.hpp>

namespace lmcache::detail {

// An item goes from pending to settled once. It is settled only after its callback has returned, so
// "every item is settled" is "no thread touches the batch's memory and no callback runs".
// Externally synchronised.
class CopyTally {
 public:
  CopyTally(std::uint32_t plane_count, std::span<CopyItem const> items);

  // Takes the parts as copied; appends the items that are whole by now. True if planes_arrived
  // grew.
  bool arrived(std::span<CopyPart const> parts, std::vector<std::uint32_t>& whole_items);
  void settle(std::uint32_t item, CopyStatus status);

  // Items without bytes: whole from the start, and reported by nobody else.
  [[nodiscard]] std::vector<std::uint32_t> empty_items() const;
  [[nodiscard]] std::vector<std::uint32_t> pending_items() const;
  [[nodiscard]] CopyStatus status(std::uint32_t item) const;
  [[nodiscard]] CopyProgress progress() const noexcept;
  [[nodiscard]] bool over() const noexcept { return settled_ == statuses_.size(); }
  [[nodiscard]] std::uint64_t total_bytes() const noexcept { return total_bytes_; }

 private:
  void skip_whole_planes() noexcept;

  std::vector<std::uint64_t> item_left_;
  std::vector<std::uint64_t> plane_left_;
  std::vector<CopyStatus> statuses_;
  std::uint64_t total_bytes_ = 0;
  std::uint32_t planes_arrived_ = 0;
  std::size_t settled_ = 0;
};

}  // namespace lmcache::detail
