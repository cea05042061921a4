// SPDX-License-Identifier: Apache-2.0
// What the thread of CudaQueue does.
#include <algorithm>
#include <chrono>
#include <utility>

#include <lmcache/base/cuda_error.hpp>
#include <lmcache/device/cuda_queue.hpp>

namespace lmcache::detail {
namespace {

constexpr auto kOk = CudaStatus::kSuccess;
// Between two looks at events that are not there yet: short at first, for copies of a few hundred
// kilobytes; then longer, for a store that waits for a prefill.
constexpr std::chrono::microseconds kFirstPause{20};
constexpr std::chrono::microseconds kLongestPause{200};

}  // namespace

void CudaQueue::run() {
  CudaScope const scope{set_.api, set_.context};
  Lock lock{mutex_};
  if (scope.status() != kOk) lost_ = scope.status();
  LaneState& foreground = lanes_[static_cast<std::size_t>(CopyPriority::kForeground)];
  LaneState& background = lanes_[static_cast<std::size_t>(CopyPriority::kBackground)];
  for (;;) {
    if (lost_ != kOk) switch_off(lock, lost_);
    // Background pieces go on the device only when there is no foreground piece to put there.
    bool moved = feed(lock, foreground) || feed(lock, background);
    moved = collect(lock, foreground) || moved;
    moved = collect(lock, background) || moved;
    if (moved) {
      pause_ = kFirstPause;
      continue;
    }
    bool const idle = std::all_of(lanes_.begin(), lanes_.end(), [](LaneState const& state) {
      return state.queue.empty() && state.flights.empty();
    });
    if (idle && stopping_) return;
    if (idle) {
      wake_.wait(lock, [&] { return news_; });
    } else {
      pause(lock);
    }
    news_ = stopping_;
  }
}

void CudaQueue::pause(Lock& lock) {
  wake_.wait_for(lock, pause_, [&] { return news_ && !stopping_; });
  pause_ = std::min(2 * pause_, kLongestPause);
}

bool CudaQueue::feed(Lock& lock, LaneState& state) {
  if (state.queue.empty()) return false;
  Batch& batch = *state.queue.front();
  ++batch.in_flight;  // while our thread is in it
  std::vector<std::uint32_t> const empty_items = std::exchange(batch.empty_items, {});
  bool moved = !empty_items.empty();
  CudaLane::Begun begun;
  CudaPiece piece;
  lock.unlock();
  if (!batch.pieces.at_end()) begun = begin_piece(*state.lane, batch, piece);
  bool const at_end = batch.pieces.at_end();
  lock.lock();

  if (piece.event != nullptr) {
    moved = true;
    batch.events.push_back(piece.event);
    bool const grew = !piece.failed && batch.planes.issued(piece);
    if (grew && stream_waiters_ > 0) changed_.notify_all();
    ++batch.in_flight;
    state.flights.push_back({.batch = &batch, .piece = std::move(piece)});
  }
  if (begun.status != kOk) {
    moved = true;
    if (is_sticky(begun.status)) {
      lost_ = begun.status;  // switch_off() fails the batch, when nothing is taken any more
    } else {
      fail(batch);
    }
  } else if (at_end) {
    moved = true;
    leave_queue(batch);
  }
  report(lock, batch, empty_items, CopyStatus::kCopied);
  leave(lock, batch);
  return moved;
}

CudaLane::Begun CudaQueue::begin_piece(CudaLane& lane, Batch& batch, CudaPiece& piece) const {
  if (batch.engine_event != nullptr) {
    CudaStatus const status = lane.wait_for(batch.engine_event);
    if (status != kOk) return {.status = status};
    batch.engine_event = nullptr;
  }
  CudaPiece& next = batch.pieces.front(set_.sizes);
  auto const begun = lane.begin(next);
  if (begun.room == LaneRoom::kBegun) piece = batch.pieces.pop();
  return begun;
}

void CudaQueue::fail(Batch& batch) {
  batch.failed = true;
  leave_queue(batch);
  changed_.notify_all();  // who waits for its planes
}

bool CudaQueue::collect(Lock& lock, LaneState& state) {
  if (state.flights.empty()) return false;
  CudaPiece& piece = state.flights.front().piece;  // a deque's elements stay put
  lock.unlock();
  CudaStatus const status = ended(*state.lane, piece);
  if (status == kOk) state.lane->finish(piece);
  lock.lock();
  if (status == CudaStatus::kNotReady) return false;
  if (status != kOk) {
    lost_ = status;
    return true;
  }
  Flight const flight = std::move(state.flights.front());
  state.flights.pop_front();
  Batch& batch = *flight.batch;
  if (flight.piece.failed) {
    fail(batch);
  } else {
    std::vector<std::uint32_t> whole_items;
    if (batch.tally.arrived(flight.piece.parts, whole_items) &&
        batch.tally.progress().planes_arrived >= batch.awaited_planes) {
      changed_.notify_all();
    }
    report(lock, batch, whole_items, CopyStatus::kCopied);
  }
  leave(lock, batch);
  return true;
}

CudaStatus CudaQueue::ended(CudaLane const& lane, CudaPiece& piece) const {
  CudaStatus status = set_.api.event_query(piece.event);
  if (status == kOk || status == CudaStatus::kNotReady || is_sticky(status)) return status;
  // It cannot be asked for: the stream is waited for instead. What cannot be told to have arrived
  // has not.
  piece.failed = true;
  status = set_.api.stream_synchronize(lane.stream());
  return status == kOk || is_sticky(status) ? status : CudaStatus::kUnknown;
}

void CudaQueue::leave(Lock& lock, Batch& batch) {
  --batch.in_flight;
  if (batch.cancelled) changed_.notify_all();
  if (batch.failed && !batch.cancelled && batch.in_flight == 0 && !batch.tally.over()) {
    ++batch.in_flight;
    report(lock, batch, batch.tally.pending_items(), CopyStatus::kFailed);
    --batch.in_flight;
    if (batch.cancelled) changed_.notify_all();
  }
  if (auto finished = take_if_finished(batch)) {
    lock.unlock();
    finished.reset();
    lock.lock();
  }
}

// Nothing moves on a device whose context is lost, so no event is waited for.
void CudaQueue::switch_off(Lock& lock, CudaStatus status) {
  lost_ = kOk;
  if (!off_) {
    lock.unlock();
    lmcache::log(set_.log, LogLevel::kError,
                 "copies by CUDA are off: " + cuda_error_text(set_.api, status) +
                     "; what was in flight is recomputed");
    lock.lock();
    off_ = true;  // told before, so that who finds it off finds the line, too
  }
  for (LaneState& state : lanes_) {
    while (!state.queue.empty() || !state.flights.empty()) {
      bool const flying = !state.flights.empty();
      Batch& batch = flying ? *state.flights.front().batch : *state.queue.front();
      if (flying) {
        state.flights.pop_front();
      } else {
        ++batch.in_flight;
      }
      fail(batch);
      leave(lock, batch);
    }
  }
}

}  // namespace lmcache::detail
