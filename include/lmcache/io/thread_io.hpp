// SPDX-License-Identifier: Apache-2.0
// File I/O by a pool of threads that wait in pread(2) and pwrite(2): for where io_uring is refused.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <lmcache/base/result.hpp>
#include <lmcache/io/async_file_io.hpp>
#include <lmcache/io/file_table.hpp>
#include <lmcache/io/piece_queue.hpp>

namespace lmcache {

struct ThreadOptions {
  std::uint64_t depth_bytes = 32ULL << 20;
  std::uint64_t piece_bytes = detail::kPieceBytes;
  std::uint32_t threads = 8;  // transfers in flight at most
  IoResultHook on_result{};   // tests only
};

// Answers come on its threads, "lmc-io-<n>", several at a time. Thread-safe. The destructor waits:
// requests that have begun are finished, the others are answered with ECANCELED.
class ThreadIo final : public AsyncFileIo {
 public:
  // kUnavailable: a thread could not be started. kInvalidArgument: no depth, or threads not in
  // 1..256.
  [[nodiscard]] static Result<std::unique_ptr<ThreadIo>> create(ThreadOptions options);
  explicit ThreadIo(ThreadOptions options);  // for create(), which starts the threads
  ~ThreadIo() override;

 private:
  using Lock = std::unique_lock<std::mutex>;

  [[nodiscard]] Result<IoFile> do_add_file(int fd) override;
  void do_remove_file(IoFile file) override;
  void do_submit(Batch batch) override;
  void do_register_memory(std::byte* /*data*/, std::uint64_t /*size_bytes*/) override {}
  [[nodiscard]] IoTraits do_traits() const noexcept override;

  [[nodiscard]] Result<void> start();
  void run();
  // Both give the lock up meanwhile.
  void move(Lock& lock, detail::PieceQueue::Piece& piece);
  void deliver(Lock& lock);

  ThreadOptions const options_;
  std::mutex mutex_;  // guards all below but threads_
  std::condition_variable wake_;
  detail::FileTable files_;
  detail::PieceQueue queue_;
  bool closing_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace lmcache
