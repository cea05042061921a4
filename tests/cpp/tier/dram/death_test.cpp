// SPDX-License-Identifier: Apache-2.0
// A process is killed after any number of instructions of everything it can do to a segment. The
// others go on, what they read is right, and nothing is lost.
#include <chrono>
#include <functional>
#include <memory>
#include <random>

#include <gtest/gtest.h>

#include "support/child_process.hpp"
#include "support/scratch_folder.hpp"
#include "support/segment_invariants.hpp"
#include "support/stepped_child.hpp"
#include "support/tier_scene.hpp"

namespace lmcache::test {
namespace {

#if defined(__SANITIZE_THREAD__)
constexpr bool kStepsTooMany = true;
#else
constexpr bool kStepsTooMany = false;
#endif
#if defined(__SANITIZE_ADDRESS__)
constexpr int kRounds = 4;  // a step costs the same, but there are ten times as many
#else
constexpr int kRounds = 60;
#endif
constexpr std::chrono::milliseconds kMostTime{1000};
constexpr std::uint32_t kChunk = 64;

// What the process has when its steps begin.
struct Victim {
  TierShape shape;
  std::unique_ptr<TierScene> scene;
  TestPrompt prompt;
  std::vector<std::uint64_t> states;
  std::vector<KeyChain> chains;
  TierScene::Refs refs;

  Victim(TierShape const& wanted, std::uint64_t seed)
      : shape{wanted},
        scene{std::make_unique<TierScene>(shape)},
        prompt{prompt_of(seed, 3 * kChunk)} {
    states = causal_states(prompt, scene->space.opened.root.prefix64());
    chains.push_back(scene->chain(prompt));
  }
  void reserve(std::size_t chain = 0) {
    refs = scene->tier().reserve(scene->space, chains[chain],
                                 {.first_chunk = 0, .end_token = kNoLimit});
  }
  void store() {
    reserve();
    for (std::uint32_t lane = 0; lane < refs.size(); ++lane) {
      for (std::uint32_t i = 0; i < refs[lane].size(); ++i) {
        if (auto const slot = scene->tier().begin_write(refs[lane][i])) {
          scene->write(*slot, states, i * kChunk, lane);
          scene->tier().publish(refs[lane][i]);
        }
      }
    }
  }
};

struct Act {
  char const* name;
  std::function<Victim(TierShape const&, std::uint64_t seed)> prepare;
  std::function<void(Victim&)> run;
  // In a process of its own that is killed, when the victim is ready.
  std::function<void(TierShape const&)> before = {};
};

std::vector<Act> const kActs{
    {.name = "StoresAndEvicts",
     .prepare = [](auto const& shape, auto seed) { return Victim{shape, seed}; },
     .run = [](Victim& victim) { victim.store(); }},
    {.name = "TakesAnExtentForAnotherSize",
     .prepare =
         [](auto const& shape, auto seed) {
           Victim victim{shape, seed};
           for (std::uint64_t i = 0; i < 4; ++i) {
             victim.chains.push_back(victim.scene->chain(prompt_of(seed * 10 + i, 5)));
           }
           return victim;
         },
     .run =
         [](Victim& victim) {
           for (std::size_t i = 1; i < victim.chains.size(); ++i) victim.reserve(i);
         }},
    {.name = "Cancels",
     .prepare =
         [](auto const& shape, auto seed) {
           Victim victim{shape, seed};
           victim.reserve();
           return victim;
         },
     .run =
         [](Victim& victim) {
           for (auto const& lane : victim.refs) {
             for (auto const ref : lane) victim.scene->tier().cancel(ref);
           }
         }},
    {.name = "Clears",
     .prepare = [](auto const& shape, auto seed) { return Victim{shape, seed}; },
     .run = [](Victim& victim) { (void)clear_chunks(victim.scene->state(), std::nullopt); }},
    {.name = "LooksUpAndTouches",
     .prepare =
         [](auto const& shape, auto seed) {
           Victim victim{shape, seed};
           victim.store();
           victim.chains[0] =
               victim.scene->chain(branch_of(victim.prompt, 2 * kChunk + 20, seed, 4 * kChunk));
           return victim;
         },
     .run =
         [](Victim& victim) {
           auto& tier = victim.scene->tier();
           auto const found = tier.lookup(victim.scene->space, victim.chains[0], kNoLimit);
           tier.flush_touches();
           for (auto const& lane : found.lanes) tier.release(lane);
         }},
    {.name = "Leaves",
     .prepare =
         [](auto const& shape, auto seed) {
           Victim victim{shape, seed};
           victim.reserve();
           return victim;
         },
     .run = [](Victim& victim) { victim.scene->close(); }},
    {.name = "Joins",
     .prepare =
         [](auto const& shape, auto seed) {
           Victim victim{shape, seed};
           victim.scene.reset();
           return victim;
         },
     .run = [](Victim& victim) { victim.scene = std::make_unique<TierScene>(victim.shape); }},
    {.name = "ReapsAnother",
     .prepare = [](auto const& shape, auto seed) { return Victim{shape, seed}; },
     .run = [](Victim& victim) { victim.scene->tier().reap(); },
     .before =
         [](auto const& shape) {
           Victim other{shape, 123'456};
           other.store();
           (void)other.scene->tier().lookup(other.scene->space, other.chains[0], kNoLimit);
           other.prompt = prompt_of(654'321, 2 * kChunk);
           other.chains[0] = other.scene->chain(other.prompt);
           other.reserve();
           ::raise(SIGKILL);
         }},
    {.name = "Repairs",
     .prepare = [](auto const& shape, auto seed) { return Victim{shape, seed}; },
     .run = [](Victim& victim) { (void)victim.scene->state().lock_space(); },
     .before =
         [](auto const& shape) {
           Victim other{shape, 123'456};
           (void)other.scene->state().header.space_lock.lock(std::chrono::seconds{1});
           ::raise(SIGKILL);
         }},
};

class DeathAtAnyInstruction : public testing::TestWithParam<Act> {
 protected:
  DeathAtAnyInstruction() {
    shape_.chunk_tokens = kChunk;
    shape_.lanes = 2;
    shape_.token_bytes = 4096;
    shape_.options.name = "death";
    shape_.options.directory = folder_.path();
    shape_.options.capacity_bytes = 8u << 20;
  }

  std::unique_ptr<SteppedChild> start(std::uint64_t seed) {
    auto const& act = GetParam();
    return std::make_unique<SteppedChild>([&] { return act.prepare(shape_, seed); },
                                          [&](Victim& victim) { act.run(victim); });
  }

  // Of the survivor, after the death.
  void expect_all_is_well(TierScene& survivor, std::uint64_t seed) {
    auto const started = std::chrono::steady_clock::now();
    for (std::uint64_t other = 0; other < 4; ++other) survivor.hit(prompt_of(other, 3 * kChunk));
    survivor.hit(prompt_of(seed, 3 * kChunk));
    survivor.tier().reap();
    auto const mine = prompt_of(seed + 1'000'000, 2 * kChunk + 10);
    survivor.store(mine);
    // Its tail may find no room: an extent in which something is written at this moment is not
    // given up.
    EXPECT_GE(survivor.hit(mine), 2 * kChunk);
    EXPECT_LT(std::chrono::steady_clock::now() - started, std::chrono::seconds{5});
    EXPECT_EQ(survivor.state().processes.attached_count(), 1u);
    EXPECT_TRUE(segment_is_sound(survivor.state()));
    EXPECT_TRUE(nothing_is_held(survivor.state()));
  }

  ScratchFolder folder_;
  TierShape shape_;
};

TEST_P(DeathAtAnyInstruction, IsSurvived) {
  if (kStepsTooMany) GTEST_SKIP() << "single steps through ThreadSanitizer's code take minutes";
  TierScene survivor{shape_};
  for (std::uint64_t seed = 0; seed < 12; ++seed) survivor.store(prompt_of(seed, 3 * kChunk));
  std::mt19937_64 random{
      static_cast<std::uint64_t>(testing::UnitTest::GetInstance()->random_seed()) + 1};
  std::uint64_t longest = 0;
  auto const end = std::chrono::steady_clock::now() + kMostTime;
  for (int round = 0; round < kRounds && !HasFailure() && std::chrono::steady_clock::now() < end;
       ++round) {
    auto const child = start(100 + static_cast<std::uint64_t>(round));
    if (!child->is_traced()) GTEST_SKIP() << "this system lets no process trace another";
    if (GetParam().before) {
      ChildProcess other{[&] {
        GetParam().before(shape_);
        return 0;
      }};
      EXPECT_EQ(other.wait(), 256 + SIGKILL);
    }
    // The first one is let go to its end, so that we know how long that is.
    std::uint64_t const steps = round == 0 ? ~std::uint64_t{0} : random() % longest;
    std::uint64_t const done = child->step(steps);
    longest = std::max(longest, done);
    child->kill();
    SCOPED_TRACE("killed after " + std::to_string(done) + " of " + std::to_string(longest));
    EXPECT_TRUE(child->exit_status() <= 0) << "it ended by itself: " << child->exit_status();
    expect_all_is_well(survivor, 100 + static_cast<std::uint64_t>(round));
  }
  RecordProperty("instructions", std::to_string(longest));
}

INSTANTIATE_TEST_SUITE_P(AllActs, DeathAtAnyInstruction, testing::ValuesIn(kActs),
                         [](auto const& act) { return act.param.name; });

}  // namespace
}  // namespace lmcache::test
