// SPDX-License-Identifier: Apache-2.0
#include <lmcache/io/thread_io.hpp>

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
  auto const io = must(ThreadIo::create({.piece_bytes = 4096, .threads = 2}));
  IoFile const number = must(io->add_file(file.fd.get()));
  PageMemory const memory{64 * kKiB};
  std::atomic<bool> go{false};
  Answers held{1};
  io->submit({{.op = IoOp::kSync, .file = number}}, [&](std::uint32_t request, IoAnswer answer) {
    go.wait(false);
    held.callback()(request, answer);
  });
  auto const errors = run(*io, {{.op = IoOp::kWrite,
                                 .file = number,
                                 .data = memory.data(),
                                 .size_bytes = memory.size_bytes()}});
  EXPECT_EQ(errors.front(), 0);
  EXPECT_EQ(held.count(), 0U);
  go = true;
  go.notify_all();
  held.wait();
}

}  // namespace
}  // namespace lmcache::test
