// SPDX-License-Identifier: Apache-2.0
// Which chunk size each extent of the payload serves, and which of its slots were ever handed out.
//
// Invariants: an extent of class 0 is free and has no slots; slots [0, bound) of an extent have an
// entry each, slots [bound, slots) never had one. Slots are never returned singly: an entry keeps
// its slot until the whole extent is taken back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace lmcache {

inline constexpr std::uint32_t kNoExtent = 0xffff'ffff;

struct ExtentRecord {
  std::uint16_t size_class;  // 0 = free
  std::uint8_t reserved;     // backed with memory
  std::uint8_t unused;
  std::uint32_t slots;
  std::uint32_t bound;
  std::uint32_t live;  // entries of it that are not free
  // Head of the chain of its entries; `no_entry` of assign() when there are none.
  std::uint32_t first_entry;
  std::uint64_t slot_bytes;
};

// A view of the table in a segment. Externally synchronised (the space lock).
class ExtentTable {
 public:
  ExtentTable(std::span<std::byte> region, std::uint32_t extent_count,
              std::uint64_t extent_bytes) noexcept;

  [[nodiscard]] ExtentRecord& at(std::uint32_t extent) const noexcept { return records_[extent]; }
  [[nodiscard]] std::uint32_t count() const noexcept {
    return static_cast<std::uint32_t>(records_.size());
  }
  // First free extent backed with memory, else the first free one below `usable`, else kNoExtent.
  // Linear: taken once per extent's worth of slots, over a few thousand records at most.
  [[nodiscard]] std::uint32_t find_free(std::uint32_t usable) const noexcept;
  void assign(std::uint32_t extent, std::uint16_t size_class, std::uint64_t slot_bytes,
              std::uint32_t no_entry) const noexcept;
  void release(std::uint32_t extent) const noexcept;

  // Payload offset of a slot; and back.
  [[nodiscard]] std::uint64_t slot_offset(std::uint32_t extent, std::uint32_t slot) const noexcept;
  [[nodiscard]] std::uint32_t extent_of(std::uint64_t payload_offset) const noexcept;
  [[nodiscard]] std::uint32_t slot_of(std::uint64_t payload_offset) const noexcept;

  [[nodiscard]] static constexpr std::size_t region_bytes(std::uint32_t extent_count) noexcept {
    return sizeof(ExtentRecord) * extent_count;
  }

 private:
  std::span<ExtentRecord> records_;
  std::uint64_t extent_bytes_;
};

}  // namespace lmcache
