// SPDX-License-Identifier: Apache-2.0
#include <lmcache/base/fixed_text.hpp>

#include <algorithm>

namespace lmcache {

void copy_text(std::span<char> target, std::string_view text) noexcept {
  if (target.empty()) return;
  auto const starts_character = [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  };
  std::size_t length = std::min(text.size(), target.size() - 1);
  if (length < text.size()) {
    while (length > 0 && !starts_character(text[length])) --length;
  }
  auto const end = std::copy_n(text.begin(), length, target.begin());
  std::fill(end, target.end(), '\0');
}

std::string_view text_in(std::span<char const> source) noexcept {
  return {source.data(),
          static_cast<std::size_t>(std::find(source.begin(), source.end(), '\0') - source.begin())};
}

}  // namespace lmcache
