// SPDX-License-Identifier: Apache-2.0
// Intrusive doubly linked lists over an array of nodes in shared memory, by index.
//
// Invariants: a node is in one list at most (whoever calls knows which); front is the most recent;
// stamps do not grow from front to back, but for nodes that belonged farther in than an insertion
// looks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace lmcache {

inline constexpr std::uint32_t kNoNode = 0xffff'ffff;

struct RecencyNode {
  std::uint32_t previous;
  std::uint32_t next;
  std::uint64_t stamp;  // logical time of the last use
};

struct RecencyHead {
  std::uint32_t front;
  std::uint32_t back;
  std::uint32_t count;
  std::uint32_t unused;

  void clear() noexcept { front = back = kNoNode, count = 0; }
};

// A view in a segment; cheap to copy. All operations O(1). Externally synchronised (the space
// lock).
class RecencyNodes {
 public:
  explicit RecencyNodes(std::span<std::byte> region) noexcept
      : nodes_{reinterpret_cast<RecencyNode*>(region.data()), region.size() / sizeof(RecencyNode)} {
  }

  [[nodiscard]] RecencyNode& at(std::uint32_t index) const noexcept { return nodes_[index]; }

  void push_front(RecencyHead& list, std::uint32_t index) const noexcept;
  void push_back(RecencyHead& list, std::uint32_t index) const noexcept;
  void remove(RecencyHead& list, std::uint32_t index) const noexcept;
  void move_to_front(RecencyHead& list, std::uint32_t index) const noexcept;
  // In front of all that are older, as far as the last 32 tell: a chunk that just became a leaf is
  // about as old as its last child, which was the oldest.
  void insert_by_stamp(RecencyHead& list, std::uint32_t index) const noexcept;
  // Behind all that are more recent, as far as the first 32 tell: where the most recent go first.
  void insert_by_stamp_at_front(RecencyHead& list, std::uint32_t index) const noexcept;
  // Moves the last node on if one of the 32 in front of it is older.
  // False: it was moved, and the last one is another now.
  [[nodiscard]] bool settle_back(RecencyHead& list) const noexcept;

 private:
  [[nodiscard]] std::uint32_t last_older(std::uint32_t from, std::uint64_t stamp) const noexcept;
  void insert_before(RecencyHead& list, std::uint32_t index, std::uint32_t next) const noexcept;

  std::span<RecencyNode> nodes_;
};

}  // namespace lmcache
