// SPDX-License-Identifier: Apache-2.0
// An engine that moves no more than so many bytes per second: to spare a shared disk.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <lmcache/base/result.hpp>
#include <lmcache/io/async_file_io.hpp>
#include <lmcache/io/token_bucket.hpp>

namespace lmcache {

struct ThrottleOptions {
  std::uint64_t bytes_per_second = 0;       // of reads and writes together
  std::uint64_t burst_bytes = 32ULL << 20;  // may go at once after a pause
};

// Hands requests on to `inner` when they are due, in order, from a thread of its own,
// "lmc-io-limit"; a sync costs nothing but waits its turn. Thread-safe. The destructor answers what
// is not due yet with ECANCELED, and then destroys `inner`.
class ThrottledIo final : public AsyncFileIo {
 public:
  // kInvalidArgument: no rate. kUnavailable: no thread.
  [[nodiscard]] static Result<std::unique_ptr<ThrottledIo>> create(
      std::unique_ptr<AsyncFileIo> inner, ThrottleOptions options);
  // For create(), which starts the thread.
  ThrottledIo(std::unique_ptr<AsyncFileIo> inner, ThrottleOptions options);
  ~ThrottledIo() override;

 private:
  using Lock = std::unique_lock<std::mutex>;

  struct Open {
    IoDone done;
    std::size_t unanswered = 0;
  };
  using OpenBatches = std::list<Open>;
  struct Waiting {
    IoRequest io;
    OpenBatches::iterator batch;
    std::uint32_t number = 0;
    std::int64_t due_ns = 0;
  };

  [[nodiscard]] Result<IoFile> do_add_file(int fd) override { return target_.add_file(fd); }
  void do_remove_file(IoFile file) override { target_.remove_file(file); }
  void do_submit(Batch batch) override;
  void do_register_memory(std::byte* data, std::uint64_t size_bytes) override {
    target_.register_memory(data, size_bytes);
  }
  [[nodiscard]] IoTraits do_traits() const noexcept override { return target_.traits(); }

  [[nodiscard]] Result<void> start();
  void run();
  // The requests at the head of the queue that may go; waits for the first. Empty: closing.
  [[nodiscard]] std::vector<Waiting> wait_for_due(Lock& lock);
  void hand_on(std::vector<Waiting> due);
  void answer(Waiting const& request, IoAnswer given);

  std::mutex mutex_;  // guards all below but thread_
  std::condition_variable wake_;
  OpenBatches open_batches_;
  std::deque<Waiting> waiting_;  // due_ns never falls
  detail::TokenBucket bucket_;
  bool closing_ = false;
  std::thread thread_;
  AsyncFileIo& target_;
  // Destroyed first, as its last answers need all above.
  std::unique_ptr<AsyncFileIo> inner_;
};

}  // namespace lmcache
