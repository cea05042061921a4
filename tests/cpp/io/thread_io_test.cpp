// SPDX-License-Identifier: Apache-2.0
#include <lmcache/io/thread_io.hpp>

#include <latch>

#include "io_failure_conformance.hpp"

namespace lmcache::test {
namespace {

struct Threads {
  static std::string refusal() { return {}; }
  static std::unique_ptr<AsyncFileIo> make(EngineSetup setup) {
    return must(ThreadIo::create({.depth_bytes = setup.depth_bytes,
                                  .piece_bytes = setup.piece_bytes,
                                  .threads = 8,
                                  .on_result = std::move(setup.on_result)}));
  }
};
INSTANTIATE_TYPED_TEST_SUITE_P(ThreadIo, IoConformance, Threads);
INSTANTIATE_TYPED_TEST_SUITE_P(ThreadIo, IoFailureConformance, Threads);

TEST(ThreadIo, RefusesSenselessOptions) {
  EXPECT_EQ(ThreadIo::create({.depth_bytes = 0}).error().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(ThreadIo::create({.threads = 0}).error().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(ThreadIo::create({.threads = 257}).error().code(), ErrorCode::kInvalidArgument);
}

TEST(ThreadIo, SaysWhatItIs) {
  auto const io = must(ThreadIo::create({.depth_bytes = 5 * kMiB}));
  io->register_memory(nullptr, 0);  // no effect
  EXPECT_EQ(io->traits().name, "threads");
  EXPECT_EQ(io->traits().depth_bytes, 5 * kMiB);
  EXPECT_FALSE(io->traits().registered_files);
  EXPECT_FALSE(io->traits().registered_buffers);
}

// One thread that is held up in `done` must not hold up the others.
TEST(ThreadIo, SlowCallbackHoldsUpNobody) {
  DiskFolder const folder;
  auto const file = must(open_io_file(folder / "slow", {.caching = IoCaching::kBuffered}));
  // The first takes all the depth, so that the second waits, and its thread sleeps.
  std::atomic<bool> first{true};
  auto const io = must(ThreadIo::create(
      {.depth_bytes = 4096, .threads = 2, .on_result = [&](IoRequest const&, std::int64_t result) {
         if (first.exchange(false)) std::this_thread::sleep_for(std::chrono::milliseconds{10});
         return result;
       }}));
  IoFile const number = must(io->add_file(file.fd.get()));
  PageMemory const memory{4096};
  IoRequest const write{
      .op = IoOp::kWrite, .file = number, .data = memory.data(), .size_bytes = memory.size_bytes()};
  std::atomic<bool> go{false};
  Answers held{1};
  Answers second{1};
  io->submit({write}, [&](std::uint32_t request, IoAnswer answer) {
    go.wait(false);
    held.callback()(request, answer);
  });
  io->submit({write}, second.callback());
  second.wait();
  EXPECT_EQ(second.error(0), 0);
  EXPECT_EQ(held.count(), 0U);
  go = true;
  go.notify_all();
  held.wait();
}

TEST(ThreadIo, RequestsOfOneBatchGoSideBySide) {
  DiskFolder const folder;
  auto const file = must(open_io_file(folder / "both", {.caching = IoCaching::kBuffered}));
  std::latch both{2};
  auto const io =
      must(ThreadIo::create({.threads = 2, .on_result = [&](IoRequest const&, std::int64_t result) {
                               both.arrive_and_wait();
                               return result;
                             }}));
  IoFile const number = must(io->add_file(file.fd.get()));
  // For both threads to fall asleep, of which the batch wakes one; that one has to wake the other.
  std::this_thread::sleep_for(std::chrono::milliseconds{10});
  EXPECT_EQ(run(*io, std::vector<IoRequest>(2, {.op = IoOp::kSync, .file = number})),
            (std::vector{0, 0}));
}

}  // namespace
}  // namespace lmcache::test
