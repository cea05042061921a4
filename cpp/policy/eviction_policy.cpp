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
    nodes_.insert_by_stamp(candidates, index);
  }

  [[nodiscard]] std::uint32_t victim(RecencyHead const& candidates) const override {
    return kind_ == EvictionKind::kMru ? candidates.front : candidates.back;
  }

  void on_refused(RecencyHead& candidates, std::uint32_t index) override {
    nodes_.remove(candidates, index);
    if (kind_ == EvictionKind::kMru) {
      nodes_.push_back(candidates, index);
    } else {
      nodes_.push_front(candidates, index);
    }
  }

 private:
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
