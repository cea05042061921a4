// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include <lmcache/base/json_text.hpp>

namespace lmcache {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD
constexpr std::string_view kCutMark = "...";

// Length of the UTF-8 sequence at the start of `text`; 0 when there is none: overlong forms,
// surrogates and values over U+10FFFF included (Unicode 15, table 3-7).
std::size_t utf8_length(std::string_view text) noexcept {
  auto const byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  auto const follows = [&](std::size_t i, int low, int high) {
    return i < text.size() && byte(i) >= low && byte(i) <= high;
  };
  std::uint8_t const lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return follows(1, 0x80, 0xBF) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    int const low = lead == 0xE0 ? 0xA0 : 0x80;
    int const high = lead == 0xED ? 0x9F : 0xBF;
    return follows(1, low, high) && follows(2, 0x80, 0xBF) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    int const low = lead == 0xF0 ? 0x90 : 0x80;
    int const high = lead == 0xF4 ? 0x8F : 0xBF;
    bool const good = follows(1, low, high) && follows(2, 0x80, 0xBF) && follows(3, 0x80, 0xBF);
    return good ? 4 : 0;
  }
  return 0;
}

std::string escaped(std::string_view character) {
  if (character.size() != 1) return std::string{character};
  char const c = character[0];
  if (c == '"') return "\\\"";
  if (c == '\\') return "\\\\";
  auto const code = static_cast<std::uint8_t>(c);
  if (code >= 0x20 && code != 0x7F) return std::string{character};
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out = "\\u00";
  out += kDigits[code >> 4];
  out += kDigits[code & 15];
  return out;
}

}  // namespace

std::string json_string(std::string_view text, std::size_t max_bytes) {
  std::string out = "\"";
  std::size_t cut_at = out.size();  // the longest prefix that leaves room for mark and quote
  while (!text.empty()) {
    std::size_t const length = utf8_length(text);
    std::string const piece = escaped(length == 0 ? kReplacement : text.substr(0, length));
    text.remove_prefix(length == 0 ? 1 : length);
    if (out.size() + piece.size() + 1 > max_bytes) {
      out.resize(cut_at);
      return out.append(kCutMark).append("\"");
    }
    out += piece;
    if (max_bytes == std::string::npos || out.size() + kCutMark.size() + 1 <= max_bytes) {
      cut_at = out.size();
    }
  }
  return out.append("\"");
}

}  // namespace lmcache
