// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/segment_explain.hpp>

#include <gtest/gtest.h>

#include <ctime>
#include <string>

#include "engine/shared_scene.hpp"

namespace lmcache::test {
namespace {

class SegmentExplainTest : public testing::Test {
 protected:
  // What is said of a prompt in the namespace of a scene.
  [[nodiscard]] PrefixThere explain(EngineScene const& scene, TestPrompt const& prompt,
                                    std::uint32_t world_size = 1) const {
    return must(explain_prompt(path_, scene.space.id, world_size, scene.chain(prompt)));
  }

  TempDirectory directory_;
  std::string path_{shared_path(directory_)};
};

TEST_F(SegmentExplainTest, FindsAPrefixToTheToken) {
  EngineScene scene{shared_shape(directory_)};
  (void)scene.serve(simple_prompt(1, 96));
  auto whole = explain(scene, simple_prompt(1, 96));
  EXPECT_EQ(whole.found_tokens, 96u);
  EXPECT_EQ(whole.missing_place, MissingPlace::kNone);
  auto longer = explain(scene, simple_prompt(1, 100));
  EXPECT_EQ(longer.found_tokens, 96u);
  EXPECT_EQ(longer.missing_place, MissingPlace::kAbsent);
  EXPECT_EQ(longer.continuations, 0u);
  EXPECT_FALSE(longer.removal);
  auto parted = simple_prompt(1, 96);
  parted.tokens[41] += 1;
  auto const there = explain(scene, parted);
  EXPECT_EQ(there.found_tokens, 41u);
  EXPECT_EQ(there.continuations, 1u);
  auto const shorter = explain(scene, simple_prompt(1, 50));
  EXPECT_EQ(shorter.found_tokens, 50u);
  EXPECT_EQ(shorter.missing_place, MissingPlace::kNone);
  EXPECT_EQ(explain(scene, simple_prompt(2, 50)).found_tokens, 0u);
}

TEST_F(SegmentExplainTest, ALaneThatIsMissingIsNamed) {
  auto shape = shared_shape(directory_);
  shape.lanes = 2;
  EngineScene scene{shape};
  auto const chain = scene.chain(simple_prompt(1, 32));
  auto const refs = scene.engine->reserve(scene.space, chain, {.first_chunk = 0, .end_token = 32});
  auto const there = explain(scene, simple_prompt(1, 32), 2);
  EXPECT_EQ(there.missing_place, MissingPlace::kWriting);
  EXPECT_EQ(there.missing_lane, 0u);
  EXPECT_FALSE(explain_prompt(path_, scene.space.id, 3, chain));
  EXPECT_FALSE(explain_prompt(path_, 7, 2, chain));
}

TEST_F(SegmentExplainTest, WhatWasRemovedIsTold) {
  EngineScene scene{shared_shape(directory_)};
  (void)scene.serve(simple_prompt(1, 96));
  EXPECT_EQ(scene.engine->clear(), 3u);
  auto const there = explain(scene, simple_prompt(1, 96));
  EXPECT_EQ(there.found_tokens, 0u);
  ASSERT_TRUE(there.removal);
  EXPECT_EQ(there.removal->reason, RemovalReason::kCleared);
  EXPECT_NEAR(static_cast<double>(there.removal->unix_s), static_cast<double>(::time(nullptr)), 60);
}

TEST_F(SegmentExplainTest, EvictionsAreTold) {
  EngineScene scene{shared_shape(directory_)};
  (void)scene.serve(simple_prompt(1, 96));
  for (std::uint64_t seed = 2; explain(scene, simple_prompt(1, 96)).found_tokens == 96; ++seed) {
    (void)scene.serve(simple_prompt(seed, 512));
    ASSERT_LT(seed, 1000u);
  }
  auto const there = explain(scene, simple_prompt(1, 96));
  ASSERT_TRUE(there.removal);
  EXPECT_EQ(there.removal->reason, RemovalReason::kEvicted);
}

TEST_F(SegmentExplainTest, OpeningsAreFoundInAllNamespaces) {
  auto shape = shared_shape(directory_);
  EngineScene first{shape};
  shape.model = "another";
  EngineScene second{shape};
  auto const prompt = simple_prompt(1, 64);
  (void)first.serve(prompt);
  (void)second.serve(prompt);
  (void)second.serve(simple_prompt(2, 64));
  auto const found = must(find_opening(path_, opening_hash(prompt.tokens)));
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].chunks, 1u);
  EXPECT_EQ(found[1].chunks, 1u);
  EXPECT_TRUE(must(find_opening(path_, 1)).empty());
}

TEST_F(SegmentExplainTest, NoSegmentIsAnError) {
  EXPECT_EQ(read_requests(path_).error().code(), ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace lmcache::test
