// SPDX-License-Identifier: Apache-2.0
// Parents and children of chunks, and the table that finds chunks whose first tokens agree.
//
// Invariants: the children of an entry are those entries of its lane whose `parent` it is; a
// fingerprint chain holds the entries of lane 0 that have that fingerprint's bucket; both lists are
// most recent first. A child whose parent was evicted has no parent until it is evicted itself.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include <lmcache/index/entry.hpp>

namespace lmcache {

// A view in a segment; cheap to copy. Externally synchronised (the space lock).
class ChunkTree {
 public:
  ChunkTree(std::span<std::byte> fingerprint_region, std::span<Entry> entries) noexcept;
  void initialise() const noexcept;

  // `root_children` is the list head that stands for a parent at the root (of lane 0 of a
  // namespace).
  void link(std::uint32_t child, std::uint32_t parent, std::uint32_t* root_children) const noexcept;
  void unlink(std::uint32_t child, std::uint32_t* root_children) const noexcept;
  // Leaves the children of an entry without a parent.
  void orphan_children(std::uint32_t parent) const noexcept;

  void link_fingerprint(std::uint32_t index, std::uint32_t fingerprint) const noexcept;
  void unlink_fingerprint(std::uint32_t index) const noexcept;
  [[nodiscard]] std::uint32_t first_with_fingerprint(std::uint32_t fingerprint) const noexcept;

 private:
  [[nodiscard]] std::uint32_t& bucket_of(std::uint32_t fingerprint) const noexcept {
    return buckets_[fingerprint & (buckets_.size() - 1)];
  }

  std::span<std::uint32_t> buckets_;
  std::span<Entry> entries_;
};

}  // namespace lmcache
