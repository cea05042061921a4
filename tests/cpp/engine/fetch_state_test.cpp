// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/fetch_state.hpp>

#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include <lmcache/engine/fetch.hpp>
#include <lmcache/index/chunk_record.hpp>

#include "support/tier_scene.hpp"

namespace lmcache::test {
namespace {

// Two chunks that "the disk" brings, by hand.
class Fetching : public testing::Test {
 protected:
  explicit Fetching(LoadEstimate estimate = {.load_bytes = 2000, .tokens = 128})
      : state_{std::make_shared<FetchState>(scene_.tier(), clock_, estimate, 128u)} {
    std::vector<FetchState::Piece> pieces;
    for (std::uint32_t chunk = 0; chunk < 2; ++chunk) {
      auto const ref = must(scene_.tier().reserve_fetch(
          scene_.space, chain_, {.chunk = chunk, .end_token = (chunk + 1) * 64, .lane = 0}));
      auto const slot = scene_.tier().begin_write(ref);
      EXPECT_TRUE(slot.has_value());
      pieces.push_back({.ref = ref, .key = {}, .slot = *slot, .size_bytes = 1000});
      refs_.push_back(ref);
    }
    state_->expect(std::move(pieces), {});
  }

  ManualClock clock_;
  TierScene scene_{{}, clock_};
  TestPrompt prompt_ = prompt_of(1, 128);
  KeyChain chain_ = scene_.chain(prompt_);
  std::vector<ChunkRef> refs_;
  std::shared_ptr<FetchState> state_;
};

TEST_F(Fetching, IsDoneWhenAllHasArrivedAndKeepsItUntilReleased) {
  EXPECT_FALSE(state_->done());
  state_->arrived(1, TierOutcome::kDone);
  EXPECT_FALSE(state_->done());
  state_->arrived(0, TierOutcome::kDone);
  EXPECT_TRUE(state_->done());
  EXPECT_TRUE(scene_.tier().is_ready(refs_[0]) && scene_.tier().is_ready(refs_[1]));
  EXPECT_EQ(scene_.use().leased, 2u);
  state_->release();
  EXPECT_EQ(scene_.use().leased, 0u);
  EXPECT_EQ(scene_.counters().disk_hit_tokens, 128u);
}

// Those who wait for the same chunks, fetched by us, see them as soon as they are published.
TEST_F(Fetching, IsDoneWhenOthersAre) {
  state_->arrived(0, TierOutcome::kDone);
  auto const other = std::make_shared<FetchState>(scene_.tier(), clock_, LoadEstimate{}, 128u);
  other->expect({}, refs_);
  EXPECT_FALSE(other->done());
  EXPECT_FALSE(state_->done());
  scene_.tier().publish_and_keep(refs_[1]);
  EXPECT_TRUE(other->done());
  EXPECT_TRUE(state_->done());
  state_->release();
  EXPECT_EQ(scene_.use().leased, 1u) << "by the read that ends only now";
  scene_.tier().release({&refs_[1], 1});
}

TEST_F(Fetching, WhatDidNotArriveIsReservedNoLonger) {
  state_->arrived(0, TierOutcome::kCorrupt);
  state_->arrived(1, TierOutcome::kIoError);
  EXPECT_TRUE(state_->done());
  auto const use = scene_.use();
  EXPECT_EQ(use.ready + use.writing + use.leased, 0u);
  EXPECT_EQ(scene_.counters().disk_corrupt_chunks, 1u);
  EXPECT_EQ(scene_.counters().disk_read_errors, 1u);
}

TEST_F(Fetching, ARecordOfOtherLengthIsCorrupt) {
  auto const slot =
      scene_.tier().segment().payload(scene_.state().index.at(refs_[0].index).payload_offset);
  reinterpret_cast<ChunkHeader*>(slot)->payload_bytes -= 4;
  state_->arrived(0, TierOutcome::kDone);
  EXPECT_FALSE(scene_.tier().is_ready(refs_[0]));
  EXPECT_EQ(scene_.counters().disk_corrupt_chunks, 1u);
  state_->arrived(1, TierOutcome::kMissing);
}

TEST_F(Fetching, WhatComesAfterTheReleaseIsThereForOthers) {
  state_->release();
  EXPECT_TRUE(state_->done());
  state_->arrived(0, TierOutcome::kDone);
  state_->arrived(1, TierOutcome::kDone);
  EXPECT_TRUE(scene_.tier().is_ready(refs_[0]));
  EXPECT_EQ(scene_.use().leased, 0u);
}

class SlowFetching : public Fetching {
 protected:
  SlowFetching()
      : Fetching{{.load_bytes = 2000,
                  .bytes_per_s = 1'000'000,
                  .tokens = 128,
                  .prefill_ps_per_token = 1'000'000'000,
                  .largest_bytes = 1000}} {}
};

TEST_F(SlowFetching, IsGivenUpWhenComputingWouldBeFaster) {
  clock_.advance(std::chrono::milliseconds{6});
  EXPECT_FALSE(state_->done());
  state_->arrived(0, TierOutcome::kDone);
  clock_.advance(std::chrono::milliseconds{50});
  EXPECT_FALSE(state_->done());  // half is there, and not half the time is over
  clock_.advance(std::chrono::milliseconds{20});
  EXPECT_TRUE(state_->done());
  EXPECT_TRUE(state_->done());
  EXPECT_EQ(scene_.counters().loads_abandoned, 1u);
  state_->release();
  state_->arrived(1, TierOutcome::kDone);
  EXPECT_EQ(scene_.use().leased, 0u);
}

TEST_F(Fetching, WaitsForWhatOthersFetch) {
  FetchState other{scene_.tier(), clock_, {.load_bytes = 1, .tokens = 1}, 64};
  other.expect({}, {refs_[0]});
  EXPECT_FALSE(other.done());
  state_->arrived(0, TierOutcome::kDone);
  EXPECT_TRUE(other.done());
  FetchState third{scene_.tier(), clock_, {.load_bytes = 1, .tokens = 1}, 128};
  third.expect({}, {refs_[1]});
  EXPECT_FALSE(third.done());
  state_->arrived(1, TierOutcome::kCorrupt);  // nobody brings it
  EXPECT_TRUE(third.done());
}

}  // namespace
}  // namespace lmcache::test
