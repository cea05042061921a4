// SPDX-License-Identifier: Apache-2.0
#include <lmcache/io/piece_queue.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace lmcache::detail {
namespace {

using Verdict = PieceQueue::Verdict;

std::byte* const kData = nullptr;  // nothing is moved here
constexpr std::uint64_t kKiB = 1024;

IoRequest read_of(std::uint64_t size_bytes, std::uint64_t offset = 0) {
  return {.op = IoOp::kRead, .offset = offset, .data = kData, .size_bytes = size_bytes};
}

struct Given {
  std::uint32_t request;
  int os_error;
  friend bool operator==(Given const&, Given const&) = default;
};

class PieceQueueTest : public ::testing::Test {
 protected:
  PieceQueue queue{{.depth_bytes = 100 * kKiB, .piece_bytes = 40 * kKiB, .pieces = 8}};
  std::vector<Given> given;

  void push(std::vector<IoRequest> requests) {
    queue.push(std::move(requests), [this](std::uint32_t request, IoAnswer answer) {
      given.push_back({request, answer.os_error});
    });
  }
  std::vector<PieceQueue::Piece*> next_all() {
    std::vector<PieceQueue::Piece*> pieces;
    while (auto* const piece = queue.next()) pieces.push_back(piece);
    return pieces;
  }
  void all_moved(PieceQueue::Piece* piece) {
    EXPECT_EQ(queue.settle(*piece, static_cast<std::int64_t>(piece->io.size_bytes), 1),
              Verdict::kOver);
  }
  std::vector<Given> deliver() {
    auto const answers = queue.take_answers();
    for (auto const& one : answers) one.batch->done(one.request, one.answer);
    (void)queue.delivered(answers);
    return std::exchange(given, {});
  }
};

TEST_F(PieceQueueTest, CutsARequestInOrder) {
  push({read_of(100 * kKiB, 7)});
  auto const pieces = next_all();
  ASSERT_EQ(pieces.size(), 3U);
  std::uint64_t const sizes[] = {40 * kKiB, 40 * kKiB, 20 * kKiB};
  for (std::uint64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(pieces[i]->io.size_bytes, sizes[i]);
    EXPECT_EQ(pieces[i]->io.offset, 7 + i * 40 * kKiB);
    EXPECT_EQ(pieces[i]->io.data, kData + i * 40 * kKiB);
  }
  EXPECT_EQ(queue.bytes_in_flight(), 100 * kKiB);
  for (std::size_t const i : {2U, 0U}) {
    all_moved(pieces[i]);
    EXPECT_FALSE(queue.has_answers());
  }
  all_moved(pieces[1]);
  EXPECT_EQ(queue.bytes_in_flight(), 0U);
  EXPECT_FALSE(queue.idle());
  EXPECT_EQ(deliver(), (std::vector<Given>{{0, 0}}));
  EXPECT_TRUE(queue.idle());
}

TEST_F(PieceQueueTest, KeepsTheDepth) {
  push({read_of(40 * kKiB), read_of(40 * kKiB), read_of(40 * kKiB), read_of(20 * kKiB)});
  auto const pieces = next_all();
  // The third does not fit, and the fourth, which would, does not overtake it.
  ASSERT_EQ(pieces.size(), 2U);
  all_moved(pieces[1]);
  EXPECT_EQ(next_all().size(), 2U);
  EXPECT_EQ(queue.bytes_in_flight(), 100 * kKiB);
}

TEST_F(PieceQueueTest, KeepsTheNumberOfPieces) {
  push(std::vector<IoRequest>(10, read_of(1)));
  EXPECT_EQ(next_all().size(), 8U);
}

TEST(PieceQueue, LargePieceGoesAlone) {
  PieceQueue queue{{.depth_bytes = 5000, .piece_bytes = 100000, .pieces = 8}};
  queue.push({read_of(10000), read_of(1)}, {});
  auto* const piece = queue.next();
  ASSERT_NE(piece, nullptr);
  EXPECT_EQ(piece->io.size_bytes, 4096U);  // no more than the depth, and whole blocks
  EXPECT_EQ(queue.next(), nullptr);
}

TEST_F(PieceQueueTest, SyncIsOnePieceOfNoBytes) {
  push({{.op = IoOp::kSync, .size_bytes = 99}});
  auto const pieces = next_all();
  ASSERT_EQ(pieces.size(), 1U);
  EXPECT_EQ(pieces[0]->io.size_bytes, 0U);
  EXPECT_EQ(queue.settle(*pieces[0], 0, 1), Verdict::kOver);
  EXPECT_EQ(deliver(), (std::vector<Given>{{0, 0}}));
}

TEST_F(PieceQueueTest, NothingToMoveIsAnsweredAtOnce) {
  push({read_of(0), read_of(1), read_of(0)});
  EXPECT_EQ(next_all().size(), 1U);
  EXPECT_EQ(deliver(), (std::vector<Given>{{0, 0}, {2, 0}}));
  EXPECT_FALSE(queue.idle());
}

TEST_F(PieceQueueTest, ShortTransferGoesOnWhereItEnded) {
  push({read_of(20 * kKiB, 4096)});
  auto* const piece = queue.next();
  EXPECT_EQ(queue.settle(*piece, 100, 1), Verdict::kTryAgain);
  EXPECT_EQ(piece->io.offset, 4196U);
  EXPECT_EQ(piece->io.data, kData + 100);
  EXPECT_EQ(piece->io.size_bytes, 20 * kKiB - 100);
  EXPECT_EQ(queue.bytes_in_flight(), 20 * kKiB);
  all_moved(piece);
  EXPECT_EQ(queue.bytes_in_flight(), 0U);
  EXPECT_EQ(deliver(), (std::vector<Given>{{0, 0}}));
}

TEST_F(PieceQueueTest, AlignedTransferGoesOnAtABlock) {
  push({read_of(20 * kKiB)});
  auto* const piece = queue.next();
  EXPECT_EQ(queue.settle(*piece, 5000, 4096), Verdict::kTryAgain);
  EXPECT_EQ(piece->io.offset, 4096U);
  EXPECT_EQ(queue.settle(*piece, 500, 4096), Verdict::kTryAgain);
  EXPECT_EQ(piece->io.offset, 4096U);
  EXPECT_EQ(piece->fruitless, 1U);
  EXPECT_EQ(queue.settle(*piece, 4096, 4096), Verdict::kTryAgain);
  EXPECT_EQ(piece->fruitless, 0U);
}

TEST_F(PieceQueueTest, WhatMovesNothingForLongIsGivenUp) {
  struct Case {
    IoOp op;
    std::int64_t result;
    int os_error;
  };
  for (Case const& one : {Case{IoOp::kRead, -EINTR, EINTR}, Case{IoOp::kWrite, -EAGAIN, EAGAIN},
                          Case{IoOp::kWrite, 0, EIO}, Case{IoOp::kRead, 5, ENODATA}}) {
    push({{.op = one.op, .data = kData, .size_bytes = 8192}});
    auto* const piece = queue.next();
    int tries = 1;
    while (queue.settle(*piece, one.result, 4096) == Verdict::kTryAgain) {
      ASSERT_LT(++tries, 1000);
    }
    EXPECT_GT(tries, 10);
    EXPECT_EQ(deliver(), (std::vector<Given>{{0, one.os_error}}));
  }
}

TEST_F(PieceQueueTest, FailedRequestBeginsNoMorePieces) {
  push({read_of(400 * kKiB), read_of(kKiB)});
  auto const pieces = next_all();
  ASSERT_EQ(pieces.size(), 2U);
  EXPECT_EQ(queue.settle(*pieces[1], -EIO, 1), Verdict::kOver);
  EXPECT_FALSE(queue.has_answers());  // a piece of it is in flight
  auto const more = next_all();
  ASSERT_EQ(more.size(), 1U);
  EXPECT_EQ(more[0]->io.size_bytes, kKiB);
  EXPECT_EQ(queue.settle(*pieces[0], -ENOSPC, 1), Verdict::kOver);
  all_moved(more[0]);
  EXPECT_EQ(deliver(), (std::vector<Given>{{0, EIO}, {1, 0}}));  // the first error counts
  EXPECT_TRUE(queue.idle());
}

TEST_F(PieceQueueTest, CancelSparesWhatHasBegun) {
  push({read_of(200 * kKiB), read_of(1)});
  push({read_of(1)});
  auto pieces = next_all();
  ASSERT_EQ(pieces.size(), 2U);
  queue.cancel_waiting();
  EXPECT_EQ(deliver(), (std::vector<Given>{{1, ECANCELED}, {0, ECANCELED}}));
  for (int rest = 0; rest < 5; ++rest) {
    if (pieces.empty()) pieces = next_all();
    ASSERT_FALSE(pieces.empty());
    all_moved(pieces.back());
    pieces.pop_back();
  }
  EXPECT_EQ(deliver(), (std::vector<Given>{{0, 0}}));
  EXPECT_TRUE(queue.idle());
}

TEST_F(PieceQueueTest, CancelTakesWhatWaitsForTheDepth) {
  push({read_of(40 * kKiB), read_of(40 * kKiB), read_of(40 * kKiB)});
  auto const pieces = next_all();
  ASSERT_EQ(pieces.size(), 2U);
  queue.cancel_waiting();
  EXPECT_EQ(deliver(), (std::vector<Given>{{2, ECANCELED}}));
  for (auto* const piece : pieces) all_moved(piece);
  EXPECT_EQ(queue.next(), nullptr);
  EXPECT_EQ(deliver().size(), 2U);
  EXPECT_TRUE(queue.idle());
}

TEST(PieceQueue, BatchGoesWithItsLastAnswer) {
  PieceQueue queue{{}};
  auto owned = std::make_shared<int>(0);
  std::weak_ptr<int> const alive = owned;
  queue.push({read_of(1), read_of(1)}, [kept = std::move(owned)](std::uint32_t, IoAnswer) {});
  auto* const first = queue.next();
  auto* const second = queue.next();
  (void)queue.settle(*first, 1, 1);
  (void)queue.delivered(queue.take_answers());
  EXPECT_FALSE(alive.expired());
  (void)queue.settle(*second, 1, 1);
  auto const answers = queue.take_answers();
  {
    auto const over = queue.delivered(answers);
    EXPECT_FALSE(alive.expired());  // for the caller to destroy
    EXPECT_EQ(over.size(), 1U);
  }
  EXPECT_TRUE(alive.expired());
  EXPECT_TRUE(queue.idle());
}

}  // namespace
}  // namespace lmcache::detail
