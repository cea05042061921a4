// SPDX-License-Identifier: Apache-2.0
#include <lmcache/io/uring_io.hpp>

#include <fcntl.h>
#include <poll.h>

#include <lmcache/io/io_engine.hpp>

#include "io_failure_conformance.hpp"
#include "support/faulty_io.hpp"

namespace lmcache::test {
namespace {

// Rings that tests closed count against RLIMIT_MEMLOCK for some milliseconds more.
std::unique_ptr<AsyncFileIo> make_soon(UringOptions const& options) {
  for (int tries = 0;; ++tries) {
    auto made = UringIo::create(options);
    if (tries == 100 || made || made.error().os_error() != ENOMEM) return must(std::move(made));
    std::this_thread::sleep_for(std::chrono::milliseconds{10});
  }
}

std::unique_ptr<AsyncFileIo> make_engine(EngineSetup setup, bool registers) {
  return make_soon({.depth_bytes = setup.depth_bytes,
                    .piece_bytes = setup.piece_bytes,
                    .register_files = registers,
                    .register_memory = registers,
                    .on_result = std::move(setup.on_result)});
}

struct Uring {
  static std::string refusal() { return uring_refusal(); }
  static std::unique_ptr<AsyncFileIo> make(EngineSetup setup) {
    return make_engine(std::move(setup), true);
  }
};
INSTANTIATE_TYPED_TEST_SUITE_P(UringIo, IoConformance, Uring);
INSTANTIATE_TYPED_TEST_SUITE_P(UringIo, IoFailureConformance, Uring);

// As on a kernel that refuses the tables.
struct PlainUring {
  static std::string refusal() { return uring_refusal(); }
  static std::unique_ptr<AsyncFileIo> make(EngineSetup setup) {
    return make_engine(std::move(setup), false);
  }
};
INSTANTIATE_TYPED_TEST_SUITE_P(PlainUringIo, IoConformance, PlainUring);
INSTANTIATE_TYPED_TEST_SUITE_P(PlainUringIo, IoFailureConformance, PlainUring);

// Two entries, one of which is the wake-up's: one transfer at a time.
struct SmallestUring {
  static std::string refusal() { return uring_refusal(); }
  static std::unique_ptr<AsyncFileIo> make(EngineSetup setup) {
    return make_soon({.depth_bytes = setup.depth_bytes,
                      .piece_bytes = setup.piece_bytes,
                      .entries = 2,
                      .on_result = std::move(setup.on_result)});
  }
};
INSTANTIATE_TYPED_TEST_SUITE_P(SmallestUringIo, IoFailureConformance, SmallestUring);

struct FaultyUring {
  static std::string refusal() { return uring_refusal(); }
  static std::unique_ptr<AsyncFileIo> make(EngineSetup setup) {
    return std::make_unique<FaultyIo>(make_engine(std::move(setup), true), IoFaultPlan{});
  }
};
INSTANTIATE_TYPED_TEST_SUITE_P(FaultyUringIo, IoConformance, FaultyUring);
INSTANTIATE_TYPED_TEST_SUITE_P(FaultyUringIo, IoFailureConformance, FaultyUring);

TEST(UringIo, SaysWhatItIs) {
  if (auto const why = uring_refusal(); !why.empty()) GTEST_SKIP() << why;
  auto const io = make_engine({}, true);
  EXPECT_EQ(io->traits().name, "io_uring");
  EXPECT_EQ(io->traits().depth_bytes, EngineSetup{}.depth_bytes);
  EXPECT_FALSE(io->traits().registered_buffers);  // until there is memory
  EXPECT_FALSE(make_engine({}, false)->traits().registered_files);
}

// Memory may be registered while requests are under way: they stay what they are.
TEST(UringIo, RegistersMemoryBetweenRequests) {
  if (auto const why = uring_refusal(); !why.empty()) GTEST_SKIP() << why;
  DiskFolder const folder;
  auto const file = must(open_io_file(folder / "file"));
  auto const io = make_engine({}, true);
  IoFile const number = must(io->add_file(file.fd.get()));
  PageMemory written{kMiB};
  PageMemory read{kMiB};
  written.fill(1);
  for (std::uint64_t at = 0; at < kMiB; at += 64 * kKiB) {
    io->register_memory(written.data() + at, 64 * kKiB);
    io->register_memory(read.data() + at, 64 * kKiB);
    for (IoOp const op : {IoOp::kWrite, IoOp::kRead}) {
      PageMemory const& memory = op == IoOp::kWrite ? written : read;
      EXPECT_EQ(run(*io, {{.op = op,
                           .file = number,
                           .offset = at,
                           .data = memory.data() + at,
                           .size_bytes = 64 * kKiB}}),
                std::vector{0});
    }
  }
  EXPECT_TRUE(read.same(written));
}

// As where RLIMIT_MEMLOCK is low and CAP_IPC_LOCK missing, which is what most users have.
TEST(UringIo, GoesOnWithoutMemoryThatTheKernelDoesNotTake) {
  if (auto const why = uring_refusal(); !why.empty()) GTEST_SKIP() << why;
  DiskFolder const folder;
  auto const file = must(open_io_file(folder / "file"));
  auto const io = make_engine({}, true);
  IoFile const number = must(io->add_file(file.fd.get()));
  io->register_memory(reinterpret_cast<std::byte*>(4096), 4096);  // where nothing is mapped
  PageMemory memory{64 * kKiB};
  io->register_memory(memory.data(), memory.size_bytes());
  EXPECT_EQ(run(*io, {{.op = IoOp::kWrite,
                       .file = number,
                       .data = memory.data(),
                       .size_bytes = memory.size_bytes()}}),
            std::vector{0});
  EXPECT_FALSE(io->traits().registered_buffers);
}

// The kernel's table holds a file open: it must let go of it, and not only when the engine goes.
TEST(UringIo, LetsGoOfARemovedFile) {
  if (auto const why = uring_refusal(); !why.empty()) GTEST_SKIP() << why;
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  UniqueFd const reader{ends[0]};
  UniqueFd writer{ends[1]};
  auto const io = make_engine({}, true);
  IoFile const number = must(io->add_file(writer.get()));
  EXPECT_EQ(run(*io, {{.op = IoOp::kSync, .file = number}}), std::vector{EINVAL});  // of a pipe
  io->remove_file(number);
  writer.reset();
  pollfd closed{.fd = reader.get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&closed, 1, 10'000), 1);
}

// The descriptors are ours to close as soon as the engine is gone.
TEST(UringIo, LeavesNoFileBehind) {
  if (auto const why = uring_refusal(); !why.empty()) GTEST_SKIP() << why;
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  UniqueFd const reader{ends[0]};
  UniqueFd writer{ends[1]};
  auto io = make_engine({}, true);
  IoFile const number = must(io->add_file(writer.get()));
  EXPECT_EQ(run(*io, {{.op = IoOp::kSync, .file = number}}), std::vector{EINVAL});
  writer.reset();
  io.reset();
  char byte = 0;
  EXPECT_EQ(::read(reader.get(), &byte, 1), 0);  // nobody holds the other end any more
}

TEST(UringIo, RefusesSenselessOptions) {
  EXPECT_EQ(UringIo::create({.depth_bytes = 0}).error().code(), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace lmcache::test
