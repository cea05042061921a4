// SPDX-License-Identifier: Apache-2.0
// What the processes of the crash suite share: the segment's shape and a family of prompts that
// have prefixes in common.
#pragma once

#include <cstdint>
#include <string>

#include "support/engine_scene.hpp"

namespace lmcache::test {

[[nodiscard]] inline EngineShape crash_shape(std::string const& directory) {
  EngineShape shape;
  shape.chunk_tokens = 32;
  shape.lanes = 2;
  // 64 KiB a chunk and lane: the segment holds some 60 of the family's 700.
  shape.kv = {.planes = 2, .block_tokens = 4, .token_bytes = 1020, .num_blocks = 128};
  shape.options.segment = "crash";
  shape.options.directory = directory;
  shape.options.capacity_bytes = 4u << 20;
  shape.options.keep = true;
  shape.options.copy_threads = 1;
  return shape;
}

// One of 6 documents, or of 10 questions about it, cut somewhere.
[[nodiscard]] inline TestPrompt crash_prompt(std::uint64_t choice) {
  constexpr std::uint32_t kDocument = 300;
  std::uint64_t const document = choice % 6;
  std::uint64_t const question = choice / 6 % 10;
  auto const tokens = 1 + static_cast<std::uint32_t>(choice / 60 % 400);
  TestPrompt out{.tokens = random_tokens(document, kDocument), .items = {}};
  auto const shared = static_cast<std::uint32_t>(150 + 15 * question);
  out.tokens.resize(shared);
  auto const rest = random_tokens(1000 + document * 10 + question, 400 - shared);
  out.tokens.insert(out.tokens.end(), rest.begin(), rest.end());
  out.tokens.resize(tokens);
  return out;
}

}  // namespace lmcache::test
