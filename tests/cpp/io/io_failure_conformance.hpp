// SPDX-License-Identifier: Apache-2.0
// What every AsyncFileIo must make of system calls that move less than asked, or fail. Engines as
// in io_conformance.hpp, and one line: INSTANTIATE_TYPED_TEST_SUITE_P(Name, IoFailureConformance,
// It);
#pragma once

#include "io_conformance.hpp"

namespace lmcache::test {

template <class Engine>
class IoFailureConformance : public IoConformance<Engine> {};

TYPED_TEST_SUITE_P(IoFailureConformance);

TYPED_TEST_P(IoFailureConformance, ShortTransfersGoOn) {
  std::mutex mutex;
  std::mt19937_64 random{5};
  std::atomic<int> shortened{0};
  this->start({.on_result = [&](IoRequest const& piece, std::int64_t result) {
    if (piece.op == IoOp::kSync || result <= 1) return result;
    std::lock_guard const lock{mutex};
    if (random() % 2 == 0) return result;
    ++shortened;
    return 1 + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(result));
  }});
  this->round_trip(IoCaching::kDirect, 6);
  EXPECT_GE(shortened, 10);
  this->round_trip(IoCaching::kBuffered, 6);
}

TYPED_TEST_P(IoFailureConformance, InterruptedCallsAreTriedAgain) {
  std::atomic<int> calls{0};
  this->start({.on_result = [&](IoRequest const&, std::int64_t result) -> std::int64_t {
    switch (calls++ % 3) {
      case 0:
        return -EINTR;
      case 1:
        return -EAGAIN;
      default:
        return result;
    }
  }});
  this->round_trip(IoCaching::kDirect, 8);
  this->round_trip(IoCaching::kBuffered, 8);
  auto const file = this->open("synced", IoCaching::kBuffered, 0);
  EXPECT_EQ(run(*this->io, {{.op = IoOp::kSync, .file = this->add(file)}}).front(), 0);
}

TYPED_TEST_P(IoFailureConformance, WhatLastsIsAnswered) {
  std::atomic<std::int64_t> always{0};
  this->start({.on_result = [&](IoRequest const&, std::int64_t) { return always.load(); }});
  auto const file = this->open("stuck", IoCaching::kDirect, 64 * kKiB);
  IoFile const number = this->add(file);
  PageMemory memory{64 * kKiB};
  auto const answer = [&](IoOp op, std::int64_t result) {
    always = result;
    return run(*this->io, {this->request(op, number, memory, 0, 64 * kKiB)}).front();
  };
  EXPECT_EQ(answer(IoOp::kRead, -EAGAIN), EAGAIN);
  EXPECT_EQ(answer(IoOp::kSync, -EINTR), EINTR);
  EXPECT_EQ(answer(IoOp::kWrite, 0), EIO);       // moves nothing, and says no error
  EXPECT_EQ(answer(IoOp::kWrite, 100), EIO);     // never a whole block
  EXPECT_EQ(answer(IoOp::kRead, 100), ENODATA);  // as at the end of a file
  EXPECT_EQ(answer(IoOp::kRead, 0), ENODATA);
  EXPECT_EQ(answer(IoOp::kWrite, -ENOSPC), ENOSPC);
  EXPECT_EQ(answer(IoOp::kSync, -EIO), EIO);
  EXPECT_EQ(answer(IoOp::kSync, 0), 0);
  EXPECT_EQ(answer(IoOp::kRead, 64 * kKiB), 0);
}

TYPED_TEST_P(IoFailureConformance, ErrorInTheMiddleLeavesTheRestRight) {
  constexpr std::uint64_t kSize = 200 * kKiB;  // several pieces, the last one short
  constexpr std::uint64_t kRequests = 20;
  constexpr std::uint64_t kBadPiece = 7 * kSize + 64 * kKiB;
  this->start({.on_result = [&](IoRequest const& piece, std::int64_t result) -> std::int64_t {
    return piece.op == IoOp::kRead && piece.offset == kBadPiece ? -EIO : result;
  }});
  PageMemory written{kRequests * kSize};
  PageMemory read{kRequests * kSize};
  written.fill(9);
  auto const file = this->open("middle", IoCaching::kDirect, 0);
  IoFile const number = this->add(file);
  std::vector<IoRequest> writes;
  std::vector<IoRequest> reads;
  for (std::uint64_t i = 0; i < kRequests; ++i) {
    writes.push_back(this->request(IoOp::kWrite, number, written, i * kSize, kSize));
    reads.push_back(this->request(IoOp::kRead, number, read, i * kSize, kSize));
  }
  reads[3].file = {.number = 4000};
  EXPECT_EQ(run(*this->io, writes), std::vector<int>(kRequests, 0));
  auto const errors = run(*this->io, reads);
  for (std::uint64_t i = 0; i < kRequests; ++i) {
    EXPECT_EQ(errors[i], i == 3 ? EBADF : i == 7 ? EIO : 0) << "request " << i;
    bool const same = std::memcmp(read.data() + i * kSize, written.data() + i * kSize, kSize) == 0;
    EXPECT_TRUE(same || i == 3 || i == 7) << "request " << i;
  }
}

TYPED_TEST_P(IoFailureConformance, EveryRequestIsAnsweredOnceInChaos) {
  std::mutex mutex;
  std::mt19937_64 random{10};
  this->start({.on_result = [&](IoRequest const&, std::int64_t result) -> std::int64_t {
    std::lock_guard const lock{mutex};
    switch (random() % 12) {
      case 0:
        return -EIO;
      case 1:
        return -ENOSPC;
      case 2:
        return -EINTR;
      case 3:
        return result > 4096 ? 4096 : result;
      default:
        return result;
    }
  }});
  PageMemory content{2 * kMiB};
  content.fill(11);
  auto const file = this->open("chaos", IoCaching::kDirect, 0);
  ASSERT_EQ(::pwrite(file.fd.get(), content.data(), content.size_bytes(), 0),
            static_cast<ssize_t>(content.size_bytes()));
  IoFile const number = this->add(file);
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      PageMemory read{2 * kMiB};
      auto const batch = this->cut(IoOp::kRead, number, read, 4096, t);
      auto const errors = run(*this->io, batch);
      for (std::size_t i = 0; i < batch.size(); ++i) {
        EXPECT_TRUE(errors[i] == 0 || errors[i] == EIO || errors[i] == ENOSPC) << errors[i];
        if (errors[i] != 0) continue;
        EXPECT_EQ(std::memcmp(batch[i].data, content.data() + batch[i].offset, batch[i].size_bytes),
                  0);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

REGISTER_TYPED_TEST_SUITE_P(IoFailureConformance, ShortTransfersGoOn, InterruptedCallsAreTriedAgain,
                            WhatLastsIsAnswered, ErrorInTheMiddleLeavesTheRestRight,
                            EveryRequestIsAnsweredOnceInChaos);

}  // namespace lmcache::test
