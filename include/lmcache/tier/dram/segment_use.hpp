// SPDX-License-Identifier: Apache-2.0
// What a segment holds, counted entry by entry; and emptying it. Both work on a segment that was
// attached without joining it.
#pragma once

#include <cstdint>
#include <optional>

#include <lmcache/tier/dram/space_state.hpp>

namespace lmcache {

struct SegmentUse {
  std::uint64_t reserved_bytes = 0;
  std::uint64_t used_bytes = 0;  // payload of chunks that are there
  std::uint32_t ready = 0;
  std::uint32_t writing = 0;
  std::uint32_t free_slots = 0;
  std::uint32_t bound_slots = 0;  // = ready + writing + free_slots
  std::uint32_t leased = 0;
};

// Walks all entries under the space lock: milliseconds per million. Errors: kTimeout.
[[nodiscard]] Result<SegmentUse> measure_use(DramState& state);

// Evicts what is not leased, of one namespace or of all. Returns how many chunks.
[[nodiscard]] std::uint64_t clear_chunks(DramState& state,
                                         std::optional<std::uint16_t> namespace_id);

}  // namespace lmcache
