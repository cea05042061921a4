// SPDX-License-Identifier: Apache-2.0
// The status of a segment that is mapped already.
#pragma once

#include <lmcache/base/result.hpp>
#include <lmcache/engine/segment_status.hpp>
#include <lmcache/tier/dram/space_state.hpp>

namespace lmcache {

// Errors: kTimeout.
[[nodiscard]] Result<SegmentStatus> read_status(DramState& state);

}  // namespace lmcache
