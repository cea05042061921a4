// SPDX-License-Identifier: Apache-2.0
#include <lmcache/key/namespace_spec.hpp>

#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include <lmcache/base/sha256.hpp>

#include "key/key_vectors.hpp"

namespace lmcache {
namespace {

NamespaceSpec example() {
  return {.model = "model",
          .revision = "main",
          .geometry_hash = ChunkKey{sha256("geometry").value()},
          .geometry_text = R"({"dtype":"float32"})",
          .chunk_tokens = 256,
          .world_size = 2,
          .lora = "adapter",
          .salt = "tenant-secret",
          .extra = "extra"};
}

bool contains(std::string const& text, std::string const& part) {
  return text.find(part) != std::string::npos;
}

void expect_refused(NamespaceSpec const& spec, std::vector<std::string> const& parts) {
  auto const result = validate(spec);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ErrorCode::kInvalidArgument);
  for (auto const& part : parts) {
    EXPECT_TRUE(contains(result.error().message(), part)) << result.error().message();
  }
  EXPECT_FALSE(namespace_root(spec));
}

TEST(NamespaceSpec, VectorFile) {
  auto const cases = test::read_vectors("namespace");
  ASSERT_GE(cases.size(), 3U);
  for (auto const& one : cases) {
    NamespaceSpec const spec{.model = one.text.at("model"),
                             .revision = one.text.at("revision"),
                             .geometry_hash = test::key_from_hex(one.text.at("geometry_hash")),
                             .geometry_text = "any text",
                             .chunk_tokens = one.number("chunk_tokens"),
                             .world_size = one.number("world_size"),
                             .lora = one.text.at("lora"),
                             .salt = one.text.at("salt"),
                             .extra = one.text.at("extra")};
    ChunkKey const root = namespace_root(spec).value();
    EXPECT_EQ(to_hex(root), one.text.at("root")) << one.name;
    for (auto const& lane : one.lanes) {
      EXPECT_EQ(lane_mask(root, lane.lane).value(), lane.mask) << one.name;
    }
  }
}

TEST(NamespaceSpec, EveryMemberChangesTheRoot) {
  // The binding fails to compile when a member is added: add its flip below.
  [[maybe_unused]] auto const& [model, revision, geometry_hash, geometry_text, chunk_tokens,
                                world_size, lora, salt, extra] = example();
  std::vector<std::function<void(NamespaceSpec&)>> const flips{
      [](auto& s) { s.model = "modem"; },
      [](auto& s) { s.revision = ""; },
      [](auto& s) { s.geometry_hash.bytes[31] ^= 1; },
      [](auto& s) { s.chunk_tokens = 257; },
      [](auto& s) { s.world_size = 1; },
      [](auto& s) { s.lora = "adapteR"; },
      [](auto& s) { s.salt = "tenant-secre"; },
      [](auto& s) { s.extra += '\0'; },
      // Bytes that move to a neighbour are another namespace too.
      [](auto& s) { s.model = "modelm", s.revision = "ain"; },
      [](auto& s) { s.lora = "adaptert", s.salt = "enant-secret"; },
      [](auto& s) { s.lora = "tenant-secret", s.salt = "adapter"; },
      [](auto& s) { s.salt = "tenant-secrete", s.extra = "xtra"; },
      [](auto& s) { s.salt = "", s.extra = "tenant-secretextra"; },
  };
  std::set<ChunkKey> roots{namespace_root(example()).value()};
  for (auto const& flip : flips) {
    NamespaceSpec spec = example();
    flip(spec);
    EXPECT_TRUE(roots.insert(namespace_root(spec).value()).second) << describe(spec);
  }
  EXPECT_EQ(roots.size(), flips.size() + 1);
}

TEST(NamespaceSpec, GeometryTextIsForPeopleOnly) {
  NamespaceSpec spec = example();
  spec.geometry_text = "other";
  EXPECT_EQ(namespace_root(spec).value(), namespace_root(example()).value());
}

TEST(NamespaceSpec, RefusesNamingMemberValueAndAllowed) {
  NamespaceSpec spec = example();
  spec.model = "";
  expect_refused(spec, {"model", "empty"});
  spec = example();
  spec.chunk_tokens = 0;
  expect_refused(spec, {"chunk_tokens is 0", "1 to 1048576"});
  spec.chunk_tokens = kMaxChunkTokens + 1;
  expect_refused(spec, {"chunk_tokens is 1048577", "1 to 1048576"});
  spec = example();
  spec.world_size = 0;
  expect_refused(spec, {"world_size is 0", "1 to 16384"});
  spec = example();
  spec.geometry_hash = {};
  expect_refused(spec, {"geometry_hash is all zero"});
  for (auto const member : {&NamespaceSpec::model, &NamespaceSpec::revision, &NamespaceSpec::lora,
                            &NamespaceSpec::salt, &NamespaceSpec::extra}) {
    spec = example();
    spec.*member = std::string(kMaxNamespaceStringBytes, 'x');
    EXPECT_TRUE(validate(spec));
    spec.*member += 'x';
    expect_refused(spec, {"4097 bytes long", "at most 4096 bytes"});
  }
}

TEST(NamespaceSpec, DescriptionShowsMembersButNotTheSalt) {
  std::string const text = describe(example());
  // printf tenant-secret | sha256sum
  std::string const digest = "6547248d";
  EXPECT_EQ(text, R"({"model":"model","revision":"main","chunk_tokens":256,"world_size":2,)"
                  R"("lora":"adapter","salt_sha256":")" +
                      digest + R"(","extra":"extra","geometry_hash":")" +
                      to_hex(example().geometry_hash).substr(0, 16) +
                      R"(","geometry":{"dtype":"float32"}})");
  EXPECT_FALSE(contains(text, "secret"));
  NamespaceSpec spec = example();
  spec.salt = "";
  EXPECT_TRUE(contains(describe(spec), R"("salt_sha256":"",)"));
}

TEST(NamespaceSpec, DescriptionIsOneBoundedLineWhateverTheMembers) {
  for (std::string const& piece : {std::string{"x"}, std::string{"\n"}, std::string{"\xFF"}}) {
    std::string text;
    for (std::uint32_t i = 0; i < kMaxNamespaceStringBytes; ++i) text += piece;
    NamespaceSpec spec = example();
    spec.model = spec.revision = spec.lora = spec.salt = spec.extra = text;
    spec.chunk_tokens = kMaxChunkTokens;
    spec.world_size = kMaxWorldSize;
    spec.geometry_text = "{\"x\":\"" + std::string(400 - 8, 'g') + "\"}";  // KvGeometry's longest
    std::string const out = describe(spec);
    EXPECT_LE(out.size(), kMaxDescriptionBytes);
    EXPECT_TRUE(contains(out, spec.geometry_text));
    EXPECT_FALSE(contains(out, "\n"));
  }
}

TEST(NamespaceSpec, GeometryTextThatIsNoLineOfJsonOrTooLongIsNull) {
  NamespaceSpec spec = example();
  for (std::string const& text :
       {std::string{}, std::string{"{"}, std::string{"text"}, std::string{"{\"a\":\n1}"},
        "{\"x\":\"" + std::string(900, 'g') + "\"}"}) {
    spec.geometry_text = text;
    EXPECT_TRUE(describe(spec).ends_with(R"(,"geometry":null})")) << text;
  }
}

TEST(LaneMask, EveryPartMatters) {
  ChunkKey const root = namespace_root(example()).value();
  std::set<ChunkKey> const masks{
      lane_mask(root, {.group = 0, .rank = 0, .world_size = 2}).value(),
      lane_mask(root, {.group = 1, .rank = 0, .world_size = 2}).value(),
      lane_mask(root, {.group = 0, .rank = 1, .world_size = 2}).value(),
      lane_mask(root, {.group = 0, .rank = 0, .world_size = 3}).value(),
      lane_mask(ChunkKey{}, {.group = 0, .rank = 0, .world_size = 2}).value()};
  EXPECT_EQ(masks.size(), 5U);
}

}  // namespace
}  // namespace lmcache
