// SPDX-License-Identifier: Apache-2.0
// An engine whose KV lies on the simulated device, and a model that computes and reads it there:
// all it does happens on a stream of its own, long after it was asked for.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <lmcache/engine/engine.hpp>

#include "cuda_sim/cuda_sim.hpp"
#include "cuda_sim/sim_kernels.hpp"
#include "support/causal_kv.hpp"
#include "support/kv_memory.hpp"
#include "support/must.hpp"

namespace lmcache::test {

class CudaEngineScene {
 public:
  static constexpr std::chrono::seconds kPatience{60};
  static constexpr std::uint32_t kChunk = 8;  // two blocks
  static constexpr std::uint32_t kBlocks = 12;
  using Blocks = std::vector<std::uint32_t>;
  using States = std::vector<std::uint64_t>;

  struct Options {
    std::uint64_t seed = 1;
    int batch_version = 13;
    std::uint64_t pool_chunks = 0;
    std::string segment = "private";
    std::string directory = "/dev/shm";
  };
  // What a whole chunk takes, in DRAM and in a pool.
  static constexpr std::uint64_t kChunkBytes = 768;

  CudaEngineScene() : CudaEngineScene{Options{}} {}
  explicit CudaEngineScene(Options options)
      : sim{{.seed = options.seed,
             .batch_version = options.batch_version,
             .kernels = sim_kernels()}} {
    for (std::uint32_t plane = 0; plane < shape.planes; ++plane)
      base_.push_back(
          reinterpret_cast<std::byte*>(sim.allocate_device(std::size_t{kBlocks} * stride(plane))));
    stream_ = sim.make_engine_stream();
    // By the kernel or by the copy engine; to measure takes seconds on the simulated device.
    CopyChoice::Side const way{.engine_from_bytes = options.seed % 2 == 0 ? 0u : 1u << 20,
                               .fewest = 1};
    engine = must(Engine::open({.segment = options.segment,
                                .directory = options.directory,
                                .capacity_bytes = 16u << 20,
                                .copy_threads = 1,
                                .cuda_source = [this]() -> Result<CudaApi> { return sim.api(); },
                                .cuda_choice = CopyChoice{way, way, way},
                                .device_pool_bytes = options.pool_chunks * kChunkBytes},
                               [this](LogLevel, std::string_view text) {
                                 std::lock_guard const lock{mutex_};
                                 lines_.emplace_back(text);
                               }));
    space = must(
        engine->open_namespace({.model = "model", .chunk_tokens = kChunk},
                               {.dtype = "bf16", .layout = "test", .groups = {shape.group()}}));
    must(engine->declare_lane(space, 0, shape.block_bytes()));
    before_ = sim.alive();
    view = must(engine->register_view(device_view()));
  }
  ~CudaEngineScene() {
    engine.reset();
    sim.settle();  // what the model still computes looks at our members
    for (auto const& violation : sim.violations()) ADD_FAILURE() << violation;
  }
  CudaEngineScene(CudaEngineScene const&) = delete;
  CudaEngineScene& operator=(CudaEngineScene const&) = delete;

  // Of the log.
  [[nodiscard]] std::vector<std::string> lines() {
    std::lock_guard const lock{mutex_};
    return lines_;
  }
  [[nodiscard]] EngineStream stream() const {
    return {.handle = reinterpret_cast<std::uintptr_t>(stream_)};
  }
  [[nodiscard]] CudaStream model_stream() const { return stream_; }
  // What the simulated driver gave to the engine and did not get back.
  [[nodiscard]] std::uint64_t held_by_engine() const { return sim.alive() - before_; }

  [[nodiscard]] KvView device_view() {
    KvView out{.num_blocks = kBlocks,
               .block_tokens = shape.block_tokens,
               .device = {.kind = KvDeviceKind::kCuda}};
    for (std::uint32_t plane = 0; plane < shape.planes; ++plane) {
      out.planes.push_back({.base = base_[plane],
                            .block_stride_bytes = static_cast<std::int64_t>(stride(plane)),
                            .page_bytes = shape.page_bytes(plane)});
    }
    return out;
  }
  [[nodiscard]] KeyChain chain(TestPrompt const& prompt) const {
    return prompt.chain(space.root, kChunk);
  }
  [[nodiscard]] States states(TestPrompt const& prompt) const {
    return causal_states(prompt, space.root.prefix64());
  }
  [[nodiscard]] static Blocks chunk_blocks(Blocks const& table, std::uint32_t chunk) {
    Blocks out;
    for (std::size_t i = std::size_t{chunk} * 2; i < table.size() && out.size() < 2; ++i)
      out.push_back(table[i]);
    return out;
  }

  // On the model's stream: the KV of tokens [first, first + states) of what `table` holds.
  void compute(States some, std::uint32_t first, Blocks table) {
    sim.compute(stream_, [this, some = std::move(some), first, table = std::move(table)] {
      for (std::uint32_t plane = 0; plane < shape.planes; ++plane)
        for (std::uint32_t i = 0; i < some.size(); ++i)
          write_cell(cell(plane, first + i, table), some[i], plane);
    });
  }
  // On the model's stream: a layer reads its plane of the first tokens.
  void attend(States some, Blocks table, std::uint32_t plane) {
    sim.compute(stream_, [this, some = std::move(some), table = std::move(table), plane] {
      for (std::uint32_t i = 0; i < some.size(); ++i)
        wrong += cell_is(cell(plane, i, table), some[i], plane) ? 0 : 1;
    });
  }

  [[nodiscard]] std::vector<StoreItem> reserve(TestPrompt const& prompt, Blocks const& table) {
    auto const refs =
        engine->reserve(space, chain(prompt), {.first_chunk = 0, .end_token = prompt.size()});
    std::vector<StoreItem> items;
    for (std::uint32_t i = 0; i < refs[0].size(); ++i)
      if (refs[0][i]) items.push_back({.ref = refs[0][i], .blocks = chunk_blocks(table, i)});
    return items;
  }
  [[nodiscard]] static std::vector<LoadItem> load_items(Hit const& hit, Blocks const& table) {
    std::vector<LoadItem> items;
    for (std::uint32_t i = 0; i < hit.chunk_count(); ++i)
      items.push_back({.ref = hit.refs(0)[i], .first_block = 0, .blocks = chunk_blocks(table, i)});
    return items;
  }
  // Computes and stores all of it; returns the job when it is over.
  JobId store(TestPrompt const& prompt, Blocks const& table) {
    compute(states(prompt), 0, table);
    auto const job = must(engine->submit_store(view, reserve(prompt, table), stream()));
    EXPECT_TRUE(engine->wait(job, kPatience));
    return job;
  }

  KvShape const shape{.num_blocks = kBlocks};
  std::atomic<int> wrong{0};
  CudaSim sim;
  std::unique_ptr<Engine> engine;
  NamespaceHandle space;
  ViewId view = 0;

 private:
  [[nodiscard]] std::uint64_t stride(std::uint32_t plane) const {
    return shape.page_bytes(plane) + shape.gap_bytes;
  }
  [[nodiscard]] std::span<std::byte> cell(std::uint32_t plane, std::uint32_t token,
                                          Blocks const& table) const {
    auto const bytes = shape.page_bytes(plane) / shape.block_tokens;
    auto const at =
        table[token / shape.block_tokens] * stride(plane) + token % shape.block_tokens * bytes;
    return {base_[plane] + at, bytes};
  }

  std::mutex mutex_;
  std::vector<std::string> lines_;  // guarded by mutex_
  std::vector<std::byte*> base_;
  CudaStream stream_ = nullptr;
  std::uint64_t before_ = 0;
};

}  // namespace lmcache::test
