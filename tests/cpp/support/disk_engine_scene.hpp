// SPDX-License-Identifier: Apache-2.0
// An engine with a disk tier, opened again and again over the same folder, memory lost in between.
#pragma once

#include <chrono>
#include <limits>
#include <memory>
#include <optional>
#include <string>

#include "support/engine_scene.hpp"
#include "support/temp_directory.hpp"

namespace lmcache::test {

class DiskEngineScene {
 public:
  explicit DiskEngineScene(EngineShape shape = {}) : shape_{std::move(shape)} {
    shape_.options.disk_folders = {folder / "disk"};
    shape_.options.disk_memory_folder = folder.path();
    shape_.options.segment = folder / "segment";
    if (shape_.options.disk_bytes == 0) shape_.options.disk_bytes = 64u << 20;
    open();
  }

  void open(LogHook log = {}) { scene = std::make_unique<EngineScene>(shape_, 1, std::move(log)); }
  // As after a restart: what was in memory is gone.
  void restart() {
    scene.reset();
    open();
  }
  [[nodiscard]] EngineScene& operator*() { return *scene; }
  [[nodiscard]] EngineScene* operator->() { return scene.get(); }
  [[nodiscard]] EngineShape& shape() { return shape_; }

  // Empties memory and leaves the disk alone.
  [[nodiscard]] std::uint64_t clear_memory() {
    return must(clear_segment(shape_.options.segment, std::nullopt));
  }
  [[nodiscard]] bool drain() { return scene->engine->drain(std::chrono::seconds{30}); }
  [[nodiscard]] std::uint32_t in_memory(TestPrompt const& prompt) {
    return scene->engine
        ->lookup(scene->space, scene->chain(prompt), std::numeric_limits<std::uint32_t>::max())
        .prefix_tokens();
  }
  // As a scheduler does: fetches what is missing, waits, and looks again. The tokens then.
  std::uint32_t fetch(TestPrompt const& prompt,
                      std::uint32_t limit = std::numeric_limits<std::uint32_t>::max()) {
    auto const chain = scene->chain(prompt);
    auto const hit = scene->engine->lookup(scene->space, chain, limit);
    auto fetch = scene->engine->fetch(scene->space, chain,
                                      {.hit_tokens = hit.prefix_tokens(), .limit_tokens = limit});
    if (!fetch) return hit.prefix_tokens();
    EXPECT_TRUE(fetch->wait(EngineScene::kPatience));
    return scene->engine->lookup(scene->space, chain, limit).prefix_tokens();
  }
  [[nodiscard]] CountersSnapshot counters() { return scene->engine->counters(); }

  TempDirectory folder;
  std::unique_ptr<EngineScene> scene;

 private:
  EngineShape shape_;
};

}  // namespace lmcache::test
