// SPDX-License-Identifier: Apache-2.0
// One process's engine as a serving engine drives it: prompts computed in paged memory, stored,
// loaded back into other blocks, every byte checked.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <lmcache/engine/engine.hpp>

#include "support/causal_kv.hpp"
#include "support/kv_memory.hpp"
#include "support/must.hpp"

namespace lmcache::test {

struct EngineShape {
  std::uint32_t chunk_tokens = 32;
  std::uint32_t lanes = 1;               // ranks, or as many as there are windows
  std::vector<std::uint32_t> windows{};  // of KV groups of one rank; empty: one group without
  KvShape kv{};
  std::string model = "model";
  EngineOptions options{.capacity_bytes = 16u << 20, .copy_threads = 1};
};

// What became of one request.
struct Served {
  std::uint32_t hit_tokens = 0;
  std::uint32_t stored_chunks = 0;
  bool right = true;    // all bytes that were loaded are what they must be
  bool in_time = true;  // no job took too long
};

class EngineScene {
 public:
  static constexpr std::chrono::seconds kPatience{30};

  explicit EngineScene(EngineShape shape, std::uint64_t seed = 1, LogHook log = {})
      : shape_{std::move(shape)}, random_{seed} {
    engine = must(Engine::open(shape_.options, std::move(log)));
    std::vector<KvGroup> groups(std::max<std::size_t>(shape_.windows.size(), 1), shape_.kv.group());
    for (std::size_t i = 0; i < shape_.windows.size(); ++i)
      groups[i].window_tokens = shape_.windows[i];
    std::uint32_t const ranks = shape_.windows.empty() ? shape_.lanes : 1;
    shape_.lanes = ranks * static_cast<std::uint32_t>(groups.size());
    space = must(engine->open_namespace(
        {.model = shape_.model, .chunk_tokens = shape_.chunk_tokens, .world_size = ranks},
        {.dtype = "bfloat16", .layout = "test", .groups = groups}));
    for (std::uint32_t lane = 0; lane < shape_.lanes; ++lane) {
      auto kv = shape_.kv;
      kv.lane = lane;
      must(engine->declare_lane(space, lane, kv.block_bytes()));
      memory.push_back(std::make_unique<KvMemory>(kv));
      views.push_back(must(engine->register_view(memory.back()->view())));
    }
  }

  [[nodiscard]] KeyChain chain(TestPrompt const& prompt) const {
    return prompt.chain(space.root, shape_.chunk_tokens);
  }
  [[nodiscard]] std::vector<std::uint64_t> states(TestPrompt const& prompt) const {
    return causal_states(prompt, space.root.prefix64());
  }
  // Different blocks, in random order.
  [[nodiscard]] std::vector<std::uint32_t> random_blocks(std::uint32_t count) {
    std::vector<std::uint32_t> all(shape_.kv.num_blocks);
    std::iota(all.begin(), all.end(), 0u);
    std::shuffle(all.begin(), all.end(), random_);
    all.resize(count);
    return all;
  }
  [[nodiscard]] std::uint32_t blocks_for(std::uint32_t tokens) const {
    return (tokens + shape_.kv.block_tokens - 1) / shape_.kv.block_tokens;
  }
  // The part of a prompt's block table that holds one chunk of it.
  [[nodiscard]] std::vector<std::uint32_t> blocks_of_chunk(std::vector<std::uint32_t> const& table,
                                                           std::uint32_t chunk) const {
    std::uint32_t const per_chunk = shape_.chunk_tokens / shape_.kv.block_tokens;
    std::size_t const first = std::size_t{chunk} * per_chunk;
    std::size_t const end = std::min<std::size_t>(first + per_chunk, table.size());
    return {table.begin() + static_cast<std::ptrdiff_t>(first),
            table.begin() + static_cast<std::ptrdiff_t>(end)};
  }

  [[nodiscard]] std::vector<StoreItem> store_items(std::vector<ChunkRef> const& refs,
                                                   std::vector<std::uint32_t> const& table,
                                                   std::uint32_t first_chunk = 0) const {
    std::vector<StoreItem> items;
    for (std::uint32_t i = 0; i < refs.size(); ++i) {
      if (refs[i])
        items.push_back({.ref = refs[i], .blocks = blocks_of_chunk(table, first_chunk + i)});
    }
    return items;
  }
  // The hit's first blocks go to those of `table`.
  [[nodiscard]] std::vector<LoadItem> load_items(Hit const& hit, std::uint32_t lane,
                                                 std::vector<std::uint32_t> const& table) const {
    std::vector<LoadItem> items;
    for (std::uint32_t i = 0; i < hit.chunk_count(); ++i) {
      if (!hit.refs(lane)[i]) continue;  // before its window
      items.push_back(
          {.ref = hit.refs(lane)[i], .first_block = 0, .blocks = blocks_of_chunk(table, i)});
    }
    return items;
  }

  // A request: what is cached is loaded and checked, the rest is computed and stored.
  Served serve(TestPrompt const& prompt) {
    Served out;
    auto const keys = chain(prompt);
    auto const wanted = states(prompt);
    auto const table = random_blocks(blocks_for(prompt.size()));
    {
      auto const hit = engine->lookup(space, keys, std::numeric_limits<std::uint32_t>::max());
      out.hit_tokens = hit.prefix_tokens();
      if (out.hit_tokens != 0) load(hit, table, wanted, out);
    }
    for (auto& kv : memory) kv->compute(wanted, 0, prompt.size(), table);
    auto const refs = engine->reserve(space, keys, {.first_chunk = 0, .end_token = prompt.size()});
    std::vector<JobId> jobs;
    for (std::uint32_t lane = 0; lane < shape_.lanes; ++lane) {
      auto const items = store_items(refs[lane], table);
      if (items.empty()) continue;
      jobs.push_back(must(engine->submit_store(views[lane], items)));
      out.stored_chunks += static_cast<std::uint32_t>(items.size());
    }
    for (auto const job : jobs) {
      out.in_time &= engine->wait(job, kPatience);
      out.stored_chunks -= static_cast<std::uint32_t>(engine->finish_job(job).size());
    }
    return out;
  }

  std::unique_ptr<Engine> engine;
  NamespaceHandle space;
  std::vector<std::unique_ptr<KvMemory>> memory;  // per lane
  std::vector<ViewId> views;

 private:
  void load(Hit const& hit, std::vector<std::uint32_t> const& table,
            std::vector<std::uint64_t> const& wanted, Served& out) {
    auto const used = std::vector<std::uint32_t>{
        table.begin(), table.begin() + static_cast<std::ptrdiff_t>(blocks_for(out.hit_tokens))};
    for (std::uint32_t lane = 0; lane < shape_.lanes; ++lane) {
      auto const items = load_items(hit, lane, used);
      auto const job = must(engine->submit_load(views[lane], items));
      auto const before = static_cast<std::uint32_t>(hit.chunk_count() - items.size());
      out.in_time &= engine->wait(job, kPatience);
      out.right &= engine->finish_job(job).empty();
      auto const blocks = std::span{used}.subspan(before * blocks_for(shape_.chunk_tokens));
      out.right &= !memory[lane]
                        ->first_wrong(wanted, before * shape_.chunk_tokens, out.hit_tokens, blocks)
                        .has_value();
    }
  }

  EngineShape shape_;
  std::mt19937_64 random_;
};

}  // namespace lmcache::test
