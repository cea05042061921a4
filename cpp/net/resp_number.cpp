// SPDX-License-Identifier: Apache-2.0
#include <charconv>
#include <cstddef>
#include <system_error>

#include "net/resp_number.hpp"

namespace lmcache {
namespace {

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

std::size_t leading_digits(std::string_view text) noexcept {
  std::size_t count = 0;
  while (count < text.size() && is_digit(text[count])) ++count;
  return count;
}

void drop_sign(std::string_view& text) noexcept {
  if (!text.empty() && (text.front() == '-' || text.front() == '+')) text.remove_prefix(1);
}

// Removes digits; false when there are none.
bool drop_digits(std::string_view& text) noexcept {
  std::size_t const count = leading_digits(text);
  text.remove_prefix(count);
  return count != 0;
}

}  // namespace

std::optional<std::int64_t> parse_resp_integer(std::string_view text) noexcept {
  if (!is_resp_big_number(text)) return std::nullopt;
  if (text.front() == '+') text.remove_prefix(1);
  std::int64_t value = 0;
  auto const read = std::from_chars(text.data(), text.data() + text.size(), value);
  if (read.ec != std::errc{}) return std::nullopt;
  return value;
}

std::optional<std::uint64_t> parse_resp_length(std::string_view text) noexcept {
  if (text.empty() || !is_digit(text.front())) return std::nullopt;
  auto const value = parse_resp_integer(text);
  if (!value) return std::nullopt;
  return static_cast<std::uint64_t>(*value);
}

bool is_resp_big_number(std::string_view text) noexcept {
  drop_sign(text);
  return drop_digits(text) && text.empty();
}

bool is_resp_double(std::string_view text) noexcept {
  drop_sign(text);
  if (text == "inf" || text == "nan") return true;
  if (!drop_digits(text)) return false;
  if (text.starts_with('.')) {
    text.remove_prefix(1);
    if (!drop_digits(text)) return false;
  }
  if (text.starts_with('e') || text.starts_with('E')) {
    text.remove_prefix(1);
    drop_sign(text);
    if (!drop_digits(text)) return false;
  }
  return text.empty();
}

}  // namespace lmcache
