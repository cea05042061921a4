// SPDX-License-Identifier: Apache-2.0
// What a serving engine's KV cache is made of: declared by whoever knows, never guessed from a
// shape.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <lmcache/base/result.hpp>
#include <lmcache/base/sha256.hpp>

namespace lmcache {

// A window of one token: the group keeps no KV of tokens but a state after each chunk, as linear
// attention does. A prefix ends with a chunk then.
inline constexpr std::uint32_t kStateWindow = 1;

// Layers that share a block table. A plane is one strided array of pages, one page per block:
// vLLM has one plane per layer; arrays [layers, 2, tokens, kv_heads, head_dim] one per layer and K
// or V.
struct KvGroup {
  std::uint32_t block_tokens = 0;   // tokens of one block
  std::uint32_t window_tokens = 0;  // before the end of a prefix that are needed; 0 = all of them
  std::vector<std::uint64_t> plane_bytes{};  // bytes of one block's page, per plane
  std::vector<std::string> layer_names{};    // may be empty; order is that of the planes
};

struct KvGeometry {
  // Goes into the hash: raise it when bytes in a slot would mean something else than before.
  static constexpr std::uint32_t kVersion = 1;

  std::string dtype{};            // e.g. "float32", "bfloat16", "fp8_e4m3"
  std::string layout{};           // the engine's own name of the order inside a page, e.g. "LBHNC"
  std::vector<KvGroup> groups{};  // at least one
  std::string details{};  // whatever else decides what the bytes mean, e.g. the kernel's packing
};

inline constexpr std::uint32_t kMaxKvGroups = 64;
inline constexpr std::uint32_t kMaxPlanesPerGroup = 4096;
inline constexpr std::uint64_t kMaxPageBytes = std::uint64_t{1} << 32;

// kInvalidArgument names the member, its value and what is allowed.
[[nodiscard]] Result<void> validate(KvGeometry const& geometry);

// SHA-256 over a length-prefixed encoding of every member, layer names included. Validates first.
[[nodiscard]] Result<Sha256Digest> geometry_hash(KvGeometry const& geometry);

// One JSON object on one line, at most 400 bytes: version, dtype, layout, details and, per group,
// its block_tokens, window_tokens, planes, layers and block_bytes; groups that do not fit are
// counted.
[[nodiscard]] std::string describe(KvGeometry const& geometry);

// Bytes of one block over all planes of the group. Cannot overflow in a valid geometry.
[[nodiscard]] std::uint64_t block_bytes(KvGroup const& group) noexcept;

}  // namespace lmcache
