// SPDX-License-Identifier: Apache-2.0
// Lossy compression by groups: 8-bit codes and one float32 scale for each group of neighbouring
// elements. What is written, which host and device agree on to the last bit:
//
//  * scale = max(largest finite magnitude of the group / 448 or 127, 2^-126): never 0, NaN or Inf;
//  * code = element * (1 / scale), rounded to the nearest (ties to even), saturated; one division a
//    group, since sixteen in a row are most of a kernel's code;
//  * NaN: fp8 keeps it (code 0x7f), int8 writes 0. Inf: the largest code, that is the largest
//    finite element of its group. Elements that are not finite do not change the scale;
//  * back: code * scale, rounded to the element type; it never becomes Inf, and NaN is one quiet
//  NaN.
//
// A thread has a group to itself, so nothing is exchanged between threads. Its 16-byte loads leave
// a warp's accesses uncoalesced, which costs a third of the bandwidth of the device's memory at
// worst; the codes then leave by PCIe, which has a fiftieth of it.
#pragma once

#include <cstdint>
#include <type_traits>

namespace lmcache {

enum class ElementType : std::uint32_t { kBfloat16, kFloat16, kFloat32 };
enum class CodeType : std::uint32_t { kFp8E4m3, kInt8 };

struct GroupShape {
  std::uint64_t elements = 0;  // the last group may be shorter
  std::uint32_t group_elements = 64;
  ElementType element = ElementType::kBfloat16;
  CodeType code = CodeType::kFp8E4m3;
};
static_assert(std::is_trivially_copyable_v<GroupShape> && sizeof(GroupShape) == 24);

// Whether the kernels take it: groups of 32, 64 or 128 elements, known types.
[[nodiscard]] constexpr bool is_valid(GroupShape const& shape) noexcept {
  return (shape.group_elements == 32 || shape.group_elements == 64 ||
          shape.group_elements == 128) &&
         shape.element <= ElementType::kFloat32 && shape.code <= CodeType::kInt8;
}

[[nodiscard]] constexpr std::uint64_t group_count(GroupShape const& shape) noexcept {
  return shape.elements / shape.group_elements + (shape.elements % shape.group_elements != 0);
}

// The names in the module image. Elements and codes are aligned to 16 bytes, scales to 4; any grid
// and block (up to kQuantiseBlockMax) give the same bytes. The parameters, in this order:
//   quantise:    void const* elements, std::uint8_t* codes, float* scales, GroupShape shape
//   dequantise:  std::uint8_t const* codes, float const* scales, void* elements, GroupShape shape
inline constexpr unsigned kQuantiseBlockMax = 256;
inline constexpr char const* kQuantiseKernelName = "lmcache_quantise_groups";
inline constexpr char const* kDequantiseKernelName = "lmcache_dequantise_groups";

}  // namespace lmcache
