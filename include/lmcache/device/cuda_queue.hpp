// SPDX-License-Identifier: Apache-2.0
// The batches of CudaCopier, and the thread that puts them on the device and sees them end.
//
// Invariants, all under mutex_:
//  * a batch is in its lane's queue exactly while it has pieces to put on the stream, or empty
//  items
//    to report;
//  * `in_flight` counts the pieces of a batch on the device and the visit of our thread; while it
//  is
//    not 0 the device or our thread may touch the batch's memory;
//  * a batch is erased only when it is retired, over, and nobody is in it.
//
// One thread feeds both lanes and asks their events in order. It asks, since the alternatives are
// worse: a host function (cuLaunchHostFunc) holds up its stream until it returns and is not called
// after an error; a wait for an event (cuEventSynchronize) keeps the thread from feeding.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
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

#include <lmcache/base/cuda_api.hpp>
#include <lmcache/base/log.hpp>
#include <lmcache/base/result.hpp>
#include <lmcache/device/batch_walk.hpp>
#include <lmcache/device/copy_tally.hpp>
#include <lmcache/device/cuda_events.hpp>
#include <lmcache/device/cuda_lane.hpp>
#include <lmcache/device/cuda_pieces.hpp>
#include <lmcache/device/device_copier.hpp>

namespace lmcache::detail {

// Thread-safe, but for start() and the destructor, which drains.
class CudaQueue {
 public:
  struct Setting {
    CudaApi const& api;
    CudaContext context = nullptr;
    CudaEvents& events;
    std::array<CudaLane*, 2> lanes = {};  // by CopyPriority
    CudaPieceSizes sizes = {};
    LogHook log = {};
  };

  explicit CudaQueue(Setting setting) : set_{std::move(setting)} {}
  CudaQueue(CudaQueue const&) = delete;
  CudaQueue& operator=(CudaQueue const&) = delete;
  ~CudaQueue();

  // Once, before anything else. kUnavailable: a thread could not be started.
  [[nodiscard]] Result<void> start();

  // As the methods of DeviceCopier of the same names. kUnavailable: CUDA is lost to this process.
  [[nodiscard]] Result<CopyTicket> submit(CopyBatch batch);
  [[nodiscard]] std::optional<CopyProgress> progress(CopyTicket ticket) const;
  [[nodiscard]] CopyStatus item_status(CopyTicket ticket, std::uint32_t item) const;
  [[nodiscard]] std::optional<CopyProgress> wait(CopyTicket ticket, std::uint32_t planes,
                                                 CopyDeadline deadline);
  [[nodiscard]] Result<bool> stream_wait(CopyTicket ticket, std::uint32_t planes,
                                         EngineStream stream, CopyDeadline deadline);
  void cancel(CopyTicket ticket);
  void retire(CopyTicket ticket);
  [[nodiscard]] bool off() const noexcept { return off_; }

 private:
  using Lock = std::unique_lock<std::mutex>;

  struct Batch {
    explicit Batch(CopyBatch&& batch);
    std::uint64_t id = 0;
    CopyPriority priority;
    CopyTally tally;
    CopyItemDone on_item;  // never changed, so it may be called without the lock
    std::vector<std::uint32_t> empty_items;
    PlaneEvents planes;
    // Both of our thread, without the lock.
    CudaPieces pieces;
    CudaEvent engine_event = nullptr;  // null: nothing to wait for, or it was waited for

    std::vector<CudaEvent> events;  // all that it took, given back when it is erased
    std::uint32_t in_flight = 0;
    std::uint32_t users = 0;  // threads that use its events without the lock
    std::uint32_t awaited_planes = std::numeric_limits<std::uint32_t>::max();
    bool cancelled = false;
    bool failed = false;
    bool retired = false;
  };
  struct Flight {
    Batch* batch = nullptr;
    CudaPiece piece = {};
  };
  struct LaneState {
    CudaLane* lane = nullptr;
    std::deque<Batch*> queue = {};
    std::deque<Flight> flights = {};
  };

  [[nodiscard]] Batch* find(CopyTicket ticket) const;
  LaneState& lane_of(Batch const& batch) {
    return lanes_[static_cast<std::size_t>(batch.priority)];
  }
  void leave_queue(Batch& batch);
  [[nodiscard]] Result<CudaEvent> engine_event(EngineStream stream);

  void run();
  void pause(Lock& lock);
  [[nodiscard]] bool feed(Lock& lock, LaneState& state);
  // Of the next piece, which is in `piece` if it is on the stream.
  [[nodiscard]] CudaLane::Begun begin_piece(CudaLane& lane, Batch& batch, CudaPiece& piece) const;
  [[nodiscard]] bool collect(Lock& lock, LaneState& state);
  // kNotReady: it has not ended. Else it has, whether or not it succeeded; sticky: it never will.
  [[nodiscard]] CudaStatus ended(CudaLane const& lane, CudaPiece& piece) const;
  // No copies of it any more: those on the device end, and then it has failed.
  void fail(Batch& batch);
  void switch_off(Lock& lock, CudaStatus status);
  // Our thread has done with the batch, or one of its pieces has ended.
  void leave(Lock& lock, Batch& batch);
  void report(Lock& lock, Batch& batch, std::vector<std::uint32_t> const& items, CopyStatus status);
  [[nodiscard]] std::unique_ptr<Batch> take_if_finished(Batch& batch);

  Setting const set_;
  std::atomic<bool> off_{false};
  mutable std::mutex mutex_;  // guards all below but thread_
  std::condition_variable wake_;
  std::condition_variable changed_;  // planes that are awaited arrived or are on their way, a batch
                                     // is over, a cancelled one came to rest
  std::array<LaneState, 2> lanes_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Batch>> batches_;
  std::uint64_t last_id_ = 0;
  CudaStatus lost_ = CudaStatus::kSuccess;  // seen by a thread that is not ours
  std::uint32_t stream_waiters_ = 0;
  bool news_ = false;
  bool stopping_ = false;
  std::chrono::microseconds pause_{20};
  std::thread thread_;
};

}  // namespace lmcache::detail
