// SPDX-License-Identifier: Apache-2.0
// One process's DRAM tier with a namespace, and prompts stored in it and read back, every byte
// checked.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <lmcache/index/chunk_record.hpp>
#include <lmcache/key/namespace_spec.hpp>
#include <lmcache/layout/prefix_window.hpp>
#include <lmcache/tier/dram/dram_tier.hpp>
#include <lmcache/tier/dram/segment_use.hpp>

#include "support/causal_kv.hpp"
#include "support/manual_clock.hpp"
#include "support/must.hpp"

namespace lmcache::test {

inline constexpr std::uint32_t kNoLimit = std::numeric_limits<std::uint32_t>::max();

struct TierShape {
  std::uint32_t chunk_tokens = 64;
  std::uint32_t block_tokens = 4;
  std::uint32_t lanes = 1;
  std::vector<std::uint32_t> windows{};  // of the lanes, as DramNamespace has them
  std::uint64_t token_bytes =
      16;  // of one token in one lane, of which the first 16 are written and checked
  DramOptions options{.capacity_bytes = 16u << 20};
};

// Bytes of the slot of a full chunk, as reserve() works them out.
[[nodiscard]] inline std::uint64_t full_slot_bytes(TierShape const& shape) {
  return SlotAllocator::slot_bytes(
      record_bytes(shape.chunk_tokens * shape.token_bytes, shape.chunk_tokens));
}

class TierScene {
 public:
  explicit TierScene(TierShape shape = {}, Clock const& clock = still(), LogHook log = {})
      : shape_{std::move(shape)} {
    tier_ = must(DramTier::open(shape_.options, clock, std::move(log)));
    space = open_space("model");
  }

  // A namespace whose lanes are declared.
  [[nodiscard]] DramNamespace open_space(std::string const& name, bool declare = true) {
    auto out = describe_space(name);
    must(tier_->open_namespace(out));
    for (std::uint32_t lane = 0; declare && lane < shape_.lanes; ++lane) {
      must(tier_->declare_lane(out, lane, block_bytes()));
    }
    return out;
  }
  [[nodiscard]] DramNamespace describe_space(std::string const& name) const {
    DramNamespace out;
    out.opened.root = must(namespace_root(
        {.model = name, .geometry_hash = {{1}}, .chunk_tokens = shape_.chunk_tokens}));
    out.opened.chunk_tokens = shape_.chunk_tokens;
    out.opened.block_tokens = shape_.block_tokens;
    out.model = name;
    for (std::uint32_t lane = 0; lane < shape_.lanes; ++lane) {
      out.lane_masks.push_back(
          must(lane_mask(out.opened.root, {.group = 0, .rank = lane, .world_size = shape_.lanes})));
      out.lane_block_tokens.push_back(shape_.block_tokens);
    }
    out.lane_windows = shape_.windows;
    return out;
  }

  [[nodiscard]] KeyChain chain(TestPrompt const& prompt) const { return chain(space, prompt); }
  [[nodiscard]] KeyChain chain(DramNamespace const& in, TestPrompt const& prompt) const {
    return prompt.chain(in.opened.root, shape_.chunk_tokens);
  }

  using Refs = std::vector<std::vector<ChunkRef>>;
  [[nodiscard]] Refs reserve(TestPrompt const& prompt, std::uint32_t first_chunk = 0) {
    return tier_->reserve(space, chain(prompt),
                          {.first_chunk = first_chunk, .end_token = prompt.size()});
  }

  // Writes what is reserved and publishes it. Returns how many chunks of how many lanes.
  std::uint32_t publish(TestPrompt const& prompt, Refs const& refs, std::uint32_t first_chunk = 0) {
    return publish(space, prompt, refs, first_chunk);
  }
  std::uint32_t publish(DramNamespace const& in, TestPrompt const& prompt, Refs const& refs,
                        std::uint32_t first_chunk = 0) {
    auto const states = causal_states(prompt, in.opened.root.prefix64());
    std::uint32_t published = 0;
    for (std::uint32_t lane = 0; lane < refs.size(); ++lane) {
      for (std::uint32_t i = 0; i < refs[lane].size(); ++i) {
        if (!refs[lane][i]) continue;
        auto const slot = tier_->begin_write(refs[lane][i]);
        if (!slot) continue;
        write(*slot, states, (first_chunk + i) * shape_.chunk_tokens, lane);
        tier_->publish(refs[lane][i]);
        ++published;
      }
    }
    return published;
  }
  std::uint32_t store(TestPrompt const& prompt) { return publish(prompt, reserve(prompt)); }
  std::uint32_t store(DramNamespace& in, TestPrompt const& prompt) {
    auto const refs =
        tier_->reserve(in, chain(in, prompt), {.first_chunk = 0, .end_token = prompt.size()});
    return publish(in, prompt, refs);
  }

  // Looks up, checks every byte that was promised, gives the leases back. Returns the tokens found.
  std::uint32_t hit(TestPrompt const& prompt, std::uint32_t limit = kNoLimit) {
    return hit(space, prompt, limit);
  }
  std::uint32_t hit(DramNamespace const& in, TestPrompt const& prompt,
                    std::uint32_t limit = kNoLimit) {
    auto const found = tier_->lookup(in, chain(in, prompt), limit);
    EXPECT_TRUE(holds(in, prompt, found));
    for (auto const& lane : found.lanes) tier_->release(lane);
    return found.prefix_tokens;
  }
  [[nodiscard]] testing::AssertionResult holds(TestPrompt const& prompt,
                                               LeasedPrefix const& found) {
    return holds(space, prompt, found);
  }
  [[nodiscard]] testing::AssertionResult holds(DramNamespace const& in, TestPrompt const& prompt,
                                               LeasedPrefix const& found) {
    auto const states = causal_states(prompt, in.opened.root.prefix64());
    auto const pieces = (found.prefix_tokens + shape_.chunk_tokens - 1) / shape_.chunk_tokens;
    for (std::uint32_t lane = 0; lane < found.lanes.size(); ++lane) {
      if (found.lanes[lane].size() != pieces) {
        return testing::AssertionFailure()
               << found.lanes[lane].size() << " pieces for " << found.prefix_tokens;
      }
      for (std::uint32_t piece = 0; piece < pieces; ++piece) {
        auto const window = in.needs_all(lane) ? 0 : in.lane_windows[lane];
        if (piece < first_needed_chunk(window, found.prefix_tokens, shape_.chunk_tokens)) {
          if (found.lanes[lane][piece]) return testing::AssertionFailure() << "not needed, leased";
          continue;
        }
        auto const slot = tier_->begin_read(found.lanes[lane][piece]);
        if (!slot) return testing::AssertionFailure() << "a leased chunk is gone";
        std::uint32_t const first = piece * shape_.chunk_tokens;
        auto const end = std::min(found.prefix_tokens, first + shape_.chunk_tokens);
        auto const bad = first_wrong(*slot, states, first, end, lane);
        tier_->release({&found.lanes[lane][piece], 1});
        if (bad)
          return testing::AssertionFailure()
                 << "lane " << lane << ": wrong bytes of token " << *bad;
      }
    }
    return testing::AssertionSuccess();
  }

  // The bytes of the tokens from `first` on, as far as the slot goes.
  void write(ChunkSlot const& slot, std::span<std::uint64_t const> states, std::uint32_t first,
             std::uint32_t lane) const {
    for (std::uint32_t i = 0; i < slot.valid_tokens; ++i)
      write_cell(cell(slot, i), states[first + i], lane);
  }
  [[nodiscard]] std::optional<std::uint32_t> first_wrong(ChunkSlot const& slot,
                                                         std::span<std::uint64_t const> states,
                                                         std::uint32_t first, std::uint32_t end,
                                                         std::uint32_t lane) const {
    for (std::uint32_t token = first; token < end; ++token) {
      bool const there = token - first < slot.valid_tokens;
      if (!there || !cell_is(cell(slot, token - first), states[token], lane)) return token;
    }
    return std::nullopt;
  }

  [[nodiscard]] DramTier& tier() { return *tier_; }
  [[nodiscard]] DramTier const& tier() const { return *tier_; }
  [[nodiscard]] DramState& state() { return tier_->state(); }
  [[nodiscard]] CountersSnapshot counters() { return tier_->counters().snapshot(); }
  [[nodiscard]] TierShape const& shape() const { return shape_; }
  [[nodiscard]] std::uint64_t block_bytes() const {
    return shape_.block_tokens * shape_.token_bytes;
  }
  [[nodiscard]] SegmentUse use() { return must(measure_use(state())); }
  void close() { tier_.reset(); }

  DramNamespace space;

 private:
  static Clock const& still() {
    static ManualClock const clock;
    return clock;
  }
  [[nodiscard]] std::span<std::byte> cell(ChunkSlot const& slot, std::uint32_t token) const {
    return {slot.payload + token * shape_.token_bytes,
            std::min<std::uint64_t>(shape_.token_bytes, 16)};
  }

  TierShape shape_;
  std::unique_ptr<DramTier> tier_;
};

// A random prompt.
[[nodiscard]] inline TestPrompt prompt_of(std::uint64_t seed, std::uint32_t tokens) {
  return {.tokens = random_tokens(seed, tokens), .items = {}};
}

// `head`'s first `shared` tokens, then others up to `tokens`.
[[nodiscard]] inline TestPrompt branch_of(TestPrompt const& head, std::uint32_t shared,
                                          std::uint64_t seed, std::uint32_t tokens) {
  auto out = head.first(shared);
  auto const rest = random_tokens(seed ^ 0xB4A9C4, tokens - shared);
  out.tokens.insert(out.tokens.end(), rest.begin(), rest.end());
  return out;
}

}  // namespace lmcache::test
