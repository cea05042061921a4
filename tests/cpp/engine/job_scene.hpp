// SPDX-License-Identifier: Apache-2.0
// A tier, paged memory and the jobs between them, over a copier that the test chooses.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include <lmcache/device/host_copier.hpp>
#include <lmcache/engine/transfer_jobs.hpp>

#include "device/copier_decorators.hpp"
#include "support/kv_memory.hpp"
#include "support/manual_clock.hpp"
#include "support/segment_invariants.hpp"
#include "support/tier_scene.hpp"

namespace lmcache::test {

using Items = std::vector<std::uint32_t>;

// A copier thread that has copied an item goes no further until the gate is open.
class Gate {
 public:
  void open() {
    std::lock_guard const lock{mutex_};
    open_ = true;
    changed_.notify_all();
  }
  void pass() {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [this] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;  // guarded by mutex_
};

class GatedCopier final : public CopierDecorator {
 public:
  GatedCopier(std::unique_ptr<DeviceCopier> inner, Gate& gate)
      : CopierDecorator{std::move(inner)}, gate_{gate} {}

 private:
  Result<CopyTicket> do_submit(CopyBatch batch) override {
    batch.on_item = [this, told = std::move(batch.on_item)](std::uint32_t item, CopyStatus status) {
      if (status != CopyStatus::kCancelled) gate_.pass();
      told(item, status);
    };
    return CopierDecorator::do_submit(std::move(batch));
  }

  Gate& gate_;
};

[[nodiscard]] inline std::unique_ptr<DeviceCopier> one_thread() {
  return must(HostCopier::create({.threads = 1}));
}
[[nodiscard]] inline CopyDeadline soon() {
  return std::chrono::steady_clock::now() + std::chrono::seconds{30};
}
[[nodiscard]] inline CopyDeadline now() { return std::chrono::steady_clock::now(); }

// Chunks of 32 tokens in blocks of 4, in three planes with gaps.
inline constexpr std::uint32_t kChunk = 32;
inline constexpr std::uint32_t kBlocks = kChunk / 4;

struct JobScene {
  explicit JobScene(std::unique_ptr<DeviceCopier> copier = one_thread())
      : jobs{std::make_unique<TransferJobs>(
            tiers.tier(), std::make_unique<DeviceCopiers>(std::move(copier)), clock)},
        view{must(jobs->register_view(memory.view()))} {}

  // `count` blocks that touch nowhere and are in no order, from the `offset`th on.
  static Items scattered(std::uint32_t count, std::uint32_t offset = 0) {
    Items out(count);
    for (std::uint32_t i = 0; i < count; ++i) out[i] = (offset + i) * 37 % 256;
    return out;
  }
  static Items part(Items const& table, std::uint32_t chunk) {
    auto const first = std::min<std::size_t>(table.size(), chunk * kBlocks);
    auto const end = std::min<std::size_t>(table.size(), first + kBlocks);
    return {table.begin() + static_cast<std::ptrdiff_t>(first),
            table.begin() + static_cast<std::ptrdiff_t>(end)};
  }
  std::vector<std::uint64_t> states(TestPrompt const& prompt) const {
    return causal_states(prompt, tiers.space.opened.root.prefix64());
  }
  // The prompt's KV in scattered blocks, slots for it, and what is to be stored.
  std::vector<StoreItem> computed(TestPrompt const& prompt) {
    auto const table = scattered((prompt.size() + 3) / 4);
    memory.compute(states(prompt), 0, prompt.size(), table);
    auto const refs = tiers.reserve(prompt).front();
    std::vector<StoreItem> out;
    for (std::uint32_t i = 0; i < refs.size(); ++i)
      if (refs[i]) out.push_back({.ref = refs[i], .blocks = part(table, i)});
    return out;
  }
  Items finish(JobId job) {
    EXPECT_TRUE(jobs->wait(job, soon()));
    return jobs->finish(job);
  }
  // Stores all of it, wipes the memory, and says how to load it to other blocks.
  std::vector<LoadItem> stored(TestPrompt const& prompt) {
    auto const items = computed(prompt);
    EXPECT_EQ(finish(must(jobs->submit_store(view, items))), Items{});
    memory.wipe();
    std::vector<LoadItem> out;
    auto const table = scattered((prompt.size() + 3) / 4, 100);
    for (std::uint32_t i = 0; i < items.size(); ++i)
      out.push_back({.ref = items[i].ref, .first_block = 0, .blocks = part(table, i)});
    return out;
  }
  testing::AssertionResult at_rest() {
    auto held = nothing_is_held(tiers.state());
    return held ? segment_is_sound(tiers.state()) : held;
  }

  ManualClock clock;
  KvMemory memory{KvShape{}};
  TierScene tiers{
      {.chunk_tokens = kChunk, .token_bytes = 96, .options = {.capacity_bytes = 8u << 20}}};
  std::unique_ptr<TransferJobs> jobs;
  ViewId view;
};

// A scene whose copier threads (one for loads, one for stores) stop behind a gate.
struct GatedScene {
  Gate gate;
  JobScene scene{std::make_unique<GatedCopier>(one_thread(), gate)};
};

}  // namespace lmcache::test
