// SPDX-License-Identifier: Apache-2.0
// The arguments of the copy kernel: one kernel gathers, scatters and moves within the device, since
// registered host memory has a device address too. Strides and layouts are worked out before, into
// entries, so no layout has a kernel of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace lmcache {

// `bytes` bytes from `from` to `to`, both device addresses, of any alignment. The kernel moves 16
// bytes at a time where `to`, `from` and `bytes` allow, and is right (if slower) where they do not.
// Entries of one launch do not overlap. bytes = 0 is allowed and does nothing.
struct CopyEntry {
  std::uint64_t to = 0;
  std::uint64_t from = 0;
  std::uint64_t bytes = 0;
};
static_assert(std::is_trivially_copyable_v<CopyEntry> && sizeof(CopyEntry) == 24 &&
              alignof(CopyEntry) == 8);

// The name in the module image. Its parameters, in this order:
//   CopyEntry const* entries   device address
//   std::uint32_t    count     may be 0
// Any grid and block (block a multiple of 32, up to 1024) give the same result: the blocks take
// entries in turn (entry i goes to block i mod grid), the threads of a block share an entry.
inline constexpr char const* kCopyKernelName = "lmcache_copy_entries";

// The copier cuts longer runs into entries of this size, so that the blocks of one launch end at
// about the same time. The kernel takes any length.
inline constexpr std::uint64_t kCopyEntryBytes = 32 * 1024;

}  // namespace lmcache
