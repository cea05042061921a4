// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/remote/remote_tier.hpp>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "support/log_lines.hpp"
#include "support/remote_scene.hpp"

namespace lmcache::test {
namespace {

using namespace std::chrono_literals;

SystemClock const kClock;
constexpr std::uint64_t kPayload = 5000;
constexpr std::uint64_t kSlot = 8192;

class RemoteTierOfAServer : public testing::Test {
 protected:
  void SetUp() override {
    LMC_NEEDS_REDIS();
    server = std::make_unique<RedisServer>();
    raw = std::make_unique<RawRedis>(*server);
    tier = open({});
    ASSERT_TRUE(comes_to_be([&] { return tier->usable(); }));
  }
  [[nodiscard]] std::unique_ptr<RemoteTier> open(RemoteOptions options, std::string url = {}) {
    auto const parsed = must(parse_redis_url(url.empty() ? server->socket_url() : url));
    options.name = parsed.text();
    return must(RemoteTier::open(std::move(options), redis_transport(parsed, RemoteSerde::kMsgpack),
                                 kClock, log.hook()));
  }

  std::unique_ptr<RedisServer> server;
  std::unique_ptr<RawRedis> raw;
  LogLines log;
  std::unique_ptr<RemoteTier> tier;
};

TEST_F(RemoteTierOfAServer, FindsAndReadsWhatItWrote) {
  auto const record = make_record(1, kPayload);
  EXPECT_EQ(known_of(*tier, 1), std::nullopt);
  EXPECT_EQ(write_to(*tier, 1, record), TierOutcome::kDone);
  EXPECT_EQ(known_of(*tier, 1), record.size()) << "without asking";
  ASSERT_TRUE(ask_of(*tier, {numbered_key(1), numbered_key(2)}));
  EXPECT_EQ(known_of(*tier, 1), record.size());
  EXPECT_EQ(known_of(*tier, 2), 0u);
  EXPECT_EQ(known_of(*tier, 3), std::nullopt);
  auto slot = make_slot(1, kSlot);
  EXPECT_EQ(read_from(*tier, 1, slot), TierOutcome::kDone);
  EXPECT_TRUE(begins_with(slot, as_it_arrives(record)));
  auto const status = tier->status();
  EXPECT_TRUE(status.connected);
  EXPECT_EQ(status.failures, 0u);
  EXPECT_EQ(status.last_error, "");
  EXPECT_GT(status.lookup_ns, 0u);
  EXPECT_TRUE(tier->drain(kLongTime));
}

TEST_F(RemoteTierOfAServer, ManyAtOnceAreAllAnswered) {
  constexpr std::size_t kCount = 200;
  std::vector<RecordBytes> records;
  std::vector<RecordBytes> slots;
  Answers written{kCount};
  for (std::size_t i = 0; i < kCount; ++i) records.push_back(make_record(i, 100 + 37 * i));
  for (std::size_t i = 0; i < kCount; ++i) {
    tier->write(put_of(i, records[i]), [&written, i](auto outcome) { written.set(i, outcome); });
    slots.push_back(make_slot(i, records[i].size()));
  }
  ASSERT_TRUE(written.wait());
  EXPECT_EQ(written.count(TierOutcome::kDone), kCount);
  Answers read{kCount};
  std::vector<RemoteGet> gets;
  std::vector<std::uint64_t> sizes;
  for (std::size_t i = 0; i < kCount; ++i) {
    gets.push_back(get_of(i, slots[i]));
    sizes.push_back(records[i].size());
  }
  tier->read(gets, sizes, [&](auto item, auto outcome) { read.set(item, outcome); });
  ASSERT_TRUE(read.wait());
  EXPECT_EQ(read.count(TierOutcome::kDone), kCount);
  for (std::size_t i = 0; i < kCount; ++i) {
    EXPECT_TRUE(begins_with(slots[i], as_it_arrives(records[i]))) << i;
  }
  EXPECT_TRUE(tier->drain(kLongTime));
  EXPECT_EQ(tier->queued_read_bytes(), 0u);
}

TEST_F(RemoteTierOfAServer, WhatAnotherTierWroteIsNotWrittenAgain) {
  auto const other = open({});
  ASSERT_TRUE(comes_to_be([&] { return other->usable(); }));
  auto const record = make_record(1, kPayload);
  ASSERT_EQ(write_to(*other, 1, record), TierOutcome::kDone);
  EXPECT_EQ(write_to(*tier, 1, record), TierOutcome::kDuplicate);
  EXPECT_EQ(known_of(*tier, 1), record.size());
  EXPECT_EQ(known_of(*other, 2), std::nullopt);
}

TEST_F(RemoteTierOfAServer, WhatIsGoneOrDamagedIsNotBelievedAnyLonger) {
  auto const record = make_record(1, kPayload);
  ASSERT_EQ(write_to(*tier, 1, record), TierOutcome::kDone);
  auto value = raw->get(1);
  value.back() = static_cast<char>(value.back() ^ 1);
  raw->set(1, value);
  auto slot = make_slot(1, kSlot);
  EXPECT_EQ(read_from(*tier, 1, slot), TierOutcome::kCorrupt);
  EXPECT_EQ(known_of(*tier, 1), 0u);
  EXPECT_EQ(raw->get(1), "") << "or nobody would write it again";
  ASSERT_EQ(write_to(*tier, 1, record), TierOutcome::kDone);
  raw->call({"FLUSHALL"});
  slot = make_slot(1, kSlot);
  EXPECT_EQ(read_from(*tier, 1, slot), TierOutcome::kMissing);
  EXPECT_EQ(known_of(*tier, 1), 0u);
  EXPECT_EQ(tier->status().failures, 0u);
}

TEST_F(RemoteTierOfAServer, WhatLacksAPartIsWrittenAgainByAnybody) {
  constexpr std::uint64_t kLarge = kRemotePartBytes + 1000;
  auto const record = make_record(1, kLarge);
  ASSERT_EQ(write_to(*tier, 1, record), TierOutcome::kDone);
  auto const second = redis_key(numbered_key(1)).append(":1");
  raw->call({"DEL", second});
  auto slot = make_slot(1, kLarge + 4096);
  EXPECT_EQ(read_from(*tier, 1, slot), TierOutcome::kMissing);
  auto const other = open({});
  ASSERT_TRUE(comes_to_be([&] { return other->usable(); }));
  EXPECT_EQ(write_to(*other, 1, record), TierOutcome::kDone);
  EXPECT_EQ(raw->call({"EXISTS", second}).integer, 1);
}

TEST_F(RemoteTierOfAServer, ItsKeysExpireWhenTold) {
  auto const short_lived = open({.ttl_seconds = 500});
  ASSERT_TRUE(comes_to_be([&] { return short_lived->usable(); }));
  ASSERT_EQ(write_to(*short_lived, 1, make_record(1, kPayload)), TierOutcome::kDone);
  auto const ttl = raw->call({"TTL", redis_key(numbered_key(1))}).integer;
  EXPECT_TRUE(ttl > 400 && ttl <= 500) << ttl;
}

TEST_F(RemoteTierOfAServer, WhileTheServerIsGoneEverythingIsAnsweredAtOnce) {
  auto const record = make_record(1, kPayload);
  ASSERT_EQ(write_to(*tier, 1, record), TierOutcome::kDone);
  server->kill();
  auto slot = make_slot(1, kSlot);
  EXPECT_NE(read_from(*tier, 1, slot), TierOutcome::kDone);
  EXPECT_TRUE(comes_to_be([&] { return !tier->usable(); }));
  // Within the call itself from now on.
  bool answered = false;
  tier->ask({numbered_key(1)}, [&] { answered = true; });
  EXPECT_TRUE(answered);
  EXPECT_EQ(known_of(*tier, 1), 0u) << "nothing is there while it is left alone";
  TierOutcome outcome = TierOutcome::kDone;
  tier->write(put_of(1, record), [&](TierOutcome it) { outcome = it; });
  EXPECT_EQ(outcome, TierOutcome::kClosed);
  std::uint64_t const size = slot.size();
  outcome = TierOutcome::kDone;
  tier->read({get_of(1, slot)}, {&size, 1}, [&](auto, TierOutcome it) { outcome = it; });
  EXPECT_EQ(outcome, TierOutcome::kClosed);
  EXPECT_TRUE(tier->drain(kLongTime));
  EXPECT_GE(tier->status().failures, 1u);
  EXPECT_FALSE(tier->status().last_error.empty());
  EXPECT_EQ(log.count("going on without it until it answers"), 1u);
}

TEST_F(RemoteTierOfAServer, ComesBackByItself) {
  auto const record = make_record(1, kPayload);
  ASSERT_EQ(write_to(*tier, 1, record), TierOutcome::kDone);
  server->kill();
  auto slot = make_slot(1, kSlot);
  ASSERT_NE(read_from(*tier, 1, slot), TierOutcome::kDone);
  server->restart();
  ASSERT_TRUE(comes_to_be([&] { return tier->usable(); }));
  EXPECT_EQ(known_of(*tier, 1), std::nullopt) << "what it said before may be wrong by now";
  ASSERT_TRUE(ask_of(*tier, {numbered_key(1)}));
  EXPECT_EQ(known_of(*tier, 1), 0u);
  EXPECT_EQ(write_to(*tier, 1, record), TierOutcome::kDone);
  slot = make_slot(1, kSlot);
  EXPECT_EQ(read_from(*tier, 1, slot), TierOutcome::kDone);
  EXPECT_EQ(log.count(": connected"), 2u);
}

// Connections that were idle meanwhile are replaced, and nobody hears of it.
TEST_F(RemoteTierOfAServer, AConnectionThatTheServerClosedIsReplacedWithoutAWord) {
  auto const record = make_record(1, kPayload);
  ASSERT_EQ(write_to(*tier, 1, record), TierOutcome::kDone);
  for (int i = 0; i < 5; ++i) {
    raw->call({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"});
    auto slot = make_slot(1, kSlot);
    ASSERT_EQ(read_from(*tier, 1, slot), TierOutcome::kDone);
    ASSERT_TRUE(ask_of(*tier, {numbered_key(1)}));
    ASSERT_EQ(known_of(*tier, 1), record.size());
  }
  EXPECT_EQ(tier->status().failures, 0u);
}

TEST_F(RemoteTierOfAServer, AServerThatHangsHoldsNobodyUp) {
  ASSERT_EQ(write_to(*tier, 1, make_record(1, kPayload)), TierOutcome::kDone);
  server->pause();
  auto const started = Deadline::clock::now();
  EXPECT_TRUE(ask_of(*tier, {numbered_key(9)}));
  EXPECT_LT(Deadline::clock::now() - started, 5s) << "200 ms are allowed";
  EXPECT_TRUE(comes_to_be([&] { return !tier->usable(); }));
  auto slot = make_slot(1, kSlot);
  EXPECT_EQ(read_from(*tier, 1, slot), TierOutcome::kClosed);
  server->resume();
  ASSERT_TRUE(comes_to_be([&] { return tier->usable(); }));
  EXPECT_EQ(read_from(*tier, 1, slot), TierOutcome::kDone);
}

TEST_F(RemoteTierOfAServer, ClosingAnswersWhatIsUnderWay) {
  constexpr std::size_t kCount = 300;
  auto const record = make_record(1, kPayload);
  std::vector<RecordBytes> slots;
  for (std::size_t i = 0; i < kCount; ++i) slots.push_back(make_slot(i, kSlot));
  for (bool const hangs : {false, true}) {
    Answers reads{kCount};
    Answers writes{kCount};
    Answers asks{kCount};
    auto closing = open({});
    ASSERT_TRUE(comes_to_be([&] { return closing->usable(); }));
    if (hangs) server->pause();
    std::uint64_t const size = kSlot;
    for (std::size_t i = 0; i < kCount; ++i) {
      closing->read({get_of(i, slots[i])}, {&size, 1},
                    [&reads, i](auto, auto outcome) { reads.set(i, outcome); });
      closing->write(put_of(i, record), [&writes, i](auto outcome) { writes.set(i, outcome); });
      closing->ask({numbered_key(i)}, [&asks, i] { asks.set(i, TierOutcome::kDone); });
    }
    auto const started = Deadline::clock::now();
    closing.reset();
    EXPECT_LT(Deadline::clock::now() - started, 5s);
    EXPECT_EQ(reads.answered(), kCount);
    EXPECT_EQ(writes.answered(), kCount);
    EXPECT_EQ(asks.answered(), kCount);
  }
  server->resume();
}

TEST_F(RemoteTierOfAServer, AReportOfSlownessIsBelieved) {
  EXPECT_EQ(tier->read_bytes_per_s(), 0u);
  tier->report_slow(1000, 1'000'000'000);
  EXPECT_EQ(tier->read_bytes_per_s(), 1000u);
  tier->report_slow(5000, 1'000'000'000);
  EXPECT_EQ(tier->read_bytes_per_s(), 1000u) << "the worst counts";
  tier->report_slow(0, 0);
  EXPECT_EQ(tier->read_bytes_per_s(), 1u);
}

// Of a server that stopped after it let us in: nothing is answered until the deadline.
class StuckTransport final : public Transport {
 public:
  explicit StuckTransport(std::atomic<int>& reading) : reading_{reading} {}
  Result<void> ping(Deadline) override { return {}; }
  Result<std::vector<std::uint64_t>> sizes(std::span<ChunkKey const>, Deadline deadline) override {
    return wait(deadline);
  }
  Result<void> get_into(std::span<RemoteGet const>, Deadline deadline, Done const&) override {
    ++reading_;
    return wait(deadline);
  }
  Result<void> put(std::span<RemotePut const>, Deadline deadline, Done const&) override {
    return wait(deadline);
  }
  Result<std::uint64_t> remove(std::span<ChunkKey const>, Deadline) override { return 0u; }
  Result<void> discard(std::span<ChunkKey const>, std::span<std::uint64_t const>,
                       Deadline) override {
    return {};
  }
  Result<std::uint64_t> clear(Deadline) override { return 0u; }
  Result<RemoteDescription> describe(Deadline) override { return RemoteDescription{}; }
  void shut() noexcept override {
    std::lock_guard const lock{mutex_};
    shut_ = true;
    changed_.notify_all();
  }

 private:
  Error wait(Deadline deadline) {
    std::unique_lock lock{mutex_};
    bool const shut = changed_.wait_until(lock, deadline, [this] { return shut_; });
    return Error{shut ? ErrorCode::kUnavailable : ErrorCode::kTimeout, "stuck"};
  }

  std::atomic<int>& reading_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool shut_ = false;
};

// A look-up has its own deadline, however long what the connections are busy with may take.
TEST(RemoteTierThatIsStuck, AskingDoesNotWaitForReads) {
  for (std::uint32_t const connections : {1u, 4u}) {
    std::atomic<int> reading{0};
    auto const connect = [&](Deadline) -> Result<std::unique_ptr<Transport>> {
      return std::unique_ptr<Transport>{std::make_unique<StuckTransport>(reading)};
    };
    constexpr std::size_t kCount = 64;
    std::vector<RecordBytes> slots;
    std::vector<RemoteGet> gets;
    for (std::size_t i = 0; i < kCount; ++i) slots.push_back(make_slot(i, 1024));
    for (std::size_t i = 0; i < kCount; ++i) gets.push_back(get_of(i, slots[i]));
    Answers read{kCount};
    auto tier = must(RemoteTier::open({.connections = connections, .transfer_deadline = 600'000ms},
                                      connect, kClock, {}));
    ASSERT_TRUE(comes_to_be([&] { return tier->usable(); }));
    tier->read(gets, std::vector<std::uint64_t>(kCount, 1024),
               [&](auto item, auto outcome) { read.set(item, outcome); });
    ASSERT_TRUE(comes_to_be([&] { return reading.load() >= 1; }));
    std::this_thread::sleep_for(50ms);  // for the others to take theirs, if they do
    auto const started = Deadline::clock::now();
    EXPECT_TRUE(ask_of(*tier, {numbered_key(1)}));
    EXPECT_LT(Deadline::clock::now() - started, 20s) << connections << " connections";
    EXPECT_TRUE(comes_to_be([&] { return read.count(TierOutcome::kClosed) >= kCount - 32; }))
        << "what had not begun is answered when the server is given up";
    tier.reset();
    EXPECT_EQ(read.answered(), kCount);
  }
}

TEST(RemoteTierWithoutAServer, OpensAndIsLeftAlone) {
  LMC_NEEDS_REDIS();
  RedisServer server;
  auto const url = must(parse_redis_url(server.url()));
  server.kill();
  LogLines log;
  auto const tier = must(RemoteTier::open(
      {.name = url.text()}, redis_transport(url, RemoteSerde::kNaive), kClock, log.hook()));
  EXPECT_FALSE(tier->usable());
  ASSERT_TRUE(comes_to_be([&] { return tier->status().failures >= 2; }));
  EXPECT_EQ(log.lines().size(), 1u) << "told once";
  EXPECT_EQ(known_of(*tier, 1), 0u);
  EXPECT_EQ(write_to(*tier, 1, make_record(1, 10)), TierOutcome::kClosed);
  server.restart();
  EXPECT_TRUE(comes_to_be([&] { return tier->usable(); }));
}

TEST(RemoteTierWithoutAServer, AWrongPasswordIsToldOnceAndNeverShown) {
  LMC_NEEDS_REDIS();
  RedisServer const server{{"--requirepass", "right"}};
  auto const url =
      must(parse_redis_url("redis://:hush-hush@127.0.0.1:" + std::to_string(server.port())));
  LogLines log;
  auto const tier = must(RemoteTier::open(
      {.name = url.text()}, redis_transport(url, RemoteSerde::kNaive), kClock, log.hook()));
  ASSERT_TRUE(comes_to_be([&] { return tier->status().failures >= 3; }));
  ASSERT_EQ(log.lines().size(), 1u);
  EXPECT_NE(log.lines()[0].find("WRONGPASS"), std::string::npos) << log.lines()[0];
  EXPECT_EQ(log.count("hush-hush"), 0u);
  EXPECT_EQ(tier->status().last_error.find("hush-hush"), std::string::npos);
  EXPECT_FALSE(tier->usable());
}

}  // namespace
}  // namespace lmcache::test
