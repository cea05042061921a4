// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/copy_pool.hpp>

#include <algorithm>
#include <string>
#include <utility>

#include <lmcache/base/worker_thread.hpp>
#include <lmcache/device/stream_copy.hpp>

namespace lmcache::detail {
namespace {

// Below it, handing a piece over (about a microsecond) costs more than sharing the work gains.
constexpr std::uint64_t kSmallestPiece = 64 * 1024;
// Pieces per thread and batch, so that no thread idles long while another one finishes the last
// piece.
constexpr std::uint64_t kPiecesPerThread = 4;

void copy_parts(std::vector<CopyPart> const& parts) {
  for (std::size_t i = 0; i < parts.size(); ++i) {
    CopyPart const& part = parts[i];
    if (i + 2 < parts.size()) {
      // Two ahead: of the next run copy_bytes() fetches the first lines already. What runs on needs
      // no help.
      CopyPart const& next = parts[i + 1];
      CopyPart const& later = parts[i + 2];
      if (later.from != next.from + next.bytes) look_up_pages(later.from, later.bytes);
      if (later.to != next.to + next.bytes) look_up_pages(later.to, later.bytes);
    }
    copy_bytes(part.to, part.from, part.bytes, i + 1 < parts.size() ? parts[i + 1].from : nullptr);
  }
  copy_fence();
}

}  // namespace

CopyPool::Batch::Batch(CopyBatch&& batch)
    : priority{batch.priority},
      tally{batch.plane_count, batch.items},
      on_item{std::move(batch.on_item)},
      empty_items{tally.empty_items()},
      walk{batch.direction, batch.plane_count, std::move(batch.items)} {}

Result<void> CopyPool::start() {
  for (std::uint32_t i = 0; i < options_.threads; ++i) {
    std::string const number = std::to_string(i);
    LMC_TRY_ASSIGN(std::thread foreground,
                   start_worker_thread({.name = "lmc-load-" + number, .nice = 0},
                                       [this] { run(CopyPriority::kForeground); }));
    threads_.push_back(std::move(foreground));
    LMC_TRY_ASSIGN(
        std::thread background,
        start_worker_thread({.name = "lmc-store-" + number, .nice = options_.background_nice},
                            [this] { run(CopyPriority::kBackground); }));
    threads_.push_back(std::move(background));
  }
  return {};
}

CopyPool::~CopyPool() {
  {
    Lock const lock{mutex_};
    stopping_ = true;
  }
  for (Queue& queue : queues_) queue.wake.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

CopyTicket CopyPool::submit(CopyBatch batch) {
  auto made = std::make_unique<Batch>(std::move(batch));
  std::uint64_t const bytes = made->tally.total_bytes();
  made->piece_bytes =
      std::clamp(bytes / (kPiecesPerThread * options_.threads),
                 std::min(kSmallestPiece, options_.piece_bytes), options_.piece_bytes);
  bool const queued = made->has_work();
  bool const one_piece = bytes <= made->piece_bytes;
  Queue& to = queue(made->priority);
  CopyTicket ticket;
  {
    Lock const lock{mutex_};
    ticket.id = made->id = ++last_id_;
    if (queued) to.batches.push_back(made.get());
    batches_.emplace(ticket.id, std::move(made));
  }
  if (queued && one_piece) to.wake.notify_one();
  if (queued && !one_piece) to.wake.notify_all();
  return ticket;
}

std::optional<CopyProgress> CopyPool::progress(CopyTicket ticket) const {
  Lock const lock{mutex_};
  Batch const* batch = find(ticket);
  if (batch == nullptr) return std::nullopt;
  return batch->tally.progress();
}

CopyStatus CopyPool::item_status(CopyTicket ticket, std::uint32_t item) const {
  Lock const lock{mutex_};
  Batch const* batch = find(ticket);
  return batch == nullptr ? CopyStatus::kCancelled : batch->tally.status(item);
}

std::optional<CopyProgress> CopyPool::wait(CopyTicket ticket, std::uint32_t planes,
                                           CopyDeadline deadline) {
  Lock lock{mutex_};
  std::optional<CopyProgress> seen;
  if (Batch* const batch = find(ticket)) {
    batch->awaited_planes = std::min(batch->awaited_planes, planes);
  }
  changed_.wait_until(lock, deadline, [&] {
    Batch const* batch = find(ticket);  // each time anew: it may be retired meanwhile
    if (batch == nullptr) {
      seen.reset();
      return true;
    }
    seen = batch->tally.progress();
    return seen->over || seen->planes_arrived >= planes;
  });
  return seen;
}

void CopyPool::cancel(CopyTicket ticket) {
  std::unique_ptr<Batch> finished;
  Lock lock{mutex_};
  Batch* batch = find(ticket);
  if (batch == nullptr || batch->tally.over()) return;
  if (batch->cancelled) {  // another thread does it
    changed_.wait(lock, [&] {
      batch = find(ticket);
      return batch == nullptr || batch->tally.over();
    });
    return;
  }
  batch->cancelled = true;
  leave_queue(*batch);
  changed_.wait(lock, [&] {
    batch = find(ticket);
    return batch == nullptr || batch->in_flight == 0;
  });
  if (batch == nullptr || batch->tally.over()) return;
  report(lock, *batch, batch->tally.pending_items(), CopyStatus::kCancelled);
  finished = take_if_finished(*batch);
  lock.unlock();
}

void CopyPool::retire(CopyTicket ticket) {
  std::unique_ptr<Batch> finished;
  Lock const lock{mutex_};
  Batch* batch = find(ticket);
  if (batch == nullptr) return;
  batch->retired = true;
  finished = take_if_finished(*batch);
}

CopyPool::Batch* CopyPool::find(CopyTicket ticket) const {
  auto const found = batches_.find(ticket.id);
  return found == batches_.end() ? nullptr : found->second.get();
}

bool CopyPool::may_take(CopyPriority priority) {
  if (queue(priority).batches.empty()) return false;
  return priority == CopyPriority::kForeground || queue(CopyPriority::kForeground).batches.empty();
}

void CopyPool::leave_queue(Batch& batch) {
  auto& batches = queue(batch.priority).batches;
  auto const at = std::find(batches.begin(), batches.end(), &batch);
  if (at == batches.end()) return;
  batches.erase(at);
  if (batch.priority == CopyPriority::kForeground && batches.empty()) {
    queue(CopyPriority::kBackground).wake.notify_all();
  }
}

void CopyPool::run(CopyPriority priority) {
  std::vector<CopyPart> parts;
  std::vector<std::uint32_t> whole_items;
  Queue& from = queue(priority);
  Lock lock{mutex_};
  for (;;) {
    from.wake.wait(lock, [&] { return may_take(priority) || (stopping_ && from.batches.empty()); });
    if (from.batches.empty()) return;
    Batch& batch = *from.batches.front();
    ++batch.in_flight;
    parts.clear();
    whole_items = std::exchange(batch.empty_items, {});
    batch.walk.next(batch.piece_bytes, parts);
    if (!batch.has_work()) leave_queue(batch);

    lock.unlock();
    copy_parts(parts);
    lock.lock();

    if (batch.tally.arrived(parts, whole_items) &&
        batch.tally.progress().planes_arrived >= batch.awaited_planes) {
      changed_.notify_all();
    }
    report(lock, batch, whole_items, CopyStatus::kCopied);
    --batch.in_flight;
    if (batch.cancelled) changed_.notify_all();
    if (auto finished = take_if_finished(batch)) {
      lock.unlock();
      finished.reset();
      lock.lock();
    }
  }
}

void CopyPool::report(Lock& lock, Batch& batch, std::vector<std::uint32_t> const& items,
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

std::unique_ptr<CopyPool::Batch> CopyPool::take_if_finished(Batch& batch) {
  if (!batch.retired || !batch.tally.over() || batch.in_flight != 0) return nullptr;
  auto node = batches_.extract(batch.id);
  return std::move(node.mapped());
}

}  // namespace lmcache::detail
