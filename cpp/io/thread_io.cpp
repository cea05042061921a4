// SPDX-License-Identifier: Apache-2.0
#include <lmcache/io/thread_io.hpp>

#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include <lmcache/base/worker_thread.hpp>
#include <lmcache/io/io_file.hpp>

namespace lmcache {
namespace {

using detail::PieceQueue;

// Bytes moved, or -errno.
std::int64_t transfer(int fd, IoRequest const& io) noexcept {
  if (fd < 0) return -EBADF;
  auto const offset = static_cast<off_t>(io.offset);
  auto const size = static_cast<std::size_t>(io.size_bytes);
  std::int64_t result = 0;
  switch (io.op) {
    case IoOp::kRead:
      result = ::pread(fd, io.data, size, offset);
      break;
    case IoOp::kWrite:
      result = ::pwrite(fd, io.data, size, offset);
      break;
    case IoOp::kSync:
      result = ::fdatasync(fd);
      break;
  }
  return result < 0 ? -errno : result;
}

}  // namespace

Result<std::unique_ptr<ThreadIo>> ThreadIo::create(ThreadOptions options) {
  constexpr std::uint32_t kMostThreads = 256;
  if (options.depth_bytes == 0) {
    return Error{ErrorCode::kInvalidArgument, "I/O threads: depth_bytes is 0"};
  }
  if (options.threads == 0 || options.threads > kMostThreads) {
    return Error{ErrorCode::kInvalidArgument,
                 "I/O threads: " + std::to_string(options.threads) + " is not in 1..256"};
  }
  auto io = std::make_unique<ThreadIo>(std::move(options));
  LMC_TRY(io->start());
  return io;
}

ThreadIo::ThreadIo(ThreadOptions options)
    : options_{std::move(options)},
      queue_{{.depth_bytes = options_.depth_bytes,
              .piece_bytes = options_.piece_bytes,
              .pieces = options_.threads}} {}

Result<void> ThreadIo::start() {
  for (std::uint32_t i = 0; i < options_.threads; ++i) {
    LMC_TRY_ASSIGN(std::thread thread,
                   start_worker_thread({.name = "lmc-io-" + std::to_string(i)}, [this] { run(); }));
    threads_.push_back(std::move(thread));
  }
  return {};
}

ThreadIo::~ThreadIo() {
  {
    Lock const lock{mutex_};
    closing_ = true;
    queue_.cancel_waiting();
    wake_.notify_all();
  }
  for (std::thread& thread : threads_) thread.join();
}

Result<IoFile> ThreadIo::do_add_file(int fd) {
  detail::FileTable::Slot const slot{.fd = fd, .alignment_bytes = io_alignment_bytes(fd)};
  Lock const lock{mutex_};
  return files_.add(slot);
}

void ThreadIo::do_remove_file(IoFile file) {
  Lock const lock{mutex_};
  files_.remove(file);
}

void ThreadIo::do_submit(Batch batch) {
  Lock const lock{mutex_};
  queue_.push(std::move(batch.requests), std::move(batch.done));
  if (closing_) queue_.cancel_waiting();
  // Under the lock: once it is free, the answers may be there, and who got them may destroy us.
  wake_.notify_one();
}

IoTraits ThreadIo::do_traits() const noexcept {
  return {.name = "threads", .depth_bytes = options_.depth_bytes};
}

void ThreadIo::run() {
  Lock lock{mutex_};
  for (;;) {
    PieceQueue::Piece* piece = nullptr;
    wake_.wait(lock, [&] {
      piece = queue_.next();
      return piece != nullptr || queue_.has_answers() || (closing_ && queue_.idle());
    });
    if (piece != nullptr) {
      // Whoever takes work wakes the next thread, which finds more of it or goes back to sleep.
      wake_.notify_one();
      move(lock, *piece);
      wake_.notify_one();  // the depth has room again, and delivering may take a while
    }
    deliver(lock);
    if (closing_ && queue_.idle()) {
      wake_.notify_all();
      return;
    }
  }
}

void ThreadIo::move(Lock& lock, PieceQueue::Piece& piece) {
  for (;;) {
    auto const file = files_.find(piece.io.file);
    IoRequest const io = piece.io;
    lock.unlock();
    std::int64_t result = transfer(file.fd, io);
    if (options_.on_result) result = options_.on_result(io, result);
    lock.lock();
    if (queue_.settle(piece, result, file.alignment_bytes) == PieceQueue::Verdict::kOver) return;
  }
}

void ThreadIo::deliver(Lock& lock) {
  if (!queue_.has_answers()) return;
  auto const answers = queue_.take_answers();
  lock.unlock();
  for (auto const& given : answers) given.batch->done(given.request, given.answer);
  lock.lock();
  auto over = queue_.delivered(answers);
  if (over.empty()) return;
  lock.unlock();
  over.clear();
  lock.lock();
}

}  // namespace lmcache
