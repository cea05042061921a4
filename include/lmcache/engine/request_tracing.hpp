// SPDX-License-Identifier: Apache-2.0
// What is written down of a request that asked the cache, while the reason for a miss is still
// there to be seen: soon after, the request itself stores what it missed.
#pragma once

#include <cstdint>
#include <string_view>

#include <lmcache/key/key_chain.hpp>
#include <lmcache/metrics/request_log.hpp>
#include <lmcache/tier/disk/disk_tier.hpp>
#include <lmcache/tier/dram/dram_tier.hpp>
#include <lmcache/tier/remote/remote_tier.hpp>

namespace lmcache {

// As the serving engine saw it; the members are those of RequestTrace.
struct RequestSeen {
  std::string_view request_id{};
  RequestOutcome outcome = RequestOutcome::kLookedUp;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t limit_tokens = 0;
  std::uint32_t computed_tokens = 0;
  std::uint32_t memory_tokens = 0;
  std::uint32_t found_tokens = 0;
  std::uint32_t loaded_tokens = 0;
  std::uint32_t wait_us = 0;
  std::uint8_t preemptions = 0;
  bool whole_chunks_only = false;
  std::string_view note{};
};

struct TracedTiers {
  DramTier& dram;
  DiskTier* disk = nullptr;
  RemoteTier* remote = nullptr;  // what it is known to have: nobody is asked
};

// `space` and `chain` may be missing where there was no look-up. A microsecond or two, most of it
// the key of the tail, and that only where something was missing.
void trace_request(TracedTiers tiers, RequestSeen const& seen, DramNamespace const* space,
                   KeyChain const* chain);

}  // namespace lmcache
