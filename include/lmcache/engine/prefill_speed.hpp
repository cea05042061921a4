// SPDX-License-Identifier: Apache-2.0
// How long the serving engine takes to compute a token of a prompt, as its processes measured.
#pragma once

#include <cstdint>

#include <lmcache/tier/dram/dram_tier.hpp>

namespace lmcache {

// Picoseconds per token, over all processes of our instance; 0 = not measured.
[[nodiscard]] std::uint64_t measured_prefill(DramTier& dram);

}  // namespace lmcache
