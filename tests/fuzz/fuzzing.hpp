// SPDX-License-Identifier: Apache-2.0
// What the targets share: a check that holds in every build, and inputs that get past a checksum.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>

// Of libFuzzer.
extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace lmcache::fuzz {

inline void require(bool condition, char const* what) {
  if (condition) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

// The input as a T; what it lacks is zero.
template <class T>
[[nodiscard]] T take(std::uint8_t const* data, std::size_t size) {
  T out{};
  std::memcpy(&out, data, size < sizeof out ? size : sizeof out);
  return out;
}

[[nodiscard]] inline std::span<std::byte const> bytes_of(std::uint8_t const* data,
                                                         std::size_t size) {
  return std::as_bytes(std::span{data, size});
}

// Random inputs never get past a checksum: half of them are sealed after they were changed.
template <class T, class Seal>
std::size_t mutate_sealed(std::uint8_t* data, std::size_t size, std::size_t max_size,
                          unsigned choice, Seal&& seal) {
  size = LLVMFuzzerMutate(data, size, max_size);
  if (choice % 2 == 0 || max_size < sizeof(T)) return size;
  T record = take<T>(data, size);
  seal(record);
  std::memcpy(data, &record, sizeof record);
  return size < sizeof record ? sizeof record : size;
}

}  // namespace lmcache::fuzz
