// SPDX-License-Identifier: Apache-2.0
// What a peer sent, for messages: printable, and cut.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace lmcache {

// Bytes that are not printable ASCII, and backslashes, as \xNN; after max_bytes of `text`, "...".
[[nodiscard]] inline std::string escaped_text(std::string_view text, std::size_t max_bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  for (char const c : text.substr(0, max_bytes)) {
    auto const code = static_cast<std::uint8_t>(c);
    if (code >= 0x20 && code < 0x7F && c != '\\') {
      out += c;
    } else {
      out.append("\\x").append(1, kDigits[code >> 4]).append(1, kDigits[code & 15]);
    }
  }
  if (text.size() > max_bytes) out += "...";
  return out;
}

}  // namespace lmcache
