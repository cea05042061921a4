// SPDX-License-Identifier: Apache-2.0
#include <lmcache/policy/eviction_policy.hpp>

#include <algorithm>
#include <cctype>
#include <string>

namespace lmcache {
namespace {

// The three policies that need no more than one list in order of time.
class RecencyPolicy final : public EvictionPolicy {
 public:
  RecencyPolicy(EvictionKind kind, RecencyNodes nodes) : kind_{kind}, nodes_{nodes} {}

  void on_insert(RecencyHead& candidates, std::uint32_t index, std::uint64_t now) override {
    nodes_.at(index).stamp = now;
    nodes_.push_front(candidates, index);
  }

  void on_hit(RecencyHead& candidates, std::uint32_t index, std::uint64_t now,
              bool candidate) override {
    if (kind_ == EvictionKind::kFifo) return;
    nodes_.at(index).stamp = now;
    if (candidate) nodes_.move_to_front(candidates, index);
  }

  void on_leaf(RecencyHead& candidates, std::uint32_t index) override {
    if (kind_ == EvictionKind::kMru) {
      nodes_.insert_by_stamp_at_front(candidates, index);
    } else {
      nodes_.insert_by_stamp(candidates, index);
    }
  }

  // A chunk that became a leaf again was put in front of the older ones among the last few. If
  // there are more, it is seen here, and it is moved on before it goes.
  [[nodiscard]] std::uint32_t victim(RecencyHead& candidates) override {
    if (kind_ == EvictionKind::kMru) return candidates.front;
    for (int moves = 0; moves < kMaxMoves && !nodes_.settle_back(candidates); ++moves) {
    }
    return candidates.back;
  }

  [[nodiscard]] std::uint32_t next_victim(std::uint32_t index) const override {
    auto const& node = nodes_.at(index);
    return kind_ == EvictionKind::kMru ? node.next : node.previous;
  }

  void on_refused(RecencyHead& candidates, std::uint32_t index) override {
    nodes_.remove(candidates, index);
    if (kind_ == EvictionKind::kMru) {
      nodes_.push_back(candidates, index);
      return;
    }
    // It is in use, so it counts as used: stamps never grow from front to back.
    if (candidates.front != kNoNode) {
      nodes_.at(index).stamp = std::max(nodes_.at(index).stamp, nodes_.at(candidates.front).stamp);
    }
    nodes_.push_front(candidates, index);
  }

 private:
  static constexpr int kMaxMoves = 8;

  EvictionKind kind_;
  RecencyNodes nodes_;
};

}  // namespace

Result<EvictionKind> parse_eviction(std::string_view text) {
  std::string lower{text};
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (lower == "lru") return EvictionKind::kLru;
  if (lower == "fifo") return EvictionKind::kFifo;
  if (lower == "mru") return EvictionKind::kMru;
  return Error{ErrorCode::kInvalidArgument,
               "eviction policy '" + std::string{text} + "': lru, fifo and mru are there"};
}

std::unique_ptr<EvictionPolicy> make_eviction_policy(EvictionKind kind, RecencyNodes nodes) {
  return std::make_unique<RecencyPolicy>(kind, nodes);
}

}  // namespace lmcache
