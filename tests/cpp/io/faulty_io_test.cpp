// SPDX-License-Identifier: Apache-2.0
#include "support/faulty_io.hpp"

#include <lmcache/io/thread_io.hpp>

#include "io_scene.hpp"

namespace lmcache::test {
namespace {

class FaultyIoTest : public ::testing::Test {
 protected:
  FaultyIoTest() {
    written.fill(1);
    make([](IoRequest const&) { return IoFault::none(); });
  }
  void make(IoFaultPlan plan) {
    io = std::make_unique<FaultyIo>(must(ThreadIo::create({.threads = 2})), std::move(plan));
    number = must(io->add_file(file.fd.get()));
  }
  [[nodiscard]] IoRequest write(std::uint64_t at, std::uint64_t size_bytes) const {
    return {.op = IoOp::kWrite,
            .file = number,
            .offset = at,
            .data = written.data() + at,
            .size_bytes = size_bytes};
  }
  [[nodiscard]] IoRequest read(std::uint64_t at, std::uint64_t size_bytes) const {
    IoRequest request = write(at, size_bytes);
    request.op = IoOp::kRead;
    request.data = there.data() + at;
    return request;
  }
  // Whether this part of the file is what was written.
  bool arrived(std::uint64_t at, std::uint64_t size_bytes) {
    std::vector<std::byte> part(size_bytes);
    auto const got = ::pread(file.fd.get(), part.data(), size_bytes, static_cast<off_t>(at));
    return got == static_cast<ssize_t>(size_bytes) &&
           std::memcmp(part.data(), written.data() + at, size_bytes) == 0;
  }

  DiskFolder folder;
  OpenedFile file = must(open_io_file(folder / "file", {.caching = IoCaching::kBuffered}));
  PageMemory written{64 * kKiB};
  PageMemory there{64 * kKiB};
  std::unique_ptr<FaultyIo> io;
  IoFile number;
};

TEST_F(FaultyIoTest, ErrorLeavesTheFileAlone) {
  make([](IoRequest const& request) {
    return request.offset == 4096 ? IoFault::error(ENOSPC) : IoFault::none();
  });
  EXPECT_EQ(run(*io, {write(0, 4096), write(4096, 4096), write(8192, 4096)}),
            (std::vector{0, ENOSPC, 0}));
  EXPECT_TRUE(arrived(0, 4096));
  EXPECT_FALSE(arrived(4096, 4096));
  EXPECT_TRUE(arrived(8192, 4096));
  io->set_plan({});
  EXPECT_EQ(run(*io, {write(4096, 4096)}), std::vector{0});
}

TEST_F(FaultyIoTest, TornWriteArrivesInPart) {
  make([](IoRequest const& request) {
    return request.op == IoOp::kWrite ? IoFault::torn(512, request.offset == 0 ? EIO : 0)
                                      : IoFault::none();
  });
  EXPECT_EQ(run(*io, {write(0, 4096), write(8192, 4096)}), (std::vector{EIO, 0}));
  for (std::uint64_t const at : {0, 8192}) {
    EXPECT_TRUE(arrived(at, 512));
    EXPECT_FALSE(arrived(at, 513));
  }
}

TEST_F(FaultyIoTest, BitFlipsOnTheWay) {
  make([](IoRequest const&) { return IoFault::flip(100); });
  EXPECT_EQ(run(*io, {write(0, 4096)}), std::vector{0});
  EXPECT_TRUE(arrived(0, 100));
  EXPECT_FALSE(arrived(0, 101));
  EXPECT_TRUE(arrived(101, 4096 - 101));
  EXPECT_EQ(run(*io, {read(0, 4096)}), std::vector{0});  // flips it back
  EXPECT_EQ(std::memcmp(there.data(), written.data(), 4096), 0);
}

TEST_F(FaultyIoTest, HeldRequestsGoInTheOrderOfTheTest) {
  make([](IoRequest const&) { return IoFault::hold(); });
  Answers answers{3};
  io->submit({write(0, 4096), write(4096, 4096), write(8192, 4096)}, answers.callback());
  io->wait_held(3);
  EXPECT_EQ(answers.count(), 0U);
  io->release(1);
  answers.wait_for(1);
  EXPECT_EQ(answers.error(1), 0);
  EXPECT_FALSE(arrived(0, 4096));
  EXPECT_TRUE(arrived(4096, 4096));
  EXPECT_EQ(io->held(), 2U);
  io->release_all();
  answers.wait();
  answers.expect_all_ok();
}

TEST_F(FaultyIoTest, HeldAtTheEndIsCancelled) {
  make([](IoRequest const&) { return IoFault::hold(); });
  Answers answers{1};
  io->submit({write(0, 4096)}, answers.callback());
  io.reset();
  EXPECT_EQ(answers.error(0), ECANCELED);
  EXPECT_FALSE(arrived(0, 4096));
}

}  // namespace
}  // namespace lmcache::test
