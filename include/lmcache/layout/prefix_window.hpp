// SPDX-License-Identifier: Apache-2.0
// What of a prefix a lane must have, where its attention does not look back to the beginning.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include <lmcache/layout/kv_geometry.hpp>

namespace lmcache {

// The first chunk of a lane that a prefix of so many tokens needs; `window_tokens` as KvGroup has
// it.
[[nodiscard]] constexpr std::uint32_t first_needed_chunk(std::uint32_t window_tokens,
                                                         std::uint32_t prefix_tokens,
                                                         std::uint32_t chunk_tokens) noexcept {
  if (window_tokens == 0 || prefix_tokens <= window_tokens) return 0;
  return (prefix_tokens - window_tokens) / chunk_tokens;
}

// The longest prefix of at most `end_tokens` tokens of which every lane with a window has the
// chunks that it needs. `there(lane, chunk)` is asked for these lanes only: what the others have is
// the caller's business.
template <class There>
[[nodiscard]] std::uint32_t longest_prefix(std::span<std::uint32_t const> windows,
                                           std::uint32_t chunk_tokens, std::uint32_t end_tokens,
                                           There const& there) {
  auto end = end_tokens;
  // A state is that after the last token of a chunk.
  if (std::ranges::find(windows, kStateWindow) != windows.end()) end -= end % chunk_tokens;
  // Every prefix between a missing chunk and `end` needs that chunk too.
  auto const first_gap = [&](std::uint32_t lane) {
    auto chunk = (end + chunk_tokens - 1) / chunk_tokens;
    auto const needed = first_needed_chunk(windows[lane], end, chunk_tokens);
    while (chunk > needed && there(lane, chunk - 1)) --chunk;
    return chunk > needed ? (chunk - 1) * chunk_tokens : end;
  };
  for (std::uint32_t lane = 0; lane < windows.size() && end != 0; ++lane) {
    if (windows[lane] == 0) continue;
    auto const reached = first_gap(lane);
    if (reached == end) continue;
    end = reached;
    lane = static_cast<std::uint32_t>(-1);  // the others again
  }
  return end;
}

}  // namespace lmcache
