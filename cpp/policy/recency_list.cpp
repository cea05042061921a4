// SPDX-License-Identifier: Apache-2.0
#include <lmcache/policy/recency_list.hpp>

namespace lmcache {

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

void RecencyNodes::insert_by_stamp(RecencyHead& list, std::uint32_t index) const noexcept {
  constexpr int kMaxSteps = 32;
  std::uint64_t const stamp = nodes_[index].stamp;
  std::uint32_t older = kNoNode;  // the node that ours goes in front of
  std::uint32_t at = list.back;
  for (int step = 0; step < kMaxSteps && at != kNoNode && nodes_[at].stamp < stamp; ++step) {
    older = at;
    at = nodes_[at].previous;
  }
  insert_before(list, index, older);
}

}  // namespace lmcache
