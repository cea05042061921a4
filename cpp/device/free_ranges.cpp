// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/free_ranges.hpp>

#include <algorithm>
#include <iterator>

namespace lmcache::detail {

FreeRanges::FreeRanges(std::uint64_t size_bytes) {
  std::uint64_t const usable = size_bytes / kAlign * kAlign;
  if (usable != 0) free_.emplace(0, usable);
}

std::optional<std::uint64_t> FreeRanges::take(std::uint64_t bytes) {
  std::uint64_t const wanted = rounded(bytes);
  auto const found =
      std::ranges::find_if(free_, [&](auto const& range) { return range.second >= wanted; });
  if (found == free_.end() || wanted == 0) return std::nullopt;
  auto const [begin, size] = *found;
  free_.erase(found);
  if (size > wanted) free_.emplace(begin + wanted, size - wanted);
  return begin;
}

void FreeRanges::give_back(std::uint64_t begin, std::uint64_t bytes) {
  std::uint64_t end = begin + rounded(bytes);
  auto after = free_.lower_bound(begin);
  if (after != free_.end() && after->first == end) {
    end += after->second;
    after = free_.erase(after);
  }
  if (after != free_.begin()) {
    auto const before = std::prev(after);
    if (before->first + before->second == begin) {
      before->second = end - before->first;
      return;
    }
  }
  free_.emplace_hint(after, begin, end - begin);
}

}  // namespace lmcache::detail
