// SPDX-License-Identifier: Apache-2.0
#include <lmcache/index/chunk_tree.hpp>

#include <algorithm>
#include <bit>

namespace lmcache {

ChunkTree::ChunkTree(std::span<std::byte> fingerprint_region, std::span<Entry> entries) noexcept
    : buckets_{reinterpret_cast<std::uint32_t*>(fingerprint_region.data()),
               std::bit_floor(fingerprint_region.size() / sizeof(std::uint32_t))},
      entries_{entries} {}

void ChunkTree::initialise() const noexcept { std::ranges::fill(buckets_, kNoEntry); }

void ChunkTree::link(std::uint32_t child, std::uint32_t parent,
                     std::uint32_t* root_children) const noexcept {
  auto& entry = entries_[child];
  auto* const head = parent != kNoEntry ? &entries_[parent].first_child : root_children;
  entry.parent = parent;
  entry.previous_sibling = kNoEntry;
  entry.next_sibling = kNoEntry;
  if (head == nullptr) return;
  entry.next_sibling = *head;
  if (*head != kNoEntry) entries_[*head].previous_sibling = child;
  *head = child;
  if (parent != kNoEntry) ++entries_[parent].child_count;
}

void ChunkTree::unlink(std::uint32_t child, std::uint32_t* root_children) const noexcept {
  auto& entry = entries_[child];
  if (entry.previous_sibling != kNoEntry) {
    entries_[entry.previous_sibling].next_sibling = entry.next_sibling;
  } else if (entry.parent != kNoEntry) {
    entries_[entry.parent].first_child = entry.next_sibling;
  } else if (root_children != nullptr && *root_children == child) {
    *root_children = entry.next_sibling;
  }
  if (entry.next_sibling != kNoEntry) {
    entries_[entry.next_sibling].previous_sibling = entry.previous_sibling;
  }
  if (entry.parent != kNoEntry) --entries_[entry.parent].child_count;
  entry.parent = entry.next_sibling = entry.previous_sibling = kNoEntry;
}

void ChunkTree::orphan_children(std::uint32_t parent) const noexcept {
  for (std::uint32_t child = entries_[parent].first_child; child != kNoEntry;) {
    auto& entry = entries_[child];
    child = entry.next_sibling;
    entry.parent = entry.next_sibling = entry.previous_sibling = kNoEntry;
  }
  entries_[parent].first_child = kNoEntry;
  entries_[parent].child_count = 0;
}

void ChunkTree::link_fingerprint(std::uint32_t index, std::uint32_t fingerprint) const noexcept {
  auto& entry = entries_[index];
  auto& head = bucket_of(fingerprint);
  entry.fingerprint_previous = kNoEntry;
  entry.fingerprint_next = head;
  if (head != kNoEntry) entries_[head].fingerprint_previous = index;
  head = index;
  entry.fingerprint = fingerprint;
}

void ChunkTree::unlink_fingerprint(std::uint32_t index) const noexcept {
  auto& entry = entries_[index];
  if (entry.fingerprint == 0) return;
  if (entry.fingerprint_previous != kNoEntry) {
    entries_[entry.fingerprint_previous].fingerprint_next = entry.fingerprint_next;
  } else {
    bucket_of(entry.fingerprint) = entry.fingerprint_next;
  }
  if (entry.fingerprint_next != kNoEntry) {
    entries_[entry.fingerprint_next].fingerprint_previous = entry.fingerprint_previous;
  }
  entry.fingerprint = 0;
}

std::uint32_t ChunkTree::first_with_fingerprint(std::uint32_t fingerprint) const noexcept {
  return bucket_of(fingerprint);
}

}  // namespace lmcache
