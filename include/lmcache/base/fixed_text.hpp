// SPDX-License-Identifier: Apache-2.0
// Text in arrays of a fixed size, as records in shared memory hold it.
#pragma once

#include <span>
#include <string_view>

namespace lmcache {

// Fills `target` with `text` and zeros, one zero at least. What does not fit is cut off between two
// UTF-8 characters, so that the rest can still be decoded.
void copy_text(std::span<char> target, std::string_view text) noexcept;

// What copy_text() wrote; also safe to read when nobody did, or when the zero at the end is
// missing.
[[nodiscard]] std::string_view text_in(std::span<char const> source) noexcept;

}  // namespace lmcache
