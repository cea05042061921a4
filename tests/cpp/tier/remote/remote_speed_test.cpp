// SPDX-License-Identifier: Apache-2.0
// For how long a speed is believed that nobody reads at any more, because of that speed.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>

#include <lmcache/tier/remote/remote_tier.hpp>

#include "support/remote_scene.hpp"

namespace lmcache::test {
namespace {

using namespace std::chrono_literals;

// A microsecond passes whenever somebody looks, so that a read takes some time, and what a test
// lets pass.
class TickingClock final : public Clock {
 public:
  [[nodiscard]] std::int64_t monotonic_ns() const override { return ns_ += 1000; }
  [[nodiscard]] std::int64_t unix_seconds() const override { return 1'700'000'000; }
  void advance(std::chrono::nanoseconds by) { ns_ += by.count(); }

 private:
  mutable std::atomic<std::int64_t> ns_{0};
};

class RemoteSpeed : public testing::Test {
 protected:
  void SetUp() override {
    LMC_NEEDS_REDIS();
    server = std::make_unique<RedisServer>();
    auto const url = must(parse_redis_url(server->socket_url()));
    tier = must(RemoteTier::open({.connections = 1}, redis_transport(url, RemoteSerde::kMsgpack),
                                 clock, {}));
    ASSERT_TRUE(comes_to_be([&] { return tier->usable(); }));
    ASSERT_EQ(write_to(*tier, 1, make_record(1, kPayload)), TierOutcome::kDone);
    read();
  }
  void read() {
    auto slot = make_slot(1, 2 * kPayload);
    ASSERT_EQ(read_from(*tier, 1, slot), TierOutcome::kDone);
    ASSERT_GT(tier->read_bytes_per_s(), 0u);
  }
  [[nodiscard]] bool is_known() const { return tier->read_bytes_per_s() != 0; }

  static constexpr std::uint64_t kPayload = 5000;
  TickingClock clock;
  std::unique_ptr<RedisServer> server;
  std::unique_ptr<RemoteTier> tier;
};

TEST_F(RemoteSpeed, IsBelievedUntilSomebodyGoesWithout) {
  clock.advance(24h);
  EXPECT_TRUE(is_known());
  tier->doubt_speed();
  clock.advance(29s);
  EXPECT_TRUE(is_known());
  clock.advance(2s);
  EXPECT_FALSE(is_known()) << "the next read measures it anew";
}

TEST_F(RemoteSpeed, DoubtsOfManyDoNotProlongIt) {
  for (int i = 0; i < 4; ++i) {
    tier->doubt_speed();
    clock.advance(8s);
  }
  EXPECT_FALSE(is_known());
}

TEST_F(RemoteSpeed, WhatIsMeasuredAfterTheDoubtEndsIt) {
  tier->doubt_speed();
  read();
  clock.advance(24h);
  EXPECT_TRUE(is_known());
  // Reads that were given up may go on, and measure the same slowness again.
  tier->report_slow(1, 1'000'000'000);
  EXPECT_EQ(tier->read_bytes_per_s(), 1u);
  read();
  clock.advance(24h);
  EXPECT_TRUE(is_known());
  tier->doubt_speed();
  clock.advance(31s);
  EXPECT_FALSE(is_known());
}

}  // namespace
}  // namespace lmcache::test
