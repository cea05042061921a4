// SPDX-License-Identifier: Apache-2.0
// Which chunk goes first. A policy sees indices of evictable chunks (leaves), their insertions and
// hits; what it remembers lies in the segment, so that all processes of a node share it.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include <lmcache/base/result.hpp>
#include <lmcache/policy/recency_list.hpp>

namespace lmcache {

enum class EvictionKind : std::uint8_t { kLru, kFifo, kMru };

// "lru", "fifo", "mru", in any case. Errors: kInvalidArgument naming what there is.
[[nodiscard]] Result<EvictionKind> parse_eviction(std::string_view text);

// One list of candidates per size class, made by the caller. Externally synchronised (the space
// lock).
class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;

  // A chunk was stored and has no children yet: it is a candidate from now on.
  virtual void on_insert(RecencyHead& candidates, std::uint32_t index, std::uint64_t now) = 0;
  // A chunk was used. `candidate` says whether it is in the list.
  virtual void on_hit(RecencyHead& candidates, std::uint32_t index, std::uint64_t now,
                      bool candidate) = 0;
  // The last child of a chunk went: it is a candidate again.
  virtual void on_leaf(RecencyHead& candidates, std::uint32_t index) = 0;
  // The first choice, or kNoNode; may put the candidates in order first. O(1).
  [[nodiscard]] virtual std::uint32_t victim(RecencyHead& candidates) = 0;
  // The choice after `index`, or kNoNode. O(1).
  [[nodiscard]] virtual std::uint32_t next_victim(std::uint32_t index) const = 0;
  // The first choice could not be taken (leased): another becomes the first.
  virtual void on_refused(RecencyHead& candidates, std::uint32_t index) = 0;
};

[[nodiscard]] std::unique_ptr<EvictionPolicy> make_eviction_policy(EvictionKind kind,
                                                                   RecencyNodes nodes);

}  // namespace lmcache
