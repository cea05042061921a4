// SPDX-License-Identifier: Apache-2.0
#include <lmcache/io/throttled_io.hpp>

#include <chrono>

#include <lmcache/io/thread_io.hpp>

#include "io_failure_conformance.hpp"

namespace lmcache::test {
namespace {

std::unique_ptr<AsyncFileIo> make_threads(EngineSetup setup, std::uint32_t threads) {
  return must(ThreadIo::create({.depth_bytes = setup.depth_bytes,
                                .piece_bytes = setup.piece_bytes,
                                .threads = threads,
                                .on_result = std::move(setup.on_result)}));
}

// So fast that it limits nothing.
struct Throttled {
  static std::string refusal() { return {}; }
  static std::unique_ptr<AsyncFileIo> make(EngineSetup setup) {
    return must(
        ThrottledIo::create(make_threads(std::move(setup), 8), {.bytes_per_second = 1ULL << 40}));
  }
};
INSTANTIATE_TYPED_TEST_SUITE_P(ThrottledIo, IoConformance, Throttled);
INSTANTIATE_TYPED_TEST_SUITE_P(ThrottledIo, IoFailureConformance, Throttled);

TEST(TokenBucket, LetsABurstGoAndThenTheRate) {
  detail::TokenBucket bucket{1'000'000'000, 100};  // a byte per ns
  std::int64_t const start = 5000;
  EXPECT_EQ(bucket.take(60, start), start);
  EXPECT_EQ(bucket.take(40, start), start);
  EXPECT_EQ(bucket.take(10, start), start + 10);  // the bucket was empty
  EXPECT_EQ(bucket.take(10, start), start + 20);
  EXPECT_EQ(bucket.take(0, start), start + 20);             // in its turn
  EXPECT_EQ(bucket.take(10, start + 30), start + 30);       // 10 bytes were there again
  EXPECT_EQ(bucket.take(100, start + 1000), start + 1000);  // full again, not fuller
  EXPECT_EQ(bucket.take(1, start + 1000), start + 1001);
}

TEST(TokenBucket, LargeOneGoesWhenTheBucketIsFullAndIsOwedFor) {
  detail::TokenBucket bucket{1'000'000'000, 100};
  EXPECT_EQ(bucket.take(1000, 0), 0);
  EXPECT_EQ(bucket.take(1, 0), 901);
  EXPECT_EQ(bucket.take(1000, 0), 1001);
}

TEST(TokenBucket, TimesNeverFall) {
  detail::TokenBucket bucket{3'000'000, 5000};
  std::mt19937_64 random{1};
  std::int64_t now = 0;
  std::int64_t last = 0;
  for (int i = 0; i < 10000; ++i) {
    now += static_cast<std::int64_t>(random() % 3'000'000);
    std::int64_t const due = bucket.take(random() % 20000, now);
    ASSERT_GE(due, last);
    ASSERT_GE(due, now);
    last = due;
  }
}

TEST(ThrottledIo, RefusesToStandStill) {
  EXPECT_EQ(ThrottledIo::create(make_threads({}, 1), {}).error().code(),
            ErrorCode::kInvalidArgument);
}

TEST(ThrottledIo, IsWhatItWraps) {
  auto const io = must(ThrottledIo::create(make_threads({}, 1), {.bytes_per_second = 1}));
  EXPECT_EQ(io->traits().name, "threads");
  EXPECT_EQ(io->traits().depth_bytes, EngineSetup{}.depth_bytes);
}

// Only the lower bound is certain: how late a thread wakes up is the machine's affair.
TEST(ThrottledIo, TakesTheTimeThatTheRateAsks) {
  DiskFolder const folder;
  auto const file = must(open_io_file(folder / "file", {.caching = IoCaching::kBuffered}));
  auto const io = must(ThrottledIo::create(
      make_threads({}, 1), {.bytes_per_second = 10 * kMiB, .burst_bytes = 64 * kKiB}));
  IoFile const number = must(io->add_file(file.fd.get()));
  PageMemory const memory{64 * kKiB};
  std::vector<IoRequest> const batch(9, {.op = IoOp::kWrite,
                                         .file = number,
                                         .data = memory.data(),
                                         .size_bytes = memory.size_bytes()});
  auto const before = std::chrono::steady_clock::now();
  EXPECT_EQ(run(*io, batch), std::vector<int>(9, 0));
  auto const taken = std::chrono::steady_clock::now() - before;
  EXPECT_GE(taken, std::chrono::milliseconds{50});  // 8 x 64 KiB at 10 MiB/s; the first is free
}

TEST(ThrottledIo, KeepsTheOrder) {
  DiskFolder const folder;
  auto const file = must(open_io_file(folder / "file", {.caching = IoCaching::kBuffered}));
  auto const io = must(ThrottledIo::create(make_threads({}, 1),
                                           {.bytes_per_second = 100 * kMiB, .burst_bytes = 4096}));
  IoFile const number = must(io->add_file(file.fd.get()));
  PageMemory const memory{8192};
  std::mutex mutex;
  std::vector<std::uint32_t> order;
  std::vector<IoRequest> batch;
  for (std::uint64_t i = 0; i < 40; ++i) {
    batch.push_back({.op = i % 5 == 4 ? IoOp::kSync : IoOp::kWrite,
                     .file = number,
                     .data = memory.data(),
                     .size_bytes = 1 + i * 200});
  }
  Answers answers{batch.size()};
  io->submit(batch, [&](std::uint32_t request, IoAnswer answer) {
    {
      std::lock_guard const lock{mutex};
      order.push_back(request);
    }
    answers.callback()(request, answer);
  });
  answers.wait();
  answers.expect_all_ok();
  EXPECT_TRUE(std::ranges::is_sorted(order));  // the one thread behind it keeps it
}

TEST(ThrottledIo, WhatIsNotDueIsCancelledAtTheEnd) {
  DiskFolder const folder;
  auto const file = must(open_io_file(folder / "file", {.caching = IoCaching::kBuffered}));
  auto io =
      must(ThrottledIo::create(make_threads({}, 1), {.bytes_per_second = 1, .burst_bytes = 4096}));
  IoFile const number = must(io->add_file(file.fd.get()));
  PageMemory const memory{4096};
  std::vector<IoRequest> const batch(
      3, {.op = IoOp::kWrite, .file = number, .data = memory.data(), .size_bytes = 4096});
  Answers answers{3};
  io->submit(batch, answers.callback());
  answers.wait_for(1);
  EXPECT_EQ(answers.error(0), 0);
  EXPECT_GE(io->open_requests(), 2U);
  io.reset();
  EXPECT_EQ(answers.error(1), ECANCELED);
  EXPECT_EQ(answers.error(2), ECANCELED);
}

}  // namespace
}  // namespace lmcache::test
