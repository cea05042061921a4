// SPDX-License-Identifier: Apache-2.0
// What every AsyncFileIo must do. An engine is one class with
//   static std::string refusal();                            // why it cannot be had here, or empty
//   static std::unique_ptr<AsyncFileIo> make(EngineSetup);   // a new one
// and one line: INSTANTIATE_TYPED_TEST_SUITE_P(Name, IoConformance, TheClass);
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "io_scene.hpp"

namespace lmcache::test {

// Small, so that requests of tests are cut and wait for each other.
struct EngineSetup {
  std::uint64_t depth_bytes = 512 * kKiB;
  std::uint64_t piece_bytes = 64 * kKiB;
  IoResultHook on_result{};
};

template <class Engine>
class IoConformance : public ::testing::Test {
 protected:
  void SetUp() override {
    if (auto const why = Engine::refusal(); !why.empty()) GTEST_SKIP() << why;
    start({});
  }
  void start(EngineSetup setup) {
    io = Engine::make(std::move(setup));
    engine = io.get();
  }

  // Of this length, filled with zeros.
  OpenedFile open(std::string const& name, IoCaching caching, std::uint64_t size_bytes) {
    auto opened = must(open_io_file(folder / name, {.caching = caching}));
    EXPECT_EQ(::ftruncate(opened.fd.get(), static_cast<off_t>(size_bytes)), 0);
    return opened;
  }
  IoFile add(OpenedFile const& file) { return must(io->add_file(file.fd.get())); }

  static IoRequest request(IoOp op, IoFile file, PageMemory const& memory, std::uint64_t offset,
                           std::uint64_t size_bytes) {
    return {.op = op,
            .file = file,
            .offset = offset,
            .data = memory.data() + offset,
            .size_bytes = size_bytes};
  }
  // The whole of the memory, cut at random multiples of the alignment, in random order.
  static std::vector<IoRequest> cut(IoOp op, IoFile file, PageMemory const& memory,
                                    std::uint32_t alignment_bytes, std::uint64_t seed) {
    std::mt19937_64 random{seed};
    std::vector<IoRequest> batch;
    std::uint64_t const most = 300 * kKiB / alignment_bytes;
    for (std::uint64_t at = 0; at < memory.size_bytes();) {
      std::uint64_t const size =
          std::min((1 + random() % most) * alignment_bytes, memory.size_bytes() - at);
      batch.push_back(request(op, file, memory, at, size));
      at += size;
    }
    std::ranges::shuffle(batch, random);
    return batch;
  }
  // Writes one memory to a file and reads it back into another.
  void round_trip(IoCaching caching, std::uint64_t seed) {
    PageMemory written{kMiB + 12288};
    PageMemory read{kMiB + 12288};
    written.fill(seed);
    auto const file = open("round_trip", caching, 0);
    IoFile const number = add(file);
    for (int const error :
         run(*io, cut(IoOp::kWrite, number, written, file.alignment_bytes, seed))) {
      EXPECT_EQ(error, 0);
    }
    for (int const error : run(*io, cut(IoOp::kRead, number, read, file.alignment_bytes, ~seed))) {
      EXPECT_EQ(error, 0);
    }
    EXPECT_TRUE(read.same(written));
    io->remove_file(number);
  }

  DiskFolder folder;
  std::unique_ptr<AsyncFileIo> io;
  AsyncFileIo* engine = nullptr;  // stays while `io` is being destroyed
};

inline constexpr IoCaching kBothCachings[] = {IoCaching::kDirect, IoCaching::kBuffered};

TYPED_TEST_SUITE_P(IoConformance);

TYPED_TEST_P(IoConformance, RoundTripsAreBitExact) {
  for (auto const caching : kBothCachings) {
    for (std::uint64_t seed = 0; seed < 3; ++seed) this->round_trip(caching, seed);
  }
}

TYPED_TEST_P(IoConformance, RegisteredMemoryMakesNoDifference) {
  PageMemory written{2 * kMiB};
  PageMemory read{2 * kMiB};
  written.fill(1);
  this->io->register_memory(written.data(), 1 * kMiB);  // requests lie inside, outside and across
  this->io->register_memory(written.data(), 1 * kMiB);
  this->io->register_memory(read.data() + 4096, 1 * kMiB);
  auto const file = this->open("registered", IoCaching::kDirect, 0);
  IoFile const number = this->add(file);
  for (IoOp const op : {IoOp::kWrite, IoOp::kRead}) {
    PageMemory const& memory = op == IoOp::kWrite ? written : read;
    for (int const error : run(*this->io, this->cut(op, number, memory, 4096, 7))) {
      EXPECT_EQ(error, 0);
    }
  }
  EXPECT_TRUE(read.same(written));
}

TYPED_TEST_P(IoConformance, ManyThreadsSubmit) {
  constexpr std::uint64_t kThreads = 4;
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([this, t] {
      auto const file = this->open("of thread " + std::to_string(t), kBothCachings[t % 2], 0);
      IoFile const number = this->add(file);
      PageMemory written{512 * kKiB};
      PageMemory read{512 * kKiB};
      for (std::uint64_t round = 0; round < 5; ++round) {
        written.fill(100 * t + round);
        auto const seed = t + round;
        for (int const error :
             run(*this->io, this->cut(IoOp::kWrite, number, written, file.alignment_bytes, seed))) {
          EXPECT_EQ(error, 0);
        }
        for (int const error :
             run(*this->io, this->cut(IoOp::kRead, number, read, file.alignment_bytes, seed))) {
          EXPECT_EQ(error, 0);
        }
        EXPECT_TRUE(read.same(written));
      }
      this->io->remove_file(number);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TYPED_TEST_P(IoConformance, ReadPastTheEndIsNoData) {
  for (auto const caching : kBothCachings) {
    auto const file = this->open("short", caching, 10000);  // no multiple of a block
    IoFile const number = this->add(file);
    PageMemory memory{256 * kKiB};
    auto const read = [&](std::uint64_t offset, std::uint64_t size_bytes) {
      return run(*this->io, {this->request(IoOp::kRead, number, memory, offset, size_bytes)})
          .front();
    };
    EXPECT_EQ(read(0, 8192), 0);
    EXPECT_EQ(read(8192, 4096), ENODATA);  // ends inside
    EXPECT_EQ(read(0, 128 * kKiB), ENODATA);
    EXPECT_EQ(read(12288, 4096), ENODATA);
    EXPECT_EQ(read(128 * kKiB, 4096), ENODATA);
  }
}

TYPED_TEST_P(IoConformance, BadFiles) {
  PageMemory memory{4096};
  auto const answer = [&](IoOp op, IoFile file) {
    return run(*this->io, {this->request(op, file, memory, 0, 4096)}).front();
  };
  IoFile const none = must(this->io->add_file(-1));
  IoFile const closed = must(this->io->add_file(1'000'000));
  auto const file = this->open("read only", IoCaching::kBuffered, 4096);
  auto const for_reading = must(open_io_file(
      this->folder / "read only", {.access = IoAccess::kRead, .caching = IoCaching::kBuffered}));
  IoFile const read_only = this->add(for_reading);
  for (IoOp const op : {IoOp::kRead, IoOp::kWrite, IoOp::kSync}) {
    EXPECT_EQ(answer(op, {}), EBADF);
    EXPECT_EQ(answer(op, {.number = 4000}), EBADF);
    EXPECT_EQ(answer(op, none), EBADF);
    EXPECT_EQ(answer(op, closed), EBADF);
    EXPECT_EQ(answer(op, read_only), op == IoOp::kWrite ? EBADF : 0);
  }
  this->io->remove_file({});  // no effect
  this->io->remove_file({.number = 4000});
}

TYPED_TEST_P(IoConformance, NothingToMove) {
  auto const file = this->open("empty", IoCaching::kBuffered, 0);
  IoFile const number = this->add(file);
  this->io->submit({}, [](std::uint32_t, IoAnswer) { ADD_FAILURE() << "of no request"; });
  EXPECT_EQ(this->io->open_requests(), 0U);
  auto const errors = run(*this->io, {{.op = IoOp::kRead, .file = number},
                                      {.op = IoOp::kWrite, .file = number, .offset = 5},
                                      {.op = IoOp::kSync, .file = number}});
  EXPECT_EQ(errors, (std::vector{0, 0, 0}));
  EXPECT_EQ(std::filesystem::file_size(this->folder / "empty"), 0U);
}

TYPED_TEST_P(IoConformance, OpenRequestsAreCounted) {
  auto const file = this->open("counted", IoCaching::kBuffered, 4096);
  IoFile const number = this->add(file);
  std::atomic<std::uint64_t> seen{0};
  auto kept = std::make_shared<int>(0);
  std::weak_ptr<int> const alive = kept;
  this->io->submit(std::vector<IoRequest>(3, {.op = IoOp::kSync, .file = number}),
                   [&, kept = std::move(kept)](std::uint32_t, IoAnswer) {
                     seen = std::max(seen.load(), this->io->open_requests());
                   });
  while (this->io->open_requests() != 0) std::this_thread::yield();
  EXPECT_GE(seen, 1U);
  EXPECT_LE(seen, 3U);
  while (!alive.expired()) std::this_thread::yield();  // the callback goes after the last answer
}

TYPED_TEST_P(IoConformance, DoneMaySubmit) {
  constexpr std::uint64_t kBlocks = 50;
  PageMemory written{kBlocks * 4096};
  PageMemory read{kBlocks * 4096};
  written.fill(3);
  auto const file = this->open("chain", IoCaching::kDirect, 0);
  IoFile const number = this->add(file);
  Answers answers{kBlocks};
  // Each block is read when it was written, and only then is the next one written.
  std::function<void(std::uint32_t)> write_and_read = [&](std::uint32_t block) {
    this->io->submit({this->request(IoOp::kWrite, number, written, block * 4096, 4096)},
                     [&, block](std::uint32_t, IoAnswer) {
                       this->io->submit(
                           {this->request(IoOp::kRead, number, read, block * 4096, 4096)},
                           [&, block](std::uint32_t, IoAnswer answer) {
                             if (block + 1 < kBlocks) write_and_read(block + 1);
                             answers.callback()(block, answer);
                           });
                     });
  };
  write_and_read(0);
  answers.wait();
  answers.expect_all_ok();
  EXPECT_TRUE(read.same(written));
}

TYPED_TEST_P(IoConformance, CloseAnswersAll) {
  constexpr std::uint64_t kRequests = 64;
  constexpr std::uint64_t kSize = 96 * kKiB;
  PageMemory written{kRequests * kSize};
  written.fill(4);
  auto const file = this->open("closed", IoCaching::kDirect, 0);
  IoFile const number = this->add(file);
  std::vector<IoRequest> batch;
  for (std::uint64_t i = 0; i < kRequests; ++i) {
    batch.push_back(this->request(IoOp::kWrite, number, written, i * kSize, kSize));
  }
  Answers answers{kRequests};
  Answers after{kRequests};
  std::atomic<std::uint32_t> follow_up{0};
  this->io->submit(batch, [&](std::uint32_t i, IoAnswer answer) {
    // What is submitted while the engine closes is answered too.
    if (answer.os_error == ECANCELED) {
      this->engine->submit(
          {{.op = IoOp::kSync, .file = number}},
          [&, at = follow_up++](std::uint32_t, IoAnswer later) { after.callback()(at, later); });
    }
    answers.callback()(i, answer);
  });
  answers.wait_for(1);
  this->io.reset();
  EXPECT_EQ(answers.count(), kRequests);
  EXPECT_EQ(after.count(), follow_up);
  std::vector<std::byte> there(kSize);
  for (std::uint64_t i = 0; i < kRequests; ++i) {
    if (answers.error(i) == 0) {
      auto const plain =
          must(open_io_file(this->folder / "closed", {.caching = IoCaching::kBuffered}));
      ASSERT_EQ(::pread(plain.fd.get(), there.data(), kSize, static_cast<off_t>(i * kSize)),
                static_cast<ssize_t>(kSize));
      EXPECT_EQ(std::memcmp(there.data(), written.data() + i * kSize, kSize), 0);
    } else {
      EXPECT_EQ(answers.error(i), ECANCELED);
    }
  }
}

// Each answer begins the next request: only what is cancelled ends that.
TYPED_TEST_P(IoConformance, CloseEndsAChain) {
  auto const file = this->open("endless", IoCaching::kBuffered, 0);
  IoFile const number = this->add(file);
  std::atomic<int> last{0};
  std::atomic<int> links{0};
  std::function<void()> next = [&] {
    this->engine->submit({{.op = IoOp::kSync, .file = number}},
                         [&](std::uint32_t, IoAnswer answer) {
                           last = answer.os_error;
                           ++links;
                           links.notify_all();
                           if (answer.ok()) next();
                         });
  };
  next();
  links.wait(0);
  this->io.reset();
  EXPECT_EQ(last, ECANCELED);
}

TYPED_TEST_P(IoConformance, FilesAreManyAndTheirNumbersUsedAgain) {
  auto const file = this->open("many", IoCaching::kBuffered, 4096);
  std::vector<IoFile> numbers;
  for (;;) {
    auto added = this->io->add_file(file.fd.get());
    if (!added) {
      EXPECT_EQ(added.error().code(), ErrorCode::kOutOfMemory);
      break;
    }
    numbers.push_back(added.value());
    ASSERT_LE(numbers.size(), 4096U);
  }
  EXPECT_EQ(numbers.size(), 4096U);
  PageMemory memory{4096};
  for (IoFile const number : {numbers.front(), numbers[2000], numbers.back()}) {
    EXPECT_EQ(run(*this->io, {this->request(IoOp::kRead, number, memory, 0, 4096)}).front(), 0);
    this->io->remove_file(number);
    EXPECT_EQ(run(*this->io, {this->request(IoOp::kRead, number, memory, 0, 4096)}).front(), EBADF);
    EXPECT_EQ(this->add(file), number);
    EXPECT_EQ(run(*this->io, {this->request(IoOp::kRead, number, memory, 0, 4096)}).front(), 0);
  }
}

TYPED_TEST_P(IoConformance, DepthIsRespected) {
  constexpr std::uint64_t kSize = 16 * kKiB;
  constexpr std::uint64_t kRequests = 32;
  auto const file = this->open("deep", IoCaching::kDirect, kRequests * kSize);
  // While the first answer is held back, and with it all, no more than the depth can have reached
  // the file.
  std::atomic<bool> first{true};
  std::atomic<bool> looked{false};
  std::uint64_t reached = 0;
  PageMemory const there{kRequests * kSize};
  auto const hold_back = [&](IoRequest const&, std::int64_t result) {
    if (!first.exchange(false)) {
      looked.wait(false);
      return result;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds{20});  // to do wrong, if it does
    EXPECT_EQ(::pread(file.fd.get(), there.data(), kRequests * kSize, 0),
              static_cast<ssize_t>(kRequests * kSize));
    for (std::uint64_t i = 0; i < kRequests; ++i) {
      if (there.data()[i * kSize] != std::byte{0}) ++reached;
    }
    looked = true;
    looked.notify_all();
    return result;
  };
  this->start({.depth_bytes = 4 * kSize, .piece_bytes = kSize, .on_result = hold_back});
  EXPECT_EQ(this->io->traits().depth_bytes, 4 * kSize);
  IoFile const number = this->add(file);
  PageMemory written{kRequests * kSize};
  std::memset(written.data(), 1, written.size_bytes());
  std::vector<IoRequest> batch;
  for (std::uint64_t i = 0; i < kRequests; ++i) {
    batch.push_back(this->request(IoOp::kWrite, number, written, i * kSize, kSize));
  }
  Answers answers{kRequests};
  this->io->submit(std::move(batch), answers.callback());
  answers.wait();
  answers.expect_all_ok();
  EXPECT_GE(reached, 1U);
  EXPECT_LE(reached, 4U);
}

REGISTER_TYPED_TEST_SUITE_P(IoConformance, RoundTripsAreBitExact, RegisteredMemoryMakesNoDifference,
                            ManyThreadsSubmit, ReadPastTheEndIsNoData, BadFiles, NothingToMove,
                            OpenRequestsAreCounted, DoneMaySubmit, CloseAnswersAll, CloseEndsAChain,
                            FilesAreManyAndTheirNumbersUsedAgain, DepthIsRespected);

}  // namespace lmcache::test
