// SPDX-License-Identifier: Apache-2.0
#include <lmcache/policy/recency_list.hpp>

namespace lmcache {
namespace {

constexpr int kMaxSteps = 32;

}  // namespace

void RecencyNodes::insert_before(RecencyHead& list, std::uint32_t index,
                                 std::uint32_t next) const noexcept {
  auto& node = nodes_[index];
  node.next = next;
  node.previous = next != kNoNode ? nodes_[next].previous : list.back;
  (node.previous != kNoNode ? nodes_[node.previous].next : list.front) = index;
  (next != kNoNode ? nodes_[next].previous : list.back) = index;
  ++list.count;
}

void RecencyNodes::push_front(RecencyHead& list, std::uint32_t index) const noexcept {
  insert_before(list, index, list.front);
}

void RecencyNodes::push_back(RecencyHead& list, std::uint32_t index) const noexcept {
  insert_before(list, index, kNoNode);
}

void RecencyNodes::remove(RecencyHead& list, std::uint32_t index) const noexcept {
  auto const& node = nodes_[index];
  (node.previous != kNoNode ? nodes_[node.previous].next : list.front) = node.next;
  (node.next != kNoNode ? nodes_[node.next].previous : list.back) = node.previous;
  --list.count;
}

void RecencyNodes::move_to_front(RecencyHead& list, std::uint32_t index) const noexcept {
  if (list.front == index) return;
  remove(list, index);
  push_front(list, index);
}

// Of `from` and the 31 nodes in front of it, the one farthest to the front that is older.
std::uint32_t RecencyNodes::last_older(std::uint32_t from, std::uint64_t stamp) const noexcept {
  std::uint32_t older = kNoNode;
  for (int step = 0; step < kMaxSteps && from != kNoNode; ++step) {
    if (nodes_[from].stamp < stamp) older = from;
    from = nodes_[from].previous;
  }
  return older;
}

void RecencyNodes::insert_by_stamp(RecencyHead& list, std::uint32_t index) const noexcept {
  insert_before(list, index, last_older(list.back, nodes_[index].stamp));
}

void RecencyNodes::insert_by_stamp_at_front(RecencyHead& list, std::uint32_t index) const noexcept {
  std::uint32_t at = list.front;
  for (int step = 0; step < kMaxSteps && at != kNoNode && nodes_[at].stamp > nodes_[index].stamp;
       ++step) {
    at = nodes_[at].next;
  }
  insert_before(list, index, at);
}

bool RecencyNodes::settle_back(RecencyHead& list) const noexcept {
  std::uint32_t const last = list.back;
  if (last == kNoNode) return true;
  std::uint32_t const older = last_older(nodes_[last].previous, nodes_[last].stamp);
  if (older == kNoNode) return true;
  remove(list, last);
  insert_before(list, last, older);
  return false;
}

}  // namespace lmcache
