// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <string_view>
#include <utility>

#include <lmcache/base/bytes.hpp>
#include <lmcache/base/json_text.hpp>
#include <lmcache/base/sha256.hpp>
#include <lmcache/key/namespace_spec.hpp>

namespace lmcache {
namespace {

constexpr std::uint32_t kEncodingVersion = 1;

void append_key(std::string& out, ChunkKey const& key) {
  out.append(reinterpret_cast<char const*>(key.bytes.data()), key.bytes.size());
}

Error wrong(std::string_view member, std::string_view value, std::string_view allowed) {
  return Error{ErrorCode::kInvalidArgument, std::string{"namespace: "}
                                                .append(member)
                                                .append(" is ")
                                                .append(value)
                                                .append(", allowed: ")
                                                .append(allowed)};
}

Result<void> validate_number(std::string_view member, std::uint32_t value, std::uint32_t limit) {
  if (value >= 1 && value <= limit) return {};
  return wrong(member, std::to_string(value), "1 to " + std::to_string(limit));
}

Result<void> validate_text(std::string_view member, std::string_view value) {
  if (value.size() <= kMaxNamespaceStringBytes) return {};
  // Its length, not the value: it is long, and it may be the salt.
  return wrong(member, std::to_string(value.size()) + " bytes long",
               "at most " + std::to_string(kMaxNamespaceStringBytes) + " bytes");
}

std::string shown_salt(std::string const& salt) {
  if (salt.empty()) return {};
  Result<Sha256Digest> const digest = sha256(salt);
  return digest ? to_hex(std::span{digest.value()}.first(4)) : std::string{"?"};
}

}  // namespace

Result<void> validate(NamespaceSpec const& spec) {
  if (spec.model.empty()) return wrong("model", "empty", "the model's name or path");
  LMC_TRY(validate_text("model", spec.model));
  LMC_TRY(validate_text("revision", spec.revision));
  if (spec.geometry_hash == ChunkKey{}) {
    return wrong("geometry_hash", "all zero", "the hash of a KV geometry");
  }
  LMC_TRY(validate_number("chunk_tokens", spec.chunk_tokens, kMaxChunkTokens));
  LMC_TRY(validate_number("world_size", spec.world_size, kMaxWorldSize));
  LMC_TRY(validate_text("lora", spec.lora));
  LMC_TRY(validate_text("salt", spec.salt));
  return validate_text("extra", spec.extra);
}

Result<ChunkKey> namespace_root(NamespaceSpec const& spec) {
  LMC_TRY(validate(spec));
  std::string encoded;
  append_field(encoded, "lmcache-namespace");
  append_le(encoded, kEncodingVersion);
  append_field(encoded, spec.model);
  append_field(encoded, spec.revision);
  append_key(encoded, spec.geometry_hash);
  append_le(encoded, spec.chunk_tokens);
  append_le(encoded, spec.world_size);
  append_field(encoded, spec.lora);
  append_field(encoded, spec.salt);
  append_field(encoded, spec.extra);
  LMC_TRY_ASSIGN(Sha256Digest const digest, sha256(encoded));
  return ChunkKey{digest};
}

std::string describe(NamespaceSpec const& spec) {
  // The caps leave room for a usual geometry text in kMaxDescriptionBytes.
  std::string head = "{\"model\":" + json_string(spec.model, 160);
  head += ",\"revision\":" + json_string(spec.revision, 48);
  head += ",\"chunk_tokens\":" + std::to_string(spec.chunk_tokens);
  head += ",\"world_size\":" + std::to_string(spec.world_size);
  head += ",\"lora\":" + json_string(spec.lora, 64);
  head += ",\"salt_sha256\":\"" + shown_salt(spec.salt) + "\"";
  head += ",\"extra\":" + json_string(spec.extra, 64);
  head += ",\"geometry_hash\":\"" + to_hex(std::span{spec.geometry_hash.bytes}.first(8)) + "\"";
  head += ",\"geometry\":";
  std::string const& geometry = spec.geometry_text;
  bool const is_line = std::none_of(geometry.begin(), geometry.end(),
                                    [](char c) { return static_cast<unsigned char>(c) < 0x20; });
  bool const is_object =
      is_line && geometry.size() >= 2 && geometry.front() == '{' && geometry.back() == '}';
  bool const fits = head.size() + geometry.size() + 1 <= kMaxDescriptionBytes;
  return head.append(is_object && fits ? geometry : "null").append("}");
}

Result<ChunkKey> lane_mask(ChunkKey const& root, LaneId lane) {
  std::string encoded = "lmcache-lane";
  append_key(encoded, root);
  append_le(encoded, lane.group);
  append_le(encoded, lane.rank);
  append_le(encoded, lane.world_size);
  LMC_TRY_ASSIGN(Sha256Digest const digest, sha256(encoded));
  return ChunkKey{digest};
}

}  // namespace lmcache
