// SPDX-License-Identifier: Apache-2.0
#include <lmcache/io/uring_io.hpp>

#include <liburing.h>
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <future>
#include <mutex>
#include <span>
#include <thread>
#include <utility>

#include <lmcache/base/worker_thread.hpp>
#include <lmcache/io/file_table.hpp>
#include <lmcache/io/io_file.hpp>
#include <lmcache/io/piece_queue.hpp>

#include "io/uring_inbox.hpp"
#include "io/uring_ring.hpp"
#include "io/uring_tables.hpp"

namespace lmcache {
namespace {

using detail::PieceQueue;

// For the wake-up, which is always in flight.
constexpr std::uint32_t kOwnEntries = 1;

// All that the ring's thread owns. One thread: "lmc-io".
class RingThread {
 public:
  struct Traits {
    std::atomic<bool> registered_files{false};
    std::atomic<bool> registered_memory{false};
  };

  RingThread(detail::UringRing ring, UringOptions const& options, detail::PieceLimits limits,
             detail::UringInbox& inbox, Traits& traits)
      : on_result_{options.on_result},
        inbox_{inbox},
        traits_{traits},
        ring_{std::move(ring)},
        files_{ring_.get(), options.register_files},
        memory_{ring_.get(), options.register_memory},
        queue_{limits} {
    traits_.registered_files = files_.has_table();
    listen();
  }

  void run() {
    for (;;) {
      open_letters();
      while (PieceQueue::Piece* piece = queue_.next()) begin(*piece);
      if (closing_ && queue_.idle()) return;
      bool const busy = queue_.has_answers() || (memory_.has_waiting() && !closing_);
      // Before the answers are delivered, so that the disk has work meanwhile.
      ring_.enter(busy ? detail::UringRing::Wait::kNo : detail::UringRing::Wait::kForOne);
      deliver();
      if (!closing_) register_memory();
      reap();
    }
  }

 private:
  void listen() {
    io_uring_sqe* const entry = io_uring_get_sqe(&ring_.get());
    io_uring_prep_poll_add(entry, inbox_.fd(), POLLIN);
    io_uring_sqe_set_data(entry, nullptr);
  }

  void open_letters() {
    auto letters = inbox_.take();
    for (auto const& change : letters.files) files_.set(change.file, change.slot);
    for (auto const& memory : letters.memory) memory_.add(memory);
    for (auto& batch : letters.batches) {
      queue_.push(std::move(batch.requests), std::move(batch.done));
    }
    closing_ = letters.close;
    if (closing_) queue_.cancel_waiting();
  }

  void begin(PieceQueue::Piece& piece) {
    IoRequest const& io = piece.io;
    auto const target = files_.find(io.file);
    if (target.fd < 0) {
      settle(piece, -EBADF);
      return;
    }
    // Never null: there are as many entries as pieces, and ours.
    io_uring_sqe* const entry = io_uring_get_sqe(&ring_.get());
    auto const size = static_cast<unsigned>(io.size_bytes);
    auto const buffer = io.op == IoOp::kSync ? std::nullopt : memory_.find(io.data, io.size_bytes);
    switch (io.op) {
      case IoOp::kRead:
        if (buffer) {
          io_uring_prep_read_fixed(entry, target.fd, io.data, size, io.offset, *buffer);
        } else {
          io_uring_prep_read(entry, target.fd, io.data, size, io.offset);
        }
        break;
      case IoOp::kWrite:
        if (buffer) {
          io_uring_prep_write_fixed(entry, target.fd, io.data, size, io.offset, *buffer);
        } else {
          io_uring_prep_write(entry, target.fd, io.data, size, io.offset);
        }
        break;
      case IoOp::kSync:
        io_uring_prep_fsync(entry, target.fd, IORING_FSYNC_DATASYNC);
        break;
    }
    unsigned flags = target.registered ? IOSQE_FIXED_FILE : 0U;
    // EAGAIN came of a try that must not wait; the kernel's own threads may.
    if (piece.fruitless != 0) flags |= IOSQE_ASYNC;
    io_uring_sqe_set_flags(entry, flags);
    io_uring_sqe_set_data(entry, &piece);
  }

  void reap() {
    for (;;) {
      io_uring_cqe* seen = nullptr;
      if (io_uring_peek_cqe(&ring_.get(), &seen) != 0 || seen == nullptr) return;
      auto* const piece = static_cast<PieceQueue::Piece*>(io_uring_cqe_get_data(seen));
      std::int64_t result = seen->res;
      io_uring_cqe_seen(&ring_.get(), seen);
      if (piece == nullptr) {
        inbox_.heard();
        listen();
        continue;
      }
      if (on_result_) result = on_result_(piece->io, result);
      settle(*piece, result);
    }
  }

  void settle(PieceQueue::Piece& piece, std::int64_t result) {
    std::uint32_t const alignment = files_.find(piece.io.file).alignment_bytes;
    if (queue_.settle(piece, result, alignment) == PieceQueue::Verdict::kTryAgain) begin(piece);
  }

  void deliver() {
    if (!queue_.has_answers()) return;
    auto const answers = queue_.take_answers();
    for (auto const& given : answers) given.batch->done(given.request, given.answer);
    (void)queue_.delivered(answers);
  }

  void register_memory() {
    if (!memory_.has_waiting()) return;
    memory_.register_next();
    if (memory_.registered_parts() != 0) traits_.registered_memory = true;
  }

  IoResultHook const& on_result_;
  detail::UringInbox& inbox_;
  Traits& traits_;
  detail::UringRing ring_;
  detail::UringFiles files_;
  detail::UringMemory memory_;
  PieceQueue queue_;
  bool closing_ = false;
};

}  // namespace

// What lies between the callers and the ring's thread. Thread-safe.
class UringIo::Engine {
 public:
  explicit Engine(UringOptions options) : options_{std::move(options)} {}
  Engine(Engine const&) = delete;
  Engine& operator=(Engine const&) = delete;
  ~Engine() { stop(); }

  void stop() {
    if (!thread_.joinable()) return;
    inbox_.close();
    thread_.join();
  }

  Result<void> start() {
    LMC_TRY(inbox_.open());
    auto started = started_.get_future();
    LMC_TRY_ASSIGN(thread_, start_worker_thread({.name = "lmc-io"}, [this] { run(); }));
    return started.get();
  }

  Result<IoFile> add_file(int fd) {
    detail::FileTable::Slot const slot{.fd = fd, .alignment_bytes = io_alignment_bytes(fd)};
    // Put under the lock: a number's changes must reach the ring in their order.
    std::lock_guard const lock{mutex_};
    auto file = files_.add(slot);
    if (file) inbox_.put({.file = file.value(), .slot = slot});
    return file;
  }
  void remove_file(IoFile file) {
    std::lock_guard const lock{mutex_};
    if (files_.find(file).fd < 0) return;
    files_.remove(file);
    inbox_.put({.file = file, .slot = {}});
  }

  detail::UringInbox& inbox() noexcept { return inbox_; }
  IoTraits traits() const noexcept {
    return {.name = "io_uring",
            .registered_files = traits_.registered_files,
            .registered_buffers = traits_.registered_memory,
            .depth_bytes = options_.depth_bytes};
  }

 private:
  // The ring is made on its thread: the kernel takes its first user for the only one.
  void run() {
    auto ring = detail::UringRing::create(options_.entries);
    if (!ring) {
      started_.set_value(std::move(ring).error());
      return;
    }
    std::uint32_t const entries = ring.value().entries();
    RingThread thread{std::move(ring).value(),
                      options_,
                      {.depth_bytes = options_.depth_bytes,
                       .piece_bytes = options_.piece_bytes,
                       .pieces = entries - kOwnEntries},
                      inbox_,
                      traits_};
    started_.set_value({});
    thread.run();
  }

  UringOptions const options_;
  detail::UringInbox inbox_;
  RingThread::Traits traits_;
  std::mutex mutex_;  // guards files_
  detail::FileTable files_;
  std::promise<Result<void>> started_;
  std::thread thread_;
};

Result<std::unique_ptr<UringIo>> UringIo::create(UringOptions options) {
  constexpr std::uint32_t kFewestEntries = 2;
  constexpr std::uint32_t kMostEntries = 4096;
  options.entries = std::clamp(options.entries, kFewestEntries, kMostEntries);
  if (options.depth_bytes == 0) {
    return Error{ErrorCode::kInvalidArgument, "io_uring: depth_bytes is 0"};
  }
  auto engine = std::make_unique<Engine>(std::move(options));
  LMC_TRY(engine->start());
  return std::make_unique<UringIo>(std::move(engine));
}

UringIo::UringIo(std::unique_ptr<Engine> engine) : engine_{std::move(engine)} {}
// Stopped while all of us is there: a last `done` may submit.
UringIo::~UringIo() { engine_->stop(); }

Result<IoFile> UringIo::do_add_file(int fd) { return engine_->add_file(fd); }
void UringIo::do_remove_file(IoFile file) { engine_->remove_file(file); }
void UringIo::do_submit(Batch batch) {
  engine_->inbox().put(detail::UringInbox::Batch{.requests = std::move(batch.requests),
                                                 .done = std::move(batch.done)});
}
void UringIo::do_register_memory(std::byte* data, std::uint64_t size_bytes) {
  engine_->inbox().put(std::span{data, static_cast<std::size_t>(size_bytes)});
}
IoTraits UringIo::do_traits() const noexcept { return engine_->traits(); }

}  // namespace lmcache
