// SPDX-License-Identifier: Apache-2.0
// Finds a slot for a chunk, by evicting if need be. O(1) but for an extent that changes its size
// class.
#pragma once

#include <cstdint>
#include <optional>

#include <lmcache/base/result.hpp>
#include <lmcache/tier/dram/space_state.hpp>

namespace lmcache {

// Externally synchronised: every call is made under the space lock.
class SlotAllocator {
 public:
  explicit SlotAllocator(DramState& state) noexcept : state_{state} {}

  // A free entry bound to a slot of at least `size_bytes`, in no list. Its caller makes it kWriting
  // or gives it back by put_back(). Errors: kOutOfMemory (nothing can be evicted), kInvalidArgument
  // (larger than an extent, or too many different sizes).
  [[nodiscard]] Result<std::uint32_t> allocate(std::uint64_t size_bytes);
  void put_back(std::uint32_t entry) noexcept;

  // Frees one chunk unless it is leased or being written. evict() counts it as evicted.
  [[nodiscard]] bool remove(std::uint32_t entry, RemovalReason reason) noexcept;
  [[nodiscard]] bool evict(std::uint32_t entry) noexcept;

  // The slot size that chunks of `size_bytes` share: whole pages, or cache lines for small objects.
  [[nodiscard]] static std::uint64_t slot_bytes(std::uint64_t size_bytes) noexcept;

 private:
  [[nodiscard]] Result<std::uint16_t> class_for(std::uint64_t slot_bytes);
  [[nodiscard]] std::optional<std::uint32_t> bump(std::uint16_t size_class);
  [[nodiscard]] bool open_extent(std::uint16_t size_class);
  [[nodiscard]] std::uint32_t prefer_kept_below(std::uint32_t victim) const noexcept;
  [[nodiscard]] bool evict_from(SizeClass& size_class) noexcept;
  // Empties the extent that holds the chunk which was not used for longest, of another class.
  [[nodiscard]] bool take_back_extent(std::uint16_t for_class) noexcept;
  // Takes an extent of another class in which nothing lies any more.
  [[nodiscard]] bool release_unused_extent(std::uint16_t for_class) noexcept;
  [[nodiscard]] bool empty_extent(std::uint32_t extent) noexcept;
  [[nodiscard]] std::optional<std::uint32_t> unbound_entry();

  DramState& state_;
};

// Unbinds every entry of an extent whose entries are all free, and frees the extent.
void release_extent(DramState& state, std::uint32_t extent) noexcept;

}  // namespace lmcache
