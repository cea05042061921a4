// SPDX-License-Identifier: Apache-2.0
// memcpy for bytes that nobody reads soon: past the caches, with non-temporal stores.
#pragma once

#include <cstddef>

namespace lmcache {

// The instruction set that copy_bytes() found when it was first called; for status and benchmarks.
enum class StreamCopyKind : unsigned char {
  kMemcpy,  // plain stores: other architectures, and builds with a sanitizer (which must see the
            // bytes)
  kAvx2,
};
[[nodiscard]] StreamCopyKind stream_copy_kind() noexcept;

// Copies `bytes` bytes; the ranges do not overlap. `next_from` is where the caller will read next,
// if it knows (else nullptr): it is never dereferenced, but its first lines are fetched ahead.
// Other threads see the bytes only after copy_fence() and a synchronisation, in this order.
// Thread-safe.
void copy_bytes(std::byte* to, std::byte const* from, std::size_t bytes,
                std::byte const* next_from = nullptr) noexcept;

// Has the processor look up the pages of a range that is copied soon; it is never dereferenced.
void look_up_pages(std::byte const* address, std::size_t bytes) noexcept;

// Orders all copy_bytes() of this thread before its later stores, such as the unlock that hands
// them over.
void copy_fence() noexcept;

namespace detail {

// What the dispatcher may choose. Both take any size and alignment. copy_avx2() needs a processor
// that has it; on other architectures it is a memcpy. `intel`: in the order that suits those.
void copy_avx2(std::byte* to, std::byte const* from, std::size_t bytes, std::byte const* next_from,
               bool intel) noexcept;
[[nodiscard]] bool has_avx2() noexcept;
[[nodiscard]] bool is_intel() noexcept;

}  // namespace detail
}  // namespace lmcache
