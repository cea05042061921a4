// SPDX-License-Identifier: Apache-2.0
// The threads and queues behind HostCopier.
//
// Invariants, all under mutex_:
//  * a batch is in its queue exactly while it has bytes to hand out or empty items to report;
//  * a batch with pieces in flight has threads that copy or report without the lock; when it is
//  over,
//    nobody but the thread that made it so still refers to it, and only then may it be erased;
//  * a background piece is handed out only while no foreground batch waits for a thread.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <vector>

#include <lmcache/base/result.hpp>
#include <lmcache/device/batch_walk.hpp>
#include <lmcache/device/copy_tally.hpp>
#include <lmcache/device/host_copier.hpp>

namespace lmcache::detail {

// Thread-safe, but for start() and the destructor, which drains.
class CopyPool {
 public:
  explicit CopyPool(HostCopierOptions options) : options_{options} {}
  CopyPool(CopyPool const&) = delete;
  CopyPool& operator=(CopyPool const&) = delete;
  ~CopyPool();

  // Once, before anything else. kUnavailable: a thread could not be started.
  [[nodiscard]] Result<void> start();

  // As the methods of DeviceCopier of the same names.
  [[nodiscard]] CopyTicket submit(CopyBatch batch);
  [[nodiscard]] std::optional<CopyProgress> progress(CopyTicket ticket) const;
  [[nodiscard]] CopyStatus item_status(CopyTicket ticket, std::uint32_t item) const;
  [[nodiscard]] std::optional<CopyProgress> wait(CopyTicket ticket, std::uint32_t planes,
                                                 CopyDeadline deadline);
  void cancel(CopyTicket ticket);
  void retire(CopyTicket ticket);

 private:
  using Lock = std::unique_lock<std::mutex>;

  struct Batch {
    explicit Batch(CopyBatch&& batch);
    [[nodiscard]] bool has_work() const { return !walk.at_end() || !empty_items.empty(); }

    std::uint64_t id = 0;
    CopyPriority priority;
    CopyTally tally;
    CopyItemDone on_item;  // never changed, so it may be called without the lock
    std::vector<std::uint32_t> empty_items;
    BatchWalk walk;
    std::uint64_t piece_bytes = 0;
    std::uint32_t in_flight = 0;
    // Fewest planes that somebody waits for. Nobody is woken before they are there: each wake-up
    // takes a CPU from a copy, and a batch has tens of planes.
    std::uint32_t awaited_planes = std::numeric_limits<std::uint32_t>::max();
    bool cancelled = false;
    bool retired = false;
  };

  struct Queue {
    std::deque<Batch*> batches;
    std::condition_variable wake;
  };

  Queue& queue(CopyPriority priority) { return queues_[static_cast<std::size_t>(priority)]; }
  [[nodiscard]] Batch* find(CopyTicket ticket) const;
  [[nodiscard]] bool may_take(CopyPriority priority);
  void leave_queue(Batch& batch);
  void run(CopyPriority priority);
  // Calls the callback without the lock, then settles.
  void report(Lock& lock, Batch& batch, std::vector<std::uint32_t> const& items, CopyStatus status);
  // For the caller to destroy without the lock: its runs are many, and its callback may own
  // anything.
  [[nodiscard]] std::unique_ptr<Batch> take_if_finished(Batch& batch);

  HostCopierOptions const options_;
  mutable std::mutex mutex_;  // guards all below but threads_
  std::condition_variable
      changed_;  // planes that are awaited arrived, a batch is over, a cancelled one came to rest
  std::array<Queue, 2> queues_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Batch>> batches_;
  std::uint64_t last_id_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace lmcache::detail
