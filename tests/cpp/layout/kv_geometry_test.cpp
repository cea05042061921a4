// SPDX-License-Identifier: Apache-2.0
#include <lmcache/layout/kv_geometry.hpp>

#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include <lmcache/base/bytes.hpp>

namespace lmcache {
namespace {

KvGeometry example() {
  return {.dtype = "float32",
          .layout = "LBHNC",
          .groups = {{.block_tokens = 128,
                      .window_tokens = 0,
                      .plane_bytes = {98304, 98304},
                      .layer_names = {"layers.0", "layers.1"}},
                     {.block_tokens = 64,
                      .window_tokens = 4096,
                      .plane_bytes = {512},
                      .layer_names = {}}},
          .details = "cpu vec"};
}

void expect_refused(std::function<void(KvGeometry&)> const& spoil,
                    std::vector<std::string> const& parts) {
  KvGeometry geometry = example();
  spoil(geometry);
  auto const result = validate(geometry);
  ASSERT_FALSE(result) << parts[0];
  EXPECT_EQ(result.error().code(), ErrorCode::kInvalidArgument);
  for (auto const& part : parts) {
    EXPECT_NE(result.error().message().find(part), std::string::npos) << result.error().message();
  }
  EXPECT_FALSE(geometry_hash(geometry));
}

TEST(KvGeometry, HashVector) {
  ASSERT_TRUE(validate(example()));
  // Recomputed by tests/python/test_key_vectors.py.
  EXPECT_EQ(to_hex(geometry_hash(example()).value()),
            "1793c63fe5588a53d889a06c9847260ef627b09ffa66e39e8e4f0c1382abd07b");
}

TEST(KvGeometry, EveryMemberChangesTheHash) {
  // The bindings fail to compile when a member is added: add its flip below.
  [[maybe_unused]] auto const& [dtype, layout, groups, details] = example();
  [[maybe_unused]] auto const& [block_tokens, window_tokens, plane_bytes, layer_names] = groups[0];
  std::vector<std::function<void(KvGeometry&)>> const flips{
      [](auto& g) { g.dtype = "bfloat16"; },
      [](auto& g) { g.layout = "LBNHC"; },
      [](auto& g) { g.details = ""; },
      [](auto& g) { g.dtype = "float32L", g.layout = "BHNC"; },
      [](auto& g) { g.groups.pop_back(); },
      [](auto& g) { std::swap(g.groups[0], g.groups[1]); },
      [](auto& g) { g.groups[0].block_tokens = 64; },
      [](auto& g) { g.groups[0].window_tokens = 1; },
      [](auto& g) { g.groups[0].plane_bytes[1] += 1; },
      [](auto& g) { g.groups[0].plane_bytes.push_back(98304); },
      [](auto& g) { g.groups[0].layer_names[1] = "layers.2"; },
      [](auto& g) { std::swap(g.groups[0].layer_names[0], g.groups[0].layer_names[1]); },
      [](auto& g) { g.groups[1].layer_names = {""}; },
  };
  std::set<Sha256Digest> hashes{geometry_hash(example()).value()};
  for (auto const& flip : flips) {
    KvGeometry geometry = example();
    flip(geometry);
    EXPECT_TRUE(hashes.insert(geometry_hash(geometry).value()).second) << describe(geometry);
  }
  EXPECT_EQ(hashes.size(), flips.size() + 1);
}

TEST(KvGeometry, RefusesNamingMemberValueAndAllowed) {
  expect_refused([](auto& g) { g.dtype = ""; }, {"dtype is empty"});
  expect_refused([](auto& g) { g.layout = ""; }, {"layout is empty"});
  expect_refused([](auto& g) { g.details = std::string(5000, 'x'); },
                 {"details is 5000 bytes long", "at most 4096"});
  expect_refused([](auto& g) { g.groups.clear(); }, {"groups is 0 groups", "1 to 64"});
  expect_refused([](auto& g) { g.groups.resize(65, g.groups[0]); }, {"groups is 65 groups"});
  expect_refused([](auto& g) { g.groups[1].block_tokens = 0; },
                 {"groups[1].block_tokens is 0", "1 to 1048576"});
  expect_refused([](auto& g) { g.groups[0].plane_bytes.clear(); },
                 {"groups[0].plane_bytes is 0 planes"});
  expect_refused([](auto& g) { g.groups[0].plane_bytes[1] = 0; },
                 {"groups[0].plane_bytes[1] is 0", "1 to 4294967296"});
  expect_refused([](auto& g) { g.groups[0].plane_bytes[0] = kMaxPageBytes + 1; },
                 {"groups[0].plane_bytes[0] is 4294967297"});
  expect_refused([](auto& g) { g.groups[0].plane_bytes.assign(kMaxPlanesPerGroup + 1, 8); },
                 {"4097 planes"});
  expect_refused([](auto& g) { g.groups[0].layer_names.resize(kMaxPlanesPerGroup + 1); },
                 {"groups[0].layer_names is 4097 names"});
  expect_refused([](auto& g) { g.groups[0].layer_names[0] = std::string(5000, 'x'); },
                 {"groups[0].layer_names is 5000 bytes long"});
}

TEST(KvGeometry, Description) {
  EXPECT_EQ(
      describe(example()),
      R"({"version":1,"dtype":"float32","layout":"LBHNC","details":"cpu vec",)"
      R"("group_count":2,"groups":[)"
      R"({"block_tokens":128,"window_tokens":0,"planes":2,"layers":2,"block_bytes":196608},)"
      R"({"block_tokens":64,"window_tokens":4096,"planes":1,"layers":0,"block_bytes":512}]})");
}

TEST(KvGeometry, DescriptionIsBoundedAndShowsOneGroupAtLeast) {
  KvGeometry geometry = example();
  geometry.dtype = geometry.layout = geometry.details = std::string(4096, '\n');
  KvGroup group{.block_tokens = 1 << 20, .window_tokens = 0xFFFFFFFF};
  group.plane_bytes.assign(kMaxPlanesPerGroup, kMaxPageBytes);
  group.layer_names.assign(kMaxPlanesPerGroup, "layer");
  geometry.groups.assign(kMaxKvGroups, group);
  ASSERT_TRUE(validate(geometry));
  std::string const text = describe(geometry);
  EXPECT_LE(text.size(), 400U);
  EXPECT_NE(text.find("\"group_count\":64"), std::string::npos);
  EXPECT_NE(text.find("\"block_bytes\":17592186044416}]}"), std::string::npos) << text;
}

TEST(KvGeometry, BlockBytes) {
  EXPECT_EQ(block_bytes(example().groups[0]), 196608U);
  EXPECT_EQ(block_bytes(KvGroup{}), 0U);
}

}  // namespace
}  // namespace lmcache
