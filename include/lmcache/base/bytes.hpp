// SPDX-License-Identifier: Apache-2.0
// Bytes as numbers, and as text for people: little-endian fields, hex, alignment, sizes.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include <lmcache/base/result.hpp>

namespace lmcache {

// Token ids are hashed and stored straight out of memory as little-endian u32 (key_chain.hpp).
static_assert(std::endian::native == std::endian::little, "lmcache needs a little-endian host");

// Unaligned little-endian access. The caller checks bounds.
template <std::unsigned_integral T>
[[nodiscard]] T load_le(void const* from) noexcept {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <std::unsigned_integral T>
void store_le(void* to, T value) noexcept {
  std::memcpy(to, &value, sizeof value);
}

// Appends a number to a byte string that is about to be hashed or written.
template <std::unsigned_integral T>
void append_le(std::string& out, T value) {
  char raw[sizeof value];
  store_le(raw, value);
  out.append(raw, sizeof raw);
}

// Length (u64) before content, so that bytes cannot move from one field to its neighbour.
inline void append_field(std::string& out, std::string_view bytes) {
  append_le(out, static_cast<std::uint64_t>(bytes.size()));
  out.append(bytes);
}

// `alignment` is a power of two; the result must fit (the caller's sizes are checked against that).
template <std::unsigned_integral T>
[[nodiscard]] constexpr T align_up(T value, T alignment) noexcept {
  return static_cast<T>((value + (alignment - 1)) & ~(alignment - 1));
}

template <std::unsigned_integral T>
[[nodiscard]] constexpr T align_down(T value, T alignment) noexcept {
  return static_cast<T>(value & ~(alignment - 1));
}

// Overflow is a failure, not a wrap: sizes come from configuration and from peers.
[[nodiscard]] Result<std::uint64_t> checked_multiply(std::uint64_t a, std::uint64_t b);
[[nodiscard]] Result<std::uint64_t> checked_add(std::uint64_t a, std::uint64_t b);

// Lower-case hex.
[[nodiscard]] std::string to_hex(std::span<std::uint8_t const> bytes);

// Fills `out` exactly; upper and lower case are read. kInvalidArgument on a wrong length or digit.
[[nodiscard]] Result<void> from_hex(std::string_view hex, std::span<std::uint8_t> out);

// "0 B", "512 B", "1.5 KiB", "20 GiB": at most one decimal, binary units.
[[nodiscard]] std::string format_bytes(std::uint64_t size_bytes);

}  // namespace lmcache
