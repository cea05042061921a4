// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/request_tracing.hpp>

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <limits>
#include <string>

#include <lmcache/base/fixed_text.hpp>
#include <lmcache/engine/segment_explain.hpp>
#include <lmcache/engine/segment_status.hpp>

#include "engine/shared_scene.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint32_t kNoLimit = std::numeric_limits<std::uint32_t>::max();

class RequestTracingTest : public testing::Test {
 protected:
  // Traces a look-up of a prompt; returns what was written down.
  RequestTrace trace(EngineScene const& scene, TestPrompt const& prompt) {
    auto const chain = scene.chain(prompt);
    auto const hit = scene.engine->lookup(scene.space, chain, kNoLimit);
    scene.engine->trace_request({.request_id = "r",
                                 .prompt_tokens = prompt.size(),
                                 .limit_tokens = prompt.size(),
                                 .found_tokens = hit.prefix_tokens()},
                                scene.space, &chain);
    return must(read_requests(path_)).front();
  }

  TempDirectory directory_;
  std::string path_{shared_path(directory_)};
};

TEST_F(RequestTracingTest, ATraceSaysWhatWasMissingAndOutlivesItsProcess) {
  {
    EngineScene scene{shared_shape(directory_)};
    auto const prompt = simple_prompt(1, 100);
    auto const first = trace(scene, prompt);
    EXPECT_EQ(first.found_tokens, 0u);
    EXPECT_EQ(first.missing_place, MissingPlace::kAbsent);
    EXPECT_EQ(first.missing_key, scene.chain(prompt).keys()[0].prefix64());
    EXPECT_EQ(first.removal, 0u);
    EXPECT_EQ(first.pid, ::getpid());
    EXPECT_EQ(first.namespace_id, scene.space.id);
    EXPECT_NE(first.namespace_incarnation, 0u);
    EXPECT_EQ(first.opening, opening_hash(prompt.tokens));
    (void)scene.serve(prompt);
    auto const second = trace(scene, prompt);
    EXPECT_EQ(second.found_tokens, 100u);
    EXPECT_EQ(second.missing_place, MissingPlace::kNone);
    (void)scene.engine->clear();
    auto const third = trace(scene, prompt);
    EXPECT_EQ(third.removal, static_cast<std::uint8_t>(RemovalReason::kCleared));
    EXPECT_NE(third.removed_unix_s, 0u);
    auto const chain = scene.chain(prompt);
    auto const refs =
        scene.engine->reserve(scene.space, chain, {.first_chunk = 0, .end_token = 32});
    EXPECT_EQ(trace(scene, prompt).missing_place, MissingPlace::kWriting);
  }
  EXPECT_EQ(must(read_requests(path_)).size(), 4u);
}

TEST_F(RequestTracingTest, ARequestThatDidNotAskIsTracedToo) {
  EngineScene scene{shared_shape(directory_)};
  scene.engine->trace_request({.request_id = std::string(200, 'x'),
                               .outcome = RequestOutcome::kNotCacheable,
                               .note = "embeddings"},
                              std::nullopt, nullptr);
  auto const trace = must(read_requests(path_)).front();
  EXPECT_EQ(trace.outcome, RequestOutcome::kNotCacheable);
  EXPECT_EQ(text_in(trace.request_id), std::string(87, 'x'));
  EXPECT_EQ(text_in(trace.note), "embeddings");
  EXPECT_EQ(trace.namespace_incarnation, 0u);
}

TEST_F(RequestTracingTest, WhatOnlyTheDiskHasIsTold) {
  TempDirectory disk;
  auto shape = shared_shape(directory_);
  shape.options.disk_folders = {disk.path()};
  shape.options.disk_bytes = 64u << 20;
  shape.options.disk_memory_folder = directory_.path();
  EngineScene scene{shape};
  auto const prompt = simple_prompt(1, 96);
  (void)scene.serve(prompt);
  ASSERT_TRUE(scene.engine->drain(std::chrono::seconds{30}));
  ASSERT_EQ(must(clear_segment(path_, std::nullopt)), 3u);
  EXPECT_EQ(trace(scene, prompt).missing_place, MissingPlace::kDisk);
}

}  // namespace
}  // namespace lmcache::test
