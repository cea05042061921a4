// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/prefill_speed.hpp>

#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "support/must.hpp"
#include "support/temp_directory.hpp"

namespace lmcache::test {
namespace {

SystemClock const kClock;

class PrefillSpeed : public testing::Test {
 protected:
  [[nodiscard]] std::unique_ptr<DramTier> open(std::string const& instance) {
    return must(DramTier::open({.name = "prefill",
                                .directory = folder.path(),
                                .capacity_bytes = 4u << 20,
                                .instance_id = instance},
                               kClock, {}));
  }
  static void computed(DramTier& tier, std::uint64_t tokens, std::uint64_t elapsed_ns) {
    count(tier.counters().prefill_tokens, tokens);
    count(tier.counters().prefill_ns, elapsed_ns);
  }

  TempDirectory folder;
};

TEST_F(PrefillSpeed, IsNotKnownBeforeItWasMeasured) { EXPECT_EQ(measured_prefill(*open("a")), 0u); }

TEST_F(PrefillSpeed, IsInPicosecondsPerToken) {
  auto const tier = open("a");
  computed(*tier, 1000, 2'000'000);
  EXPECT_EQ(measured_prefill(*tier), 2'000'000u);
  computed(*tier, 3000, 2'000'000);
  EXPECT_EQ(measured_prefill(*tier), 1'000'000u);
  computed(*tier, 0, 0);
  EXPECT_EQ(measured_prefill(*tier), 1'000'000u);
}

TEST_F(PrefillSpeed, IsThatOfAllProcessesOfOurInstance) {
  auto const scheduler = open("a");
  auto const worker = open("a");
  auto const other = open("b");
  computed(*worker, 1000, 5'000'000);
  computed(*other, 1000, 1'000);
  EXPECT_EQ(measured_prefill(*scheduler), 5'000'000u);
  EXPECT_EQ(measured_prefill(*worker), 5'000'000u);
  EXPECT_EQ(measured_prefill(*other), 1'000u);
}

TEST_F(PrefillSpeed, WhoHasNoInstanceHasOnlyItsOwn) {
  auto const one = open("");
  auto const two = open("");
  computed(*one, 1000, 5'000'000);
  EXPECT_EQ(measured_prefill(*one), 5'000'000u);
  EXPECT_EQ(measured_prefill(*two), 0u);
}

TEST_F(PrefillSpeed, WhoLeftNoLongerCounts) {
  auto const one = open("a");
  {
    auto const two = open("a");
    computed(*two, 1000, 5'000'000);
    ASSERT_EQ(measured_prefill(*one), 5'000'000u);
  }
  EXPECT_EQ(measured_prefill(*one), 0u);
}

}  // namespace
}  // namespace lmcache::test
