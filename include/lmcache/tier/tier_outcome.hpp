// SPDX-License-Identifier: Apache-2.0
// How a transfer between memory and a tier below it ended.
#pragma once

#include <cstdint>

namespace lmcache {

enum class TierOutcome : std::uint8_t {
  kDone,
  kMissing,    // not there (any more)
  kDuplicate,  // there already, or being written
  kCorrupt,    // read, but not what was written: forgotten
  kNoSpace,    // nothing could make room
  kIoError,
  kClosed,  // the tier was closed, or is left alone, before it began
};

}  // namespace lmcache
