// SPDX-License-Identifier: Apache-2.0
// Conversions between float and narrower formats, on bits: the host and every device give the same
// bits, and no CUDA header is needed. Rounding is to the nearest, ties to the even code.
//
// A format is written <mantissa bits, exponent bias>: bfloat16 <7, 127>, float16 <10, 15>, fp8 e4m3
// <3, 7>. Magnitudes have no sign bit.
#pragma once

#include <cstdint>

#include "cuda/lane.hpp"

namespace lmcache::detail {

inline constexpr std::uint32_t kSignBit = 0x80000000u;
inline constexpr std::uint32_t kInfinityBits = 0x7f800000u;
inline constexpr std::uint32_t kQuietNanBits = 0x7fc00000u;

LMC_KERNEL_BODY std::uint32_t bits_of(float value) {
  return __builtin_bit_cast(std::uint32_t, value);
}
LMC_KERNEL_BODY float float_of(std::uint32_t bits) { return __builtin_bit_cast(float, bits); }

LMC_KERNEL_BODY std::uint32_t magnitude_of(float value) { return bits_of(value) & ~kSignBit; }
LMC_KERNEL_BODY bool is_nan(float value) { return magnitude_of(value) > kInfinityBits; }
LMC_KERNEL_BODY bool is_finite(float value) { return magnitude_of(value) < kInfinityBits; }

// value / 2^shift. 1 <= shift <= 31, value < 2^31 and value + 2^30 does not overflow.
LMC_KERNEL_BODY std::uint32_t round_shift(std::uint32_t value, std::uint32_t shift) {
  return (value + (1u << (shift - 1)) - 1 + ((value >> shift) & 1)) >> shift;
}

// The code of a finite magnitude, subnormal codes included. Past the largest exponent of the format
// the codes just count on: the caller compares with the largest that it has.
template <std::uint32_t Mantissa, std::uint32_t Bias>
LMC_KERNEL_BODY std::uint32_t narrow(std::uint32_t magnitude) {
  constexpr std::uint32_t kDropped = 23 - Mantissa;
  constexpr std::uint32_t kSmallestNormal = 127 - Bias + 1;  // exponent field of a float
  std::uint32_t const exponent = magnitude >> 23;
  if (exponent >= kSmallestNormal) {
    return round_shift(magnitude, kDropped) - ((127 - Bias) << Mantissa);
  }
  std::uint32_t const fraction = magnitude & 0x7fffffu;
  std::uint32_t const significand = exponent == 0 ? fraction : fraction | 0x800000u;
  std::uint32_t const shift = kDropped + kSmallestNormal - (exponent == 0 ? 1 : exponent);
  return round_shift(significand, shift < 31 ? shift : 31);
}

// The float bits of a finite code; exact.
template <std::uint32_t Mantissa, std::uint32_t Bias>
LMC_KERNEL_BODY std::uint32_t widen(std::uint32_t magnitude) {
  if (Bias == 127 || magnitude >> Mantissa != 0) {
    return (magnitude + ((127 - Bias) << Mantissa)) << (23 - Mantissa);
  }
  constexpr float kUnit = 1.0f / static_cast<float>(1ull << (Bias - 1 + Mantissa) % 64);
  return bits_of(static_cast<float>(magnitude) * kUnit);
}

LMC_KERNEL_BODY float float_of_bfloat16(std::uint16_t code) {
  return float_of(static_cast<std::uint32_t>(code) << 16);
}

LMC_KERNEL_BODY float float_of_float16(std::uint16_t code) {
  std::uint32_t const magnitude = code & 0x7fffu;
  std::uint32_t const sign = (code & 0x8000u) << 16;
  if (magnitude >= 0x7c00u) {  // Inf and NaN
    return float_of(sign | kInfinityBits | (magnitude & 0x3ffu) << 13);
  }
  return float_of(sign | widen<10, 15>(magnitude));
}

// Finite values saturate at the largest finite code; Inf stays Inf, NaN becomes one quiet NaN.
template <std::uint32_t Mantissa, std::uint32_t Bias, std::uint32_t Infinity>
LMC_KERNEL_BODY std::uint16_t half_of(float value) {
  std::uint32_t const sign = bits_of(value) >> 31 << 15;
  std::uint32_t const magnitude = magnitude_of(value);
  if (magnitude > kInfinityBits) return Infinity | 1u << (Mantissa - 1);
  if (magnitude == kInfinityBits) return static_cast<std::uint16_t>(sign | Infinity);
  std::uint32_t const code = narrow<Mantissa, Bias>(magnitude);
  return static_cast<std::uint16_t>(sign | (code < Infinity ? code : Infinity - 1));
}
LMC_KERNEL_BODY std::uint16_t bfloat16_of(float value) { return half_of<7, 127, 0x7f80>(value); }
LMC_KERNEL_BODY std::uint16_t float16_of(float value) { return half_of<10, 15, 0x7c00>(value); }

// fp8 e4m3 as serving engines and NVIDIA's headers know it (OCP E4M3): no Inf, one NaN per sign,
// largest value 448. Saturates, Inf included; NaN stays NaN (0x7f).
inline constexpr std::uint32_t kFp8Nan = 0x7f;
inline constexpr std::uint32_t kFp8Largest = 0x7e;

LMC_KERNEL_BODY std::uint8_t fp8_of(float value) {
  std::uint32_t const sign = bits_of(value) >> 31 << 7;
  std::uint32_t const magnitude = magnitude_of(value);
  if (magnitude > kInfinityBits) return kFp8Nan;
  std::uint32_t const code = magnitude == kInfinityBits ? kFp8Largest : narrow<3, 7>(magnitude);
  return static_cast<std::uint8_t>(sign | (code < kFp8Largest ? code : kFp8Largest));
}

LMC_KERNEL_BODY float float_of_fp8(std::uint8_t code) {
  std::uint32_t const magnitude = code & 0x7fu;
  std::uint32_t const sign = (code & 0x80u) << 24;
  if (magnitude == kFp8Nan) return float_of(kQuietNanBits);
  return float_of(sign | widen<3, 7>(magnitude));
}

// int8 from -127 to 127. Saturates, Inf included; there is no code for NaN, it becomes 0.
LMC_KERNEL_BODY std::uint8_t int8_of(float value) {
  if (is_nan(value)) return 0;
  float const bounded = value < -127.0f ? -127.0f : value > 127.0f ? 127.0f : value;
  // In [2^23, 2^24) floats are the whole numbers: the addition rounds, the difference of the bits
  // is the result.
  constexpr float kWhole = 12582912.0f;
  return static_cast<std::uint8_t>(bits_of(bounded + kWhole) - bits_of(kWhole));
}

LMC_KERNEL_BODY float float_of_int8(std::uint8_t code) {
  return static_cast<float>(static_cast<std::int8_t>(code));
}

}  // namespace lmcache::detail
