// SPDX-License-Identifier: Apache-2.0
// Cuts ranges of any size out of a space that nobody here touches, and joins what is given back.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

namespace lmcache::detail {

// Invariants: free ranges neither overlap nor touch; each begins at a multiple of kAlign.
// Externally synchronised.
class FreeRanges {
 public:
  // As far apart as slots must begin, so that copies of 16 bytes are possible: cuMemAlloc's
  // promise.
  static constexpr std::uint64_t kAlign = 256;
  [[nodiscard]] static constexpr std::uint64_t rounded(std::uint64_t bytes) noexcept {
    return (bytes + kAlign - 1) / kAlign * kAlign;
  }

  explicit FreeRanges(std::uint64_t size_bytes);

  // Where the range begins: the lowest place where it fits. Nothing: it fits nowhere.
  [[nodiscard]] std::optional<std::uint64_t> take(std::uint64_t bytes);
  // Of a range that was taken with as many bytes.
  void give_back(std::uint64_t begin, std::uint64_t bytes);

 private:
  std::map<std::uint64_t, std::uint64_t> free_;  // begin -> bytes
};

}  // namespace lmcache::detail
