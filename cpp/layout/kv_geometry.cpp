// SPDX-License-Identifier: Apache-2.0
#include <numeric>
#include <string_view>

#include <lmcache/base/bytes.hpp>
#include <lmcache/base/json_text.hpp>
#include <lmcache/layout/kv_geometry.hpp>

namespace lmcache {
namespace {

constexpr std::uint32_t kMaxBlockTokens = 1U << 20;
constexpr std::size_t kMaxTextBytes = 4096;
constexpr std::size_t kMaxGeometryTextBytes = 400;

Error wrong(std::string_view member, std::string_view value, std::string_view allowed) {
  return Error{ErrorCode::kInvalidArgument, std::string{"KV geometry: "}
                                                .append(member)
                                                .append(" is ")
                                                .append(value)
                                                .append(", allowed: ")
                                                .append(allowed)};
}

std::string one_to(std::uint64_t limit) { return "1 to " + std::to_string(limit); }

Result<void> validate_text(std::string_view member, std::string_view value) {
  if (value.size() <= kMaxTextBytes) return {};
  return wrong(member, std::to_string(value.size()) + " bytes long",
               "at most " + std::to_string(kMaxTextBytes) + " bytes");
}

Result<void> validate_group(KvGroup const& group, std::string const& name) {
  if (group.block_tokens == 0 || group.block_tokens > kMaxBlockTokens) {
    return wrong(name + ".block_tokens", std::to_string(group.block_tokens),
                 one_to(kMaxBlockTokens));
  }
  std::size_t const planes = group.plane_bytes.size();
  if (planes == 0 || planes > kMaxPlanesPerGroup) {
    return wrong(name + ".plane_bytes", std::to_string(planes) + " planes",
                 one_to(kMaxPlanesPerGroup));
  }
  for (std::size_t i = 0; i < planes; ++i) {
    std::uint64_t const bytes = group.plane_bytes[i];
    if (bytes == 0 || bytes > kMaxPageBytes) {
      return wrong(name + ".plane_bytes[" + std::to_string(i) + "]", std::to_string(bytes),
                   one_to(kMaxPageBytes));
    }
  }
  if (group.layer_names.size() > kMaxPlanesPerGroup) {
    return wrong(name + ".layer_names", std::to_string(group.layer_names.size()) + " names",
                 "at most " + std::to_string(kMaxPlanesPerGroup));
  }
  for (std::string const& layer : group.layer_names) {
    LMC_TRY(validate_text(name + ".layer_names", layer));
  }
  return {};
}

std::uint32_t count(std::size_t n) { return static_cast<std::uint32_t>(n); }

void append_group(std::string& out, KvGroup const& group) {
  append_le(out, group.block_tokens);
  append_le(out, group.window_tokens);
  append_le(out, count(group.plane_bytes.size()));
  for (std::uint64_t const bytes : group.plane_bytes) append_le(out, bytes);
  append_le(out, count(group.layer_names.size()));
  for (std::string const& layer : group.layer_names) append_field(out, layer);
}

std::string describe_group(KvGroup const& group) {
  return "{\"block_tokens\":" + std::to_string(group.block_tokens) +
         ",\"window_tokens\":" + std::to_string(group.window_tokens) +
         ",\"planes\":" + std::to_string(group.plane_bytes.size()) +
         ",\"layers\":" + std::to_string(group.layer_names.size()) +
         ",\"block_bytes\":" + std::to_string(block_bytes(group)) + "}";
}

}  // namespace

Result<void> validate(KvGeometry const& geometry) {
  if (geometry.dtype.empty()) return wrong("dtype", "empty", "the element type's name");
  if (geometry.layout.empty()) return wrong("layout", "empty", "the name of the page layout");
  LMC_TRY(validate_text("dtype", geometry.dtype));
  LMC_TRY(validate_text("layout", geometry.layout));
  LMC_TRY(validate_text("details", geometry.details));
  std::size_t const groups = geometry.groups.size();
  if (groups == 0 || groups > kMaxKvGroups) {
    return wrong("groups", std::to_string(groups) + " groups", one_to(kMaxKvGroups));
  }
  for (std::size_t i = 0; i < groups; ++i) {
    LMC_TRY(validate_group(geometry.groups[i], "groups[" + std::to_string(i) + "]"));
  }
  return {};
}

Result<Sha256Digest> geometry_hash(KvGeometry const& geometry) {
  LMC_TRY(validate(geometry));
  std::string encoded;
  append_field(encoded, "lmcache-geometry");
  append_le(encoded, KvGeometry::kVersion);
  append_field(encoded, geometry.dtype);
  append_field(encoded, geometry.layout);
  append_le(encoded, count(geometry.groups.size()));
  for (KvGroup const& group : geometry.groups) append_group(encoded, group);
  append_field(encoded, geometry.details);
  return sha256(encoded);
}

std::string describe(KvGeometry const& geometry) {
  std::string out = "{\"version\":" + std::to_string(KvGeometry::kVersion);
  out += ",\"dtype\":" + json_string(geometry.dtype, 32);
  out += ",\"layout\":" + json_string(geometry.layout, 48);
  out += ",\"details\":" + json_string(geometry.details, 96);
  out += ",\"group_count\":" + std::to_string(geometry.groups.size()) + ",\"groups\":[";
  std::string_view separator;
  for (KvGroup const& group : geometry.groups) {
    std::string const text = describe_group(group);
    if (out.size() + separator.size() + text.size() + 2 > kMaxGeometryTextBytes) break;
    out.append(separator).append(text);
    separator = ",";
  }
  return out.append("]}");
}

std::uint64_t block_bytes(KvGroup const& group) noexcept {
  return std::accumulate(group.plane_bytes.begin(), group.plane_bytes.end(), std::uint64_t{0});
}

}  // namespace lmcache
