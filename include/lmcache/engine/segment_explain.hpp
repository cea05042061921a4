// SPDX-License-Identifier: Apache-2.0
// Why requests hit or missed: what was written down of the latest ones, and how much of a prompt a
// segment holds now. Nothing here joins the segment.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <lmcache/base/result.hpp>
#include <lmcache/index/removal_table.hpp>
#include <lmcache/key/key_chain.hpp>
#include <lmcache/metrics/request_log.hpp>

namespace lmcache {

// Latest first. Errors: those of inspect_segment(), here and below.
[[nodiscard]] Result<std::vector<RequestTrace>> read_requests(std::string const& path);

// How far a prompt is there in one namespace.
struct PrefixThere {
  std::uint32_t found_tokens = 0;  // in memory, exact to the token, as a look-up would find it
  // Of the first chunk that is not there as a whole; kNone: all of the prompt is there.
  MissingPlace missing_place = MissingPlace::kNone;
  std::uint32_t missing_lane = 0;
  std::optional<Removal> removal;
  // Stored chunks that follow what was found: the prompt parts with all of them at found_tokens.
  std::uint32_t continuations = 0;
  ChunkKey missing_key{};  // of the chunk's entry in the missing lane
};
// `world_size` ranks of each KV group. Holds the space lock for microseconds, or for a few
// milliseconds where a chunk has thousands of continuations. Errors: kInvalidArgument (no such
// namespace), kTimeout.
[[nodiscard]] Result<PrefixThere> explain_prompt(std::string const& path,
                                                 std::uint16_t namespace_id,
                                                 std::uint32_t world_size, KeyChain const& chain);

// Where prompts begin that have this opening_hash(): namespaces and how many chunks of each, of at
// least kOpeningTokens tokens.
struct OpeningThere {
  std::uint16_t namespace_id;
  std::uint32_t chunks;
};
[[nodiscard]] Result<std::vector<OpeningThere>> find_opening(std::string const& path,
                                                             std::uint64_t opening);

}  // namespace lmcache
