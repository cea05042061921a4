// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/cuda_queue.hpp>

#include <algorithm>
#include <utility>

#include <lmcache/base/cuda_error.hpp>
#include <lmcache/base/worker_thread.hpp>

namespace lmcache::detail {
namespace {

constexpr auto kOk = CudaStatus::kSuccess;

Error cuda_is_off() {
  return Error{ErrorCode::kUnavailable, "copies by CUDA are off after an error of the device"};
}

}  // namespace

CudaQueue::Batch::Batch(CopyBatch&& batch)
    : priority{batch.priority},
      tally{batch.plane_count, batch.items},
      on_item{std::move(batch.on_item)},
      empty_items{tally.empty_items()},
      planes{batch.plane_count, batch.items},
      pieces{batch.direction,
             BatchWalk{batch.direction, batch.plane_count, std::move(batch.items)}} {}

Result<void> CudaQueue::start() {
  for (std::size_t i = 0; i < lanes_.size(); ++i) lanes_[i].lane = set_.lanes[i];
  LMC_TRY_ASSIGN(thread_, start_worker_thread({.name = "lmc-cuda"}, [this] { run(); }));
  return {};
}

CudaQueue::~CudaQueue() {
  {
    Lock const lock{mutex_};
    stopping_ = news_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  for (auto const& entry : batches_) {
    for (CudaEvent const event : entry.second->events) set_.events.give(event);
  }
}

Result<CudaEvent> CudaQueue::engine_event(EngineStream stream) {
  CudaScope const scope{set_.api, set_.context};
  CudaStatus status = scope.status();
  CudaEvent event = nullptr;
  if (status == kOk) status = set_.events.take(event);
  if (status == kOk) {
    status = set_.api.event_record(event, reinterpret_cast<CudaStream>(stream.handle));
  }
  if (status == kOk) return event;
  set_.events.give(event);
  if (is_sticky(status)) {
    Lock const lock{mutex_};
    lost_ = status;
    news_ = true;
    wake_.notify_one();
  }
  return cuda_failure(set_.api, "an event on the engine's stream", status);
}

Result<CopyTicket> CudaQueue::submit(CopyBatch batch) {
  if (off_) return cuda_is_off();
  CudaEvent event = nullptr;
  if (batch.engine_stream) {
    LMC_TRY_ASSIGN(event, engine_event(*batch.engine_stream));
  }
  auto made = std::make_unique<Batch>(std::move(batch));
  made->engine_event = event;
  if (event != nullptr) made->events.push_back(event);
  CopyTicket ticket;
  Lock const lock{mutex_};
  if (off_) {
    set_.events.give(event);
    return cuda_is_off();
  }
  ticket.id = made->id = ++last_id_;
  if (!made->pieces.at_end() || !made->empty_items.empty()) {
    lane_of(*made).queue.push_back(made.get());
    news_ = true;
    wake_.notify_one();
  }
  batches_.emplace(ticket.id, std::move(made));
  return ticket;
}

std::optional<CopyProgress> CudaQueue::progress(CopyTicket ticket) const {
  Lock const lock{mutex_};
  Batch const* batch = find(ticket);
  if (batch == nullptr) return std::nullopt;
  return batch->tally.progress();
}

CopyStatus CudaQueue::item_status(CopyTicket ticket, std::uint32_t item) const {
  Lock const lock{mutex_};
  Batch const* batch = find(ticket);
  return batch == nullptr ? CopyStatus::kCancelled : batch->tally.status(item);
}

std::optional<CopyProgress> CudaQueue::wait(CopyTicket ticket, std::uint32_t planes,
                                            CopyDeadline deadline) {
  Lock lock{mutex_};
  std::optional<CopyProgress> seen;
  if (Batch* const batch = find(ticket)) {
    batch->awaited_planes = std::min(batch->awaited_planes, planes);
  }
  changed_.wait_until(lock, deadline, [&] {
    Batch const* batch = find(ticket);  // each time anew: it may be retired meanwhile
    seen.reset();
    if (batch == nullptr) return true;
    seen = batch->tally.progress();
    return seen->over || seen->planes_arrived >= planes;
  });
  return seen;
}

Result<bool> CudaQueue::stream_wait(CopyTicket ticket, std::uint32_t planes, EngineStream stream,
                                    CopyDeadline deadline) {
  Lock lock{mutex_};
  Batch* batch = nullptr;
  ++stream_waiters_;
  bool const known = changed_.wait_until(lock, deadline, [&] {
    batch = find(ticket);
    if (batch == nullptr || batch->planes.planes_issued() >= planes) return true;
    return batch->failed || batch->cancelled;
  });
  --stream_waiters_;
  if (!known) return false;
  if (batch == nullptr) return Error{ErrorCode::kInvalidArgument, "unknown copy ticket"};
  if (batch->failed || batch->cancelled) {
    return Error{ErrorCode::kCancelled, "the planes never arrive"};
  }
  CudaEvent const event = planes == 0 ? nullptr : batch->planes.event(planes);
  if (event == nullptr) return true;
  ++batch->users;
  lock.unlock();
  CudaStatus status = kOk;
  {
    CudaScope const scope{set_.api, set_.context};
    status = scope.status();
    if (status == kOk) {
      status = set_.api.stream_wait_event(reinterpret_cast<CudaStream>(stream.handle), event, 0);
    }
  }
  std::unique_ptr<Batch> finished;
  lock.lock();
  --batch->users;
  finished = take_if_finished(*batch);
  lock.unlock();
  LMC_TRY(cuda_done(set_.api, "the engine's stream cannot wait for a plane", status));
  return true;
}

void CudaQueue::cancel(CopyTicket ticket) {
  std::unique_ptr<Batch> finished;
  Lock lock{mutex_};
  Batch* batch = find(ticket);
  if (batch == nullptr || batch->tally.over()) return;
  bool const first = !std::exchange(batch->cancelled, true);
  if (first) leave_queue(*batch);
  changed_.notify_all();  // who waits for its planes
  changed_.wait(lock, [&] {
    batch = find(ticket);
    if (batch == nullptr || batch->tally.over()) return true;
    return first && batch->in_flight == 0;
  });
  if (batch == nullptr || batch->tally.over()) return;
  report(lock, *batch, batch->tally.pending_items(), CopyStatus::kCancelled);
  finished = take_if_finished(*batch);
  lock.unlock();
}

void CudaQueue::retire(CopyTicket ticket) {
  std::unique_ptr<Batch> finished;
  Lock const lock{mutex_};
  Batch* batch = find(ticket);
  if (batch == nullptr) return;
  batch->retired = true;
  finished = take_if_finished(*batch);
}

CudaQueue::Batch* CudaQueue::find(CopyTicket ticket) const {
  auto const found = batches_.find(ticket.id);
  return found == batches_.end() ? nullptr : found->second.get();
}

void CudaQueue::leave_queue(Batch& batch) { std::erase(lane_of(batch).queue, &batch); }

std::unique_ptr<CudaQueue::Batch> CudaQueue::take_if_finished(Batch& batch) {
  if (!batch.retired || !batch.tally.over() || batch.in_flight != 0 || batch.users != 0) {
    return nullptr;
  }
  auto node = batches_.extract(batch.id);
  for (CudaEvent const event : node.mapped()->events) set_.events.give(event);
  return std::move(node.mapped());
}

void CudaQueue::report(Lock& lock, Batch& batch, std::vector<std::uint32_t> const& items,
                       CopyStatus status) {
  if (items.empty()) return;
  if (batch.on_item) {
    lock.unlock();
    for (std::uint32_t const item : items) batch.on_item(item, status);
    lock.lock();
  }
  for (std::uint32_t const item : items) batch.tally.settle(item, status);
  if (batch.tally.over()) changed_.notify_all();
}

}  // namespace lmcache::detail
