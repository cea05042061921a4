// SPDX-License-Identifier: Apache-2.0
// Load or recompute: a chunk in a tier below is fetched only if that is faster than computing it,
// by what was measured of both; and once it turns out not to be, nobody waits for it any more.
#pragma once

#include <cstdint>

namespace lmcache {

// Times are 0 while nothing was measured.
struct LoadEstimate {
  std::uint64_t load_bytes = 0;
  std::uint64_t queued_bytes = 0;  // that the tier reads before
  std::uint64_t bytes_per_s = 0;
  std::uint32_t tokens = 0;  // that need not be computed then
  std::uint64_t prefill_ps_per_token = 0;
  std::uint64_t largest_bytes = 0;  // of a single chunk: nothing arrives before it can
  std::uint64_t longest_ns = 0;     // is waited at most, whatever else is known; 0 = no such limit

  [[nodiscard]] std::uint64_t load_ns() const noexcept {
    return bytes_per_s == 0 ? 0 : ns_for(load_bytes + queued_bytes);
  }
  [[nodiscard]] std::uint64_t compute_ns() const noexcept {
    return prefill_ps_per_token * tokens / 1000;
  }
  // True while one of the two is not known: there is nothing else to learn it from.
  [[nodiscard]] bool worth_it() const noexcept {
    return bytes_per_s == 0 || prefill_ps_per_token == 0 || load_ns() < compute_ns();
  }
  // Whether to go on waiting, `elapsed_ns` after the start, with so much there. It costs at most a
  // twentieth of the time that computing takes to find out that a tier has become slow.
  [[nodiscard]] bool keeps_pace(std::uint64_t elapsed_ns,
                                std::uint64_t arrived_bytes) const noexcept;

 private:
  [[nodiscard]] std::uint64_t ns_for(std::uint64_t bytes) const noexcept {
    return static_cast<std::uint64_t>(static_cast<double>(bytes) * 1e9 /
                                      static_cast<double>(bytes_per_s));
  }
};

}  // namespace lmcache
