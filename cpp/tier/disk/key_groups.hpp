// SPDX-License-Identifier: Apache-2.0
// Finds the keys among many that are there twice.
//
// Keys are spread evenly. In groups by their first bits, those of a million fit the first cache, so
// that the time grows with their number alone.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <lmcache/key/chunk_key.hpp>

namespace lmcache::detail {

// Externally synchronised.
class KeyGroups {
 public:
  explicit KeyGroups(std::uint64_t expected_keys) : groups_(std::size_t{1} << kGroupBits) {
    for (auto& group : groups_) group.reserve((expected_keys >> kGroupBits) * 5 / 4 + 8);
  }

  void add(ChunkKey const& key, std::uint32_t number) {
    std::uint64_t const prefix = key.prefix64();
    groups_[prefix >> (64 - kGroupBits)].push_back(
        {.bits = static_cast<std::uint32_t>(prefix >> (32 - kGroupBits)), .number = number});
  }

  // pair(a, b): the numbers of keys that are equal in their first 44 bits, a was added before b.
  template <class Pair>
  void for_each_pair(Pair&& pair) const {
    std::vector<std::uint32_t> places;  // in the group, from 1; 0: empty
    for (auto const& group : groups_) {
      std::size_t const mask = std::bit_ceil(group.size() * 2 + 1) - 1;
      places.assign(mask + 1, 0);
      for (std::size_t i = 0; i < group.size(); ++i) {
        std::size_t at = group[i].bits & mask;
        for (; places[at] != 0; at = (at + 1) & mask) {
          auto const& other = group[places[at] - 1];
          if (other.bits == group[i].bits) pair(other.number, group[i].number);
        }
        places[at] = static_cast<std::uint32_t>(i + 1);
      }
    }
  }

 private:
  static constexpr int kGroupBits = 12;
  struct Member {
    std::uint32_t bits;  // that follow those of the group
    std::uint32_t number;
  };

  std::vector<std::vector<Member>> groups_;
};

}  // namespace lmcache::detail
