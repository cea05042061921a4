// SPDX-License-Identifier: Apache-2.0
// How RESP writes numbers; nothing is tolerated that the protocol does not name.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace lmcache {

// Digits, a sign before them if any; fits 64 bits.
[[nodiscard]] std::optional<std::int64_t> parse_resp_integer(std::string_view text) noexcept;

// Digits only; fits what a signed number of 64 bits does.
[[nodiscard]] std::optional<std::uint64_t> parse_resp_length(std::string_view text) noexcept;

// Digits of any count, a sign before them if any.
[[nodiscard]] bool is_resp_big_number(std::string_view text) noexcept;

// "1.5", "10", "-1e7", "inf", "-inf", "nan".
[[nodiscard]] bool is_resp_double(std::string_view text) noexcept;

}  // namespace lmcache
