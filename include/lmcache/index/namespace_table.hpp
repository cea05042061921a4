// SPDX-License-Identifier: Apache-2.0
// The namespaces of a segment, readable: what each is made of, how much it holds and how often it
// hit. Status per model, clearing a model and explaining a miss need no scan of the entries.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <lmcache/base/result.hpp>
#include <lmcache/index/entry.hpp>
#include <lmcache/key/chunk_key.hpp>

namespace lmcache {

inline constexpr std::uint32_t kMaxNamespaces = 1024;
inline constexpr std::uint32_t kMaxLanes = 128;

struct NamespaceRecord {
  ChunkKey root;
  // 0 = record is free; else the value of `incarnation`, by which a handle sees that the record is
  // still its own.
  std::atomic<std::uint32_t> used;
  std::uint32_t lanes;
  std::uint32_t chunk_tokens;
  std::uint32_t block_tokens;
  std::uint32_t root_children;  // children of the root, lane 0
  std::uint32_t incarnation;    // grows each time the record is given to a namespace; never 0 then
  std::int64_t last_opened_unix_s;
  std::atomic<std::uint64_t> entries;
  std::atomic<std::uint64_t> bytes;
  std::atomic<std::uint64_t> lookups;
  std::atomic<std::uint64_t> lookup_tokens;
  std::atomic<std::uint64_t> hit_tokens;
  // Bytes of one block over all planes of the lane; 0 = its rank has not said yet.
  std::array<std::atomic<std::uint64_t>, kMaxLanes> lane_block_bytes;
  std::array<char, 256> model;
  std::array<char, 1024> description;  // JSON
};

struct NamespaceOpen {
  ChunkKey root;
  std::string_view model;
  std::string_view description;
  std::uint32_t lanes;
  std::uint32_t chunk_tokens;
  std::uint32_t block_tokens;
  std::int64_t now_unix_s;
};

// A view in a segment; cheap to copy. Externally synchronised (the space lock), the counters
// excepted.
class NamespaceTable {
 public:
  explicit NamespaceTable(std::span<std::byte> region) noexcept;

  // Finds or makes the record. When the table is full the record opened longest ago that holds
  // nothing gives way. Errors: kInvalidArgument (too many lanes), kOutOfMemory (all records hold
  // chunks).
  [[nodiscard]] Result<std::uint16_t> open(NamespaceOpen const& request);
  [[nodiscard]] NamespaceRecord& at(std::uint16_t id) const noexcept { return records_[id]; }
  [[nodiscard]] std::span<NamespaceRecord> records() const noexcept { return records_; }

  [[nodiscard]] static constexpr std::size_t region_bytes() noexcept {
    return sizeof(NamespaceRecord) * kMaxNamespaces;
  }

 private:
  std::span<NamespaceRecord> records_;
};

}  // namespace lmcache
