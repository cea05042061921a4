// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/load_rule.hpp>

#include <algorithm>

namespace lmcache {
namespace {

constexpr std::uint64_t kShareForFindingOut = 20;
constexpr std::uint64_t kLeastWaitNs = 2'000'000;
// When nobody knows how long computing takes.
constexpr std::uint64_t kLongestWaitNs = 10'000'000'000;

}  // namespace

bool LoadEstimate::keeps_pace(std::uint64_t elapsed_ns,
                              std::uint64_t arrived_bytes) const noexcept {
  if (longest_ns != 0 && elapsed_ns >= longest_ns) return false;
  std::uint64_t const compute = compute_ns();
  if (compute == 0) return elapsed_ns < kLongestWaitNs;
  std::uint64_t const patience = std::max(kLeastWaitNs, compute / kShareForFindingOut);
  if (elapsed_ns < patience) return true;
  if (arrived_bytes == 0) {
    // The first chunk takes its time, also when all goes well.
    std::uint64_t const first = bytes_per_s == 0 ? 0 : 3 * ns_for(largest_bytes + queued_bytes);
    return elapsed_ns < std::min(compute, std::max(patience, first));
  }
  auto const share = static_cast<double>(arrived_bytes) / static_cast<double>(load_bytes);
  return static_cast<double>(elapsed_ns) < share * static_cast<double>(compute);
}

}  // namespace lmcache
