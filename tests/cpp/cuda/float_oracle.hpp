// SPDX-License-Identifier: Apache-2.0
// Narrow floating point by arithmetic in double, where everything here is exact. Shares nothing
// with the code under test.
#pragma once

#include <cmath>
#include <cstdint>

namespace lmcache::test {

struct NarrowFormat {
  int mantissa_bits;
  int least_exponent;  // of normal numbers
  double largest;
};
inline constexpr NarrowFormat kFp8{3, -6, 448.0};
inline constexpr NarrowFormat kFloat16{10, -14, 65504.0};
inline NarrowFormat const kBfloat16{7, -126, std::ldexp(255.0, 120)};

// The nearest value of the format, ties to even, saturated. `value` is not NaN.
inline double nearest(double value, NarrowFormat format) {
  if (std::isinf(value)) return std::copysign(format.largest, value);
  int exponent = 0;
  std::frexp(value, &exponent);  // value = [0.5, 1) * 2^exponent
  if (exponent - 1 < format.least_exponent) exponent = format.least_exponent + 1;
  double const unit = std::ldexp(1.0, exponent - 1 - format.mantissa_bits);
  double const rounded = std::nearbyint(value / unit) * unit;
  return std::abs(rounded) > format.largest ? std::copysign(format.largest, rounded) : rounded;
}

// What a finite code of fp8 e4m3 means.
inline double fp8_value(std::uint8_t code) {
  int const exponent = code >> 3 & 15;
  int const fraction = code & 7;
  double const magnitude =
      exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

}  // namespace lmcache::test
