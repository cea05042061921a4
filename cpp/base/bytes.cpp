// SPDX-License-Identifier: Apache-2.0
#include <array>

#include <lmcache/base/bytes.hpp>

namespace lmcache {
namespace {

// 0..15, or -1 for what is no hex digit.
int digit_value(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

Result<std::uint64_t> checked_multiply(std::uint64_t a, std::uint64_t b) {
  std::uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) {
    return Error{ErrorCode::kInvalidArgument,
                 std::to_string(a) + " * " + std::to_string(b) + " does not fit in 64 bits"};
  }
  return product;
}

Result<std::uint64_t> checked_add(std::uint64_t a, std::uint64_t b) {
  std::uint64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) {
    return Error{ErrorCode::kInvalidArgument,
                 std::to_string(a) + " + " + std::to_string(b) + " does not fit in 64 bits"};
  }
  return sum;
}

std::string to_hex(std::span<std::uint8_t const> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  out.reserve(bytes.size() * 2);
  for (std::uint8_t const byte : bytes) {
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

Result<void> from_hex(std::string_view hex, std::span<std::uint8_t> out) {
  if (hex.size() != out.size() * 2) {
    return Error{ErrorCode::kInvalidArgument, "hex text has " + std::to_string(hex.size()) +
                                                  " digits, expected " +
                                                  std::to_string(out.size() * 2)};
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    int const high = digit_value(hex[2 * i]);
    int const low = digit_value(hex[2 * i + 1]);
    if (high < 0 || low < 0) {
      return Error{ErrorCode::kInvalidArgument, "hex text has no hex digit at position " +
                                                    std::to_string(high < 0 ? 2 * i : 2 * i + 1)};
    }
    out[i] = static_cast<std::uint8_t>(high * 16 + low);
  }
  return {};
}

std::string format_bytes(std::uint64_t size_bytes) {
  constexpr std::array<std::string_view, 7> kUnits{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  std::size_t unit = 0;
  while (unit + 1 < kUnits.size() && (size_bytes >> (10 * (unit + 1))) != 0) ++unit;
  std::uint64_t whole = size_bytes;
  std::uint64_t tenths = 0;
  if (unit > 0) {
    std::uint64_t const one = std::uint64_t{1} << (10 * unit);
    // Rounded down, so that a size is never shown larger than it is; no overflow: one <= 2^60, the
    // remainder is taken to 10 bits first.
    whole = size_bytes / one;
    tenths = ((size_bytes % one) >> (10 * (unit - 1))) * 10 / 1024;
  }
  std::string out = std::to_string(whole);
  if (tenths != 0) out.append(".").append(std::to_string(tenths));
  return out.append(" ").append(kUnits[unit]);
}

}  // namespace lmcache
