// SPDX-License-Identifier: Apache-2.0
#include <lmcache/memory/extent_table.hpp>

#include <atomic>

namespace lmcache {
namespace {

// Whoever dies here leaves what was stored before, and nothing of what comes after.
void keep_order() noexcept { std::atomic_signal_fence(std::memory_order_seq_cst); }

}  // namespace

ExtentTable::ExtentTable(std::span<std::byte> region, std::uint32_t extent_count,
                         std::uint64_t extent_bytes) noexcept
    : records_{reinterpret_cast<ExtentRecord*>(region.data()), extent_count},
      extent_bytes_{extent_bytes} {}

std::uint32_t ExtentTable::find_free(std::uint32_t usable) const noexcept {
  std::uint32_t unreserved = kNoExtent;
  for (std::uint32_t extent = 0; extent < count(); ++extent) {
    auto const& record = records_[extent];
    if (record.size_class != 0) continue;
    if (record.reserved != 0) return extent;
    if (unreserved == kNoExtent && extent < usable) unreserved = extent;
  }
  return unreserved;
}

void ExtentTable::assign(std::uint32_t extent, std::uint16_t size_class, std::uint64_t slot_bytes,
                         std::uint32_t no_entry) const noexcept {
  auto& record = records_[extent];
  record.slot_bytes = slot_bytes;
  record.slots = static_cast<std::uint32_t>(extent_bytes_ / slot_bytes);
  record.bound = 0;
  record.live = 0;
  record.first_entry = no_entry;
  keep_order();  // repair trusts the rest of an assigned extent
  record.size_class = size_class;
}

void ExtentTable::release(std::uint32_t extent) const noexcept {
  auto& record = records_[extent];
  record.size_class = 0;
  keep_order();
  record.slots = 0;
  record.bound = 0;
  record.live = 0;
}

std::uint64_t ExtentTable::slot_offset(std::uint32_t extent, std::uint32_t slot) const noexcept {
  return extent * extent_bytes_ + slot * records_[extent].slot_bytes;
}

std::uint32_t ExtentTable::extent_of(std::uint64_t payload_offset) const noexcept {
  return static_cast<std::uint32_t>(payload_offset / extent_bytes_);
}

std::uint32_t ExtentTable::slot_of(std::uint64_t payload_offset) const noexcept {
  auto const extent = extent_of(payload_offset);
  return static_cast<std::uint32_t>((payload_offset - extent * extent_bytes_) /
                                    records_[extent].slot_bytes);
}

}  // namespace lmcache
