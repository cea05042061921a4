// SPDX-License-Identifier: Apache-2.0
// What makes KV interchangeable or not. Two prompts may share chunks only if their namespaces are
// equal.
#pragma once

#include <cstdint>
#include <string>

#include <lmcache/base/result.hpp>
#include <lmcache/key/chunk_key.hpp>

namespace lmcache {

struct NamespaceSpec {
  std::string model{};          // name or path, as the serving engine was given it; not empty
  std::string revision{};       // may be empty
  ChunkKey geometry_hash{};     // KvGeometry's hash(): dtype, layout, block tokens, windows, planes
  std::string geometry_text{};  // KvGeometry's describe(), for people: no part of the key
  std::uint32_t chunk_tokens = 256;
  std::uint32_t world_size = 1;  // tensor parallel ranks the KV is split over
  std::string lora{};            // name and version of the adapter, empty = none
  std::string salt{};            // tenant; may be a secret, so it is never shown
  std::string extra{};           // whatever else an integration must keep apart
};

inline constexpr std::uint32_t kMaxChunkTokens = 1U << 20;
inline constexpr std::uint32_t kMaxWorldSize = 1U << 14;
inline constexpr std::uint32_t kMaxNamespaceStringBytes = 4096;
inline constexpr std::uint32_t kMaxDescriptionBytes = 900;

// kInvalidArgument names the member, its value and what is allowed.
[[nodiscard]] Result<void> validate(NamespaceSpec const& spec);

// The root of every key chain of the namespace. Validates, then SHA-256 over the concatenation of
//   field("lmcache-namespace") ‖ LE32 version (1)
//   ‖ field(model) ‖ field(revision) ‖ 32 B geometry_hash ‖ LE32 chunk_tokens ‖ LE32 world_size
//   ‖ field(lora) ‖ field(salt) ‖ field(extra),        field(s) = LE64 length of s ‖ s.
[[nodiscard]] Result<ChunkKey> namespace_root(NamespaceSpec const& spec);

// One line of JSON, at most kMaxDescriptionBytes; long strings are cut, and a geometry text that
// does not fit is null. Of the salt only the first 8 hex digits of its SHA-256 are shown ("" = no
// salt).
[[nodiscard]] std::string describe(NamespaceSpec const& spec);

// A lane is one (KV group, rank) pair; each has its own entry for a chunk.
struct LaneId {
  std::uint32_t group = 0;
  std::uint32_t rank = 0;
  std::uint32_t world_size = 1;
};

// What a chunk key is xored with to give the key of the lane's entry:
// SHA-256("lmcache-lane" ‖ 32 B root ‖ LE32 group ‖ LE32 rank ‖ LE32 world_size).
[[nodiscard]] Result<ChunkKey> lane_mask(ChunkKey const& root, LaneId lane);

}  // namespace lmcache
