// SPDX-License-Identifier: Apache-2.0
// What a server costs that goes and comes back a thousand times: nothing.
#include <gtest/gtest.h>
#include <malloc.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>

#include <lmcache/tier/remote/remote_tier.hpp>

#include "support/cutting_proxy.hpp"
#include "support/hasty_clock.hpp"
#include "support/remote_scene.hpp"

namespace lmcache::test {
namespace {

using Direction = CuttingProxy::Direction;

constexpr std::uint64_t kPayload = 100'000;  // more than the reader's buffer holds

struct Taken {
  std::uint64_t heap_bytes = 0;
  std::uint64_t resident_bytes = 0;
  std::int64_t files = 0;
};

Taken taken() {
  std::uint64_t total = 0;
  std::uint64_t resident = 0;
  std::ifstream{"/proc/self/statm"} >> total >> resident;
  return {.heap_bytes = ::mallinfo2().uordblks,
          .resident_bytes = resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)),
          .files = std::distance(std::filesystem::directory_iterator{"/proc/self/fd"},
                                 std::filesystem::directory_iterator{})};
}

TEST(RemoteMemory, AThousandFailuresAndReconnectsCostNone) {
  LMC_NEEDS_REDIS();
  RedisServer const server;
  RawRedis raw{server};
  CuttingProxy proxy{server.socket_path()};
  HastyClock const clock;
  auto const tier = must(RemoteTier::open(
      {.connections = 2},
      redis_transport(must(parse_redis_url(proxy.url())), RemoteSerde::kMsgpack), clock, {}));
  auto const record = make_record(1, kPayload);
  auto slot = make_slot(1, kPayload + 4096);
  auto const fresh = slot_header(numbered_key(1), usual_geometry());
  std::uint64_t read = 0;
  auto const go_and_come_back = [&](std::uint64_t times) {
    for (std::uint64_t i = 0; i < times; ++i) {
      ASSERT_TRUE(comes_to_be([&] { return tier->usable(); }));
      raw.call({"FLUSHALL"});
      std::memcpy(slot.data(), &fresh, sizeof fresh);
      // Now and then in the middle of a value.
      if (i % 2 == 0) proxy.cut_after(Direction::kToClient, 20'000);
      auto const failures = tier->status().failures;
      auto const wrote = write_to(*tier, 1, record);
      auto const got = read_from(*tier, 1, slot);
      read += wrote == TierOutcome::kDone && got == TierOutcome::kDone ? 1u : 0u;
      proxy.cut_after(Direction::kToClient, 1);
      raw.call({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"});
      // Somebody must want something to notice it.
      while (tier->status().failures == failures) (void)ask_of(*tier, {numbered_key(i)});
      proxy.cut_after(Direction::kToClient, CuttingProxy::kNever);
    }
  };
  go_and_come_back(200);
  auto const before = taken();
  auto const failures = tier->status().failures;
  read = 0;
  go_and_come_back(1000);
  EXPECT_GE(tier->status().failures, failures + 1000);
  EXPECT_GT(read, 200u) << "it comes back in between";
  ASSERT_TRUE(comes_to_be([&] { return tier->usable(); }));
  auto const after = taken();
  EXPECT_LE(after.heap_bytes, before.heap_bytes + (256u << 10)) << "an attempt may be under way";
  EXPECT_LE(after.files, before.files + 8);
// Sanitizers keep what was freed, to see who uses it.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LE(after.resident_bytes, before.resident_bytes + (4u << 20));
#endif
  RecordProperty("resident_growth_bytes",
                 std::to_string(static_cast<std::int64_t>(after.resident_bytes) -
                                static_cast<std::int64_t>(before.resident_bytes)));
}

}  // namespace
}  // namespace lmcache::test
