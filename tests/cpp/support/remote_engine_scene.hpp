// SPDX-License-Identifier: Apache-2.0
// Two engines, as on two nodes: memory of their own, one server between them.
#pragma once

#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/shared_scene.hpp"
#include "support/redis_server.hpp"
#include "support/remote_scene.hpp"

namespace lmcache::test {

// Needs a redis-server.
class RemoteEngineScene {
 public:
  static constexpr std::uint32_t kNoLimit = std::numeric_limits<std::uint32_t>::max();

  explicit RemoteEngineScene(EngineShape shape = {}) : shape_{std::move(shape)} {
    shape_.options.remote_url = server.socket_url();
    one = open();
    two = open();
  }

  // A node that may differ from the others in its options.
  [[nodiscard]] std::unique_ptr<EngineScene> open(EngineShape const& shape, LogHook log = {}) {
    auto out = std::make_unique<EngineScene>(shape, 1, std::move(log));
    EXPECT_TRUE(server_answers(*out));
    return out;
  }
  [[nodiscard]] std::unique_ptr<EngineScene> open() { return open(shape_); }
  [[nodiscard]] EngineShape& shape() { return shape_; }

  // The engine's own word for it, which it gives ten times a second.
  [[nodiscard]] static std::string state_of(EngineScene& node) {
    auto const status = must(node.engine->status());
    return status.processes.empty() ? "" : status.processes[0].remote_state;
  }
  [[nodiscard]] static bool server_answers(EngineScene& node) {
    return eventually([&] { return state_of(node) == "connected"; });
  }
  [[nodiscard]] static bool drain(EngineScene& node) {
    return node.engine->drain(std::chrono::seconds{30});
  }
  [[nodiscard]] static std::uint32_t in_memory(EngineScene& node, TestPrompt const& prompt) {
    return node.engine->lookup(node.space, node.chain(prompt), kNoLimit).prefix_tokens();
  }
  [[nodiscard]] static std::optional<Fetch> start(EngineScene& node, TestPrompt const& prompt) {
    return node.engine->fetch(node.space, node.chain(prompt),
                              {.hit_tokens = in_memory(node, prompt), .limit_tokens = kNoLimit});
  }
  // As a scheduler does: fetches what is missing, waits, and looks again. The tokens then.
  static std::uint32_t fetch(EngineScene& node, TestPrompt const& prompt) {
    auto fetch = start(node, prompt);
    EXPECT_TRUE(!fetch || fetch->wait(EngineScene::kPatience));
    return in_memory(node, prompt);
  }
  // Nobody holds or fills anything (any more).
  [[nodiscard]] static bool is_at_rest(EngineScene& node) {
    return eventually([&] {
      auto const status = must(node.engine->status());
      return status.leased == 0 && status.writing == 0;
    });
  }

  RedisServer server;
  TempDirectory folder;
  std::unique_ptr<EngineScene> one;
  std::unique_ptr<EngineScene> two;

 private:
  EngineShape shape_;
};

}  // namespace lmcache::test
