// SPDX-License-Identifier: Apache-2.0
// What an engine has to do: which piece of which request may begin now, and when a request is over.
// It does no I/O, so that both engines share it and tests drive it by hand.
//
// Invariants:
//  * requests begin in the order in which they were pushed, and their pieces in order of offset;
//  * the pieces in flight hold at most depth_bytes together, or one piece is alone;
//  * a request is answered when none of its pieces is in flight and none will begin: the last one
//    has begun, or one has failed;
//  * a batch lives until all its answers were delivered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <vector>

#include <lmcache/io/async_file_io.hpp>

namespace lmcache::detail {

// Requests of 32 MB are moved in pieces of it, several at a time, so that the disk has the next one
// before a request ends; smaller pieces only cost processor time. Direct, depth 32 MiB, 2
// processors, virtual disk: pieces of 32 MiB / 4 MiB / 1 MiB / 256 KiB read at 1.63 / 1.66 / 1.72
// / 1.69 GB/s and write at 3.3 / 3.6 / 3.6 / 3.6 GB/s, at 38 / 39 / 41 / 47 ms of processor time
// per GiB read by io_uring and 38 / 46 / 56 / 75 by threads.
inline constexpr std::uint64_t kPieceBytes = 4ULL << 20;

struct PieceLimits {
  std::uint64_t depth_bytes = 32ULL << 20;
  std::uint64_t piece_bytes = kPieceBytes;  // larger than a block: cut to whole blocks of 4 KiB
  std::uint64_t pieces = 256;               // in flight at most
};

// Externally synchronised.
class PieceQueue {
 public:
  struct Batch {
    std::vector<IoRequest> requests;
    IoDone done;
    std::uint32_t next = 0;         // the first that has not begun
    std::uint32_t undelivered = 0;  // answers
  };
  using Batches = std::list<Batch>;

  struct Request {
    Batches::iterator batch;
    std::uint32_t number = 0;
    std::uint64_t begun_bytes = 0;
    std::uint32_t pieces_in_flight = 0;
    int os_error = 0;  // the first
  };
  using Requests = std::list<Request>;

  // One transfer. `io` is what is left of it.
  struct Piece {
    IoRequest io{};
    std::uint64_t budget_bytes = 0;
    std::uint32_t fruitless = 0;  // tries in a row that moved nothing
    Requests::iterator request;
    std::list<Piece>::iterator self;
  };

  struct Answer {
    Batches::iterator batch;
    std::uint32_t request = 0;
    IoAnswer answer{};
  };

  enum class Verdict : std::uint8_t { kOver, kTryAgain };

  explicit PieceQueue(PieceLimits limits);
  PieceQueue(PieceQueue const&) = delete;
  PieceQueue& operator=(PieceQueue const&) = delete;

  void push(std::vector<IoRequest> requests, IoDone done);
  // Answers what has not begun with ECANCELED; what has begun goes on to its end.
  void cancel_waiting();

  // The next piece to begin, which is in flight from now on; null: nothing waits, or the limits are
  // reached. Valid until settle() says that it is over.
  [[nodiscard]] Piece* next();

  // What a try of the piece came to: bytes moved, or -errno. kTryAgain: piece.io was shortened by
  // what was moved and is to be tried again. `alignment_bytes` of its file: what is left begins at
  // a multiple of it, or the kernel would refuse it.
  [[nodiscard]] Verdict settle(Piece& piece, std::int64_t result, std::uint32_t alignment_bytes);

  // Answers to deliver, without a lock; then delivered() gives the batches that are over, to be
  // destroyed without a lock too, as their callbacks may own anything.
  [[nodiscard]] std::vector<Answer> take_answers();
  [[nodiscard]] Batches delivered(std::vector<Answer> const& answers);

  [[nodiscard]] bool has_answers() const noexcept { return !answers_.empty(); }
  // Nothing waits, is in flight, or is to be delivered.
  [[nodiscard]] bool idle() const noexcept { return batches_.empty(); }
  [[nodiscard]] std::uint64_t bytes_in_flight() const noexcept { return bytes_in_flight_; }

 private:
  [[nodiscard]] bool find_request();
  void answer_if_over(Requests::iterator request);
  void answer(Batches::iterator batch, std::uint32_t request, int os_error);

  PieceLimits const limits_;
  Batches batches_;  // in order of arrival
  // The first with a request that has not begun; end(): all have.
  Batches::iterator waiting_ = batches_.end();
  Requests requests_;
  // The one that is being cut; end(): none.
  Requests::iterator cutting_ = requests_.end();
  std::list<Piece> in_flight_;
  std::list<Piece> spare_;  // so that a piece costs no allocation
  std::uint64_t bytes_in_flight_ = 0;
  std::vector<Answer> answers_;
};

}  // namespace lmcache::detail
