// SPDX-License-Identifier: Apache-2.0
// Small segments with a name, in a folder of the test's own, for engines of one or more processes.
#pragma once

#include <chrono>
#include <string>
#include <thread>

#include "support/engine_scene.hpp"
#include "support/temp_directory.hpp"

namespace lmcache::test {

// Chunks of 32 tokens.
[[nodiscard]] inline EngineShape shared_shape(TempDirectory const& directory, bool keep = true) {
  EngineShape out;
  out.options.segment = "shared";
  out.options.directory = directory.path();
  out.options.capacity_bytes = 8u << 20;
  out.options.keep = keep;
  out.options.copy_threads = 1;
  return out;
}

[[nodiscard]] inline std::string shared_path(TempDirectory const& directory) {
  return directory / ("lmcache-" + std::to_string(::geteuid()) + "-shared");
}

[[nodiscard]] inline TestPrompt simple_prompt(std::uint64_t seed, std::uint32_t tokens) {
  return {.tokens = random_tokens(seed, tokens), .items = {}};
}

// For what another thread does on its own account, such as the housekeeper twice a second.
template <class Condition>
[[nodiscard]] bool eventually(Condition&& condition) {
  auto const deadline = std::chrono::steady_clock::now() + std::chrono::seconds{30};
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
  }
  return true;
}

}  // namespace lmcache::test
