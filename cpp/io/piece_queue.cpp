// SPDX-License-Identifier: Apache-2.0
#include <lmcache/io/piece_queue.hpp>

#include <algorithm>
#include <cerrno>
#include <utility>

#include <lmcache/base/bytes.hpp>

namespace lmcache::detail {
namespace {

// Tries in a row that move nothing before an error is believed. EINTR and EAGAIN do not last (our
// threads block all signals, and a second try may wait); what does last is the end of a file that
// is no multiple of its alignment, read again and again.
constexpr std::uint32_t kMostFruitlessTries = 100;

// What a transfer that stays fruitless is answered with.
int lasting_error(IoOp op, std::int64_t result) {
  if (result < 0) return static_cast<int>(-result);
  return op == IoOp::kRead ? ENODATA : EIO;
}

// A piece is no larger than the depth, and ends where a block ends.
PieceLimits with_whole_blocks(PieceLimits limits) {
  constexpr std::uint64_t kBlock = 4096;
  limits.piece_bytes = std::min(limits.piece_bytes, limits.depth_bytes);
  if (limits.piece_bytes > kBlock) limits.piece_bytes = align_down(limits.piece_bytes, kBlock);
  return limits;
}

}  // namespace

PieceQueue::PieceQueue(PieceLimits limits) : limits_{with_whole_blocks(limits)} {}

void PieceQueue::push(std::vector<IoRequest> requests, IoDone done) {
  if (requests.empty()) return;
  auto const count = static_cast<std::uint32_t>(requests.size());
  batches_.push_back({.requests = std::move(requests), .done = std::move(done)});
  batches_.back().undelivered = count;
  if (waiting_ == batches_.end()) waiting_ = std::prev(batches_.end());
}

void PieceQueue::cancel_waiting() {
  if (cutting_ != requests_.end() && cutting_->begun_bytes == 0) {  // it waits for the depth
    auto const request = std::exchange(cutting_, requests_.end());
    answer(request->batch, request->number, ECANCELED);
    requests_.erase(request);
  }
  for (; waiting_ != batches_.end(); ++waiting_) {
    while (waiting_->next < waiting_->requests.size()) {
      answer(waiting_, waiting_->next++, ECANCELED);
    }
  }
}

// Makes cutting_ a request with bytes to begin. False: none waits.
bool PieceQueue::find_request() {
  if (cutting_ != requests_.end()) return true;
  while (waiting_ != batches_.end()) {
    auto const batch = waiting_;
    std::uint32_t const number = batch->next++;
    if (batch->next == batch->requests.size()) ++waiting_;
    IoRequest const& io = batch->requests[number];
    if (io.size_bytes == 0 && io.op != IoOp::kSync) {
      answer(batch, number, 0);
      continue;
    }
    cutting_ = requests_.insert(requests_.end(), Request{.batch = batch, .number = number});
    return true;
  }
  return false;
}

PieceQueue::Piece* PieceQueue::next() {
  if (in_flight_.size() >= limits_.pieces || !find_request()) return nullptr;
  IoRequest const& whole = cutting_->batch->requests[cutting_->number];
  IoRequest io = whole;
  if (io.op == IoOp::kSync) {
    io.size_bytes = 0;
  } else {
    io.offset += cutting_->begun_bytes;
    io.data += cutting_->begun_bytes;
    io.size_bytes = std::min(whole.size_bytes - cutting_->begun_bytes, limits_.piece_bytes);
  }
  if (bytes_in_flight_ != 0 && bytes_in_flight_ + io.size_bytes > limits_.depth_bytes) {
    return nullptr;
  }

  if (spare_.empty()) spare_.emplace_back();
  in_flight_.splice(in_flight_.end(), spare_, spare_.begin());
  Piece& piece = in_flight_.back();
  piece = {.io = io,
           .budget_bytes = io.size_bytes,
           .request = cutting_,
           .self = std::prev(in_flight_.end())};
  bytes_in_flight_ += io.size_bytes;
  ++cutting_->pieces_in_flight;
  cutting_->begun_bytes += io.size_bytes;
  if (io.op == IoOp::kSync || cutting_->begun_bytes == whole.size_bytes) {
    cutting_ = requests_.end();
  }
  return &piece;
}

PieceQueue::Verdict PieceQueue::settle(Piece& piece, std::int64_t result,
                                       std::uint32_t alignment_bytes) {
  IoRequest& io = piece.io;
  bool const moves = io.op != IoOp::kSync;
  int error = 0;
  if (result == -EINTR || result == -EAGAIN) {
    if (++piece.fruitless < kMostFruitlessTries) return Verdict::kTryAgain;
    error = lasting_error(io.op, result);
  } else if (result < 0) {
    error = static_cast<int>(-result);
  } else if (moves && result == 0 && io.op == IoOp::kRead) {
    error = ENODATA;
  } else if (moves && static_cast<std::uint64_t>(result) < io.size_bytes) {
    std::uint64_t const moved =
        align_down(static_cast<std::uint64_t>(result), std::uint64_t{alignment_bytes});
    piece.fruitless = moved == 0 ? piece.fruitless + 1 : 0;
    io.offset += moved;
    io.data += moved;
    io.size_bytes -= moved;
    if (piece.fruitless < kMostFruitlessTries) return Verdict::kTryAgain;
    error = lasting_error(io.op, result);
  }

  auto const request = piece.request;
  bytes_in_flight_ -= piece.budget_bytes;
  spare_.splice(spare_.end(), in_flight_, piece.self);
  --request->pieces_in_flight;
  if (error != 0) {
    if (request->os_error == 0) request->os_error = error;
    if (cutting_ == request) cutting_ = requests_.end();  // the rest would be for nothing
  }
  answer_if_over(request);
  return Verdict::kOver;
}

void PieceQueue::answer_if_over(Requests::iterator request) {
  if (request->pieces_in_flight != 0 || cutting_ == request) return;
  answer(request->batch, request->number, request->os_error);
  requests_.erase(request);
}

void PieceQueue::answer(Batches::iterator batch, std::uint32_t request, int os_error) {
  answers_.push_back({.batch = batch, .request = request, .answer = {.os_error = os_error}});
}

std::vector<PieceQueue::Answer> PieceQueue::take_answers() { return std::exchange(answers_, {}); }

PieceQueue::Batches PieceQueue::delivered(std::vector<Answer> const& answers) {
  Batches over;
  for (Answer const& given : answers) {
    if (--given.batch->undelivered == 0) over.splice(over.end(), batches_, given.batch);
  }
  return over;
}

}  // namespace lmcache::detail
