// SPDX-License-Identifier: Apache-2.0
// KV that says of itself what it is: the bytes of a token follow from all tokens up to it and from
// nothing else, as those of a model do. Whoever reads them knows what they must be, whichever
// process wrote them, and when.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include <lmcache/key/key_chain.hpp>

#include "support/must.hpp"

namespace lmcache::test {

// A request: token ids and multimodal items.
struct TestPrompt {
  std::vector<std::uint32_t> tokens;
  std::vector<MediaItem> items;

  [[nodiscard]] std::uint32_t size() const { return static_cast<std::uint32_t>(tokens.size()); }
  [[nodiscard]] TestPrompt first(std::uint32_t count) const {
    return {.tokens = {tokens.begin(), tokens.begin() + count}, .items = items};
  }
  [[nodiscard]] KeyChain chain(ChunkKey const& root, std::uint32_t chunk_tokens) const {
    auto chain = must(KeyChain::create(root, chunk_tokens));
    for (auto const& item : items) must(chain.add_item(item));
    must(chain.append(tokens));
    return chain;
  }
};

[[nodiscard]] inline std::uint64_t mix64(std::uint64_t value) {
  value += 0x9E3779B97F4A7C15;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
  return value ^ (value >> 31);
}

// `count` tokens that differ for different seeds from the first one on.
[[nodiscard]] inline std::vector<std::uint32_t> random_tokens(std::uint64_t seed,
                                                              std::uint32_t count) {
  std::vector<std::uint32_t> out(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    out[i] = static_cast<std::uint32_t>(mix64(seed * 1'000'003 + i) & kMaxTokenId);
  }
  return out;
}

// One number per token, of all tokens up to it. The tokens of an item know all of it, as attention
// within an image is not causal.
[[nodiscard]] inline std::vector<std::uint64_t> causal_states(TestPrompt const& prompt,
                                                              std::uint64_t space_seed) {
  std::vector<std::uint64_t> out(prompt.tokens.size());
  std::uint64_t state = mix64(space_seed);
  for (std::uint32_t i = 0; i < prompt.tokens.size(); ++i) {
    state = mix64(state ^ prompt.tokens[i]);
    for (auto const& item : prompt.items) {
      if (i < item.first_token || i >= item.end_token()) continue;
      std::uint32_t const seen = std::min(item.end_token(), prompt.size()) - item.first_token;
      state = mix64(state ^ item.item_hash.prefix64() ^ seen);
    }
    out[i] = state;
  }
  return out;
}

// The bytes of one token in one plane (of one lane: give each lane planes of its own).
inline void write_cell(std::span<std::byte> cell, std::uint64_t state, std::uint32_t plane) {
  std::uint64_t word = mix64(state ^ (std::uint64_t{plane} << 40));
  for (std::size_t at = 0; at < cell.size(); at += sizeof word, ++word) {
    std::memcpy(cell.data() + at, &word, std::min(sizeof word, cell.size() - at));
  }
}

[[nodiscard]] inline bool cell_is(std::span<std::byte const> cell, std::uint64_t state,
                                  std::uint32_t plane) {
  std::uint64_t word = mix64(state ^ (std::uint64_t{plane} << 40));
  for (std::size_t at = 0; at < cell.size(); at += sizeof word, ++word) {
    if (std::memcmp(cell.data() + at, &word, std::min(sizeof word, cell.size() - at)) != 0) {
      return false;
    }
  }
  return true;
}

}  // namespace lmcache::test
