// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/transfer_jobs.hpp>

#include <algorithm>
#include <string>
#include <utility>

#include <lmcache/layout/copy_plan.hpp>

namespace lmcache {

// One submitted batch. The copier's callbacks write different elements of `failed` from several
// threads; everybody else reads them after the batch is over.
struct TransferJobs::Job {
  struct Chunk {
    ChunkRef ref;
    std::uint32_t item;  // in the caller's list
    std::uint32_t tokens;
    std::uint64_t size_bytes;
    bool from_pool = false;
  };
  DeviceSide* side = nullptr;  // null: no pool
  // Chunks that a store copies into the pool, too: the items of the batch after those of `chunks`.
  std::vector<std::uint32_t> pooled;
  Copy copy;                         // no ticket: nothing was to be copied
  std::vector<Chunk> chunks;         // one per item of the batch
  std::vector<std::uint8_t> failed;  // per item of the caller
  std::int64_t started_ns = 0;
  std::atomic<std::uint32_t> open{0};  // chunks still under way
};

TransferJobs::TransferJobs(DramTier& tier, std::unique_ptr<DeviceCopiers> copiers,
                           Clock const& clock, OnStored on_stored)
    : tier_{tier}, clock_{clock}, on_stored_{std::move(on_stored)}, copiers_{std::move(copiers)} {}

TransferJobs::~TransferJobs() {
  for (auto const& [ordinal, side] : sides_) side->stop();
  copiers_.reset();
}

Result<ViewId> TransferJobs::register_view(KvView view) {
  LMC_TRY(validate(view));
  LMC_TRY_ASSIGN(auto* const copier, copiers_->of(view.device));
  auto const pool = copiers_->pool_memory(view.device);
  std::lock_guard const lock{mutex_};
  auto* const side = pool.empty() ? nullptr : &side_of(view.device, *copier, pool);
  auto shared =
      std::make_shared<View const>(View{.kv = std::move(view), .copier = copier, .side = side});
  views_.emplace(next_view_, std::move(shared));
  return next_view_++;
}

DeviceSide& TransferJobs::side_of(KvDevice device, DeviceCopier& copier,
                                  std::span<std::byte> pool) {
  auto& side = sides_[device.ordinal];
  if (!side) side = std::make_unique<DeviceSide>(tier_, copier, pool);
  return *side;
}

void TransferJobs::unregister_view(ViewId view) {
  std::lock_guard const lock{mutex_};
  views_.erase(view);
}

bool TransferJobs::has_views() const {
  std::lock_guard const lock{mutex_};
  return !views_.empty();
}

Result<std::shared_ptr<TransferJobs::View const>> TransferJobs::view_of(ViewId view) const {
  std::lock_guard const lock{mutex_};
  auto const found = views_.find(view);
  if (found == views_.end()) {
    return Error{ErrorCode::kInvalidArgument,
                 "view " + std::to_string(view) + " is not registered"};
  }
  return found->second;
}

namespace {

std::uint64_t block_bytes(KvView const& view) {
  std::uint64_t sum = 0;
  for (auto const& plane : view.planes) sum += plane.page_bytes;
  return sum;
}

}  // namespace

Result<JobId> TransferJobs::submit_store(ViewId view_id, std::span<StoreItem const> items,
                                         std::optional<EngineStream> stream) {
  LMC_TRY_ASSIGN(auto const registered, view_of(view_id));
  KvView const* const view = &registered->kv;
  auto job = std::make_unique<Job>();
  job->copy.copier = registered->copier;
  job->side = registered->side;
  job->failed.assign(items.size(), 0);
  CopyBatch batch{.direction = CopyDirection::kEngineToSlot,
                  .priority = CopyPriority::kBackground,
                  .plane_count = static_cast<std::uint32_t>(view->planes.size()),
                  .items = {},
                  .on_item = {},
                  .engine_stream = stream};
  std::uint64_t const per_block = block_bytes(*view);
  for (std::uint32_t i = 0; i < items.size(); ++i) {
    auto const& item = items[i];
    auto const slot = tier_.begin_write(item.ref);
    CopyItem copy;
    auto const blocks = static_cast<std::uint32_t>(item.blocks.size());
    bool ok =
        slot.has_value() && blocks * per_block == slot->payload_bytes &&
        append_runs(copy.runs, *view, item.blocks, {.first_block = 0, .n_blocks_in_slot = blocks})
            .has_value();
    if (!ok) {
      job->failed[i] = 1;
      if (slot) {
        count(tier_.counters().dropped(DropReason::kCopyFailed));
        tier_.abandon(item.ref);
      } else {
        // The reservation is gone, and was counted then, or its lock was held too long: then
        // nobody else would give it back.
        tier_.cancel(item.ref);
      }
      continue;
    }
    copy.slot = slot->payload;
    batch.items.push_back(std::move(copy));
    job->chunks.push_back({.ref = item.ref,
                           .item = i,
                           .tokens = slot->valid_tokens,
                           .size_bytes = slot->payload_bytes});
  }
  auto const chunks = static_cast<std::uint32_t>(job->chunks.size());
  join_pool(*job, batch);
  batch.on_item = [this, chunks, raw = job.get()](std::uint32_t item, CopyStatus status) {
    item < chunks ? store_done(*raw, item, status) : pool_done(*raw, item - chunks, status);
  };
  return start(std::move(job), std::move(batch));
}

// After all items of the batch: no chunk is published later for it.
void TransferJobs::join_pool(Job& job, CopyBatch& batch) {
  if (job.side == nullptr) return;
  for (std::uint32_t i = 0; i < job.chunks.size(); ++i) {
    std::byte* const room = job.side->begin_store(job.chunks[i].ref, job.chunks[i].size_bytes);
    if (room == nullptr) continue;
    CopyItem copy{.slot = room, .runs = batch.items[i].runs};
    batch.items.push_back(std::move(copy));
    job.pooled.push_back(i);
  }
}

Result<JobId> TransferJobs::submit_load(ViewId view_id, std::span<LoadItem const> items,
                                        std::optional<EngineStream> stream) {
  LMC_TRY_ASSIGN(auto const registered, view_of(view_id));
  KvView const* const view = &registered->kv;
  auto job = std::make_unique<Job>();
  job->copy.copier = registered->copier;
  job->side = registered->side;
  job->failed.assign(items.size(), 0);
  CopyBatch batch{.direction = CopyDirection::kSlotToEngine,
                  .priority = CopyPriority::kForeground,
                  .plane_count = static_cast<std::uint32_t>(view->planes.size()),
                  .items = {},
                  .on_item = {},
                  .engine_stream = stream};
  std::uint64_t const per_block = block_bytes(*view);
  for (std::uint32_t i = 0; i < items.size(); ++i) {
    auto const& item = items[i];
    auto const slot = tier_.begin_read(item.ref);
    CopyItem copy;
    bool ok = slot.has_value();
    if (ok) {
      // A view of another geometry would tear the planes apart in the wrong places.
      std::uint32_t const blocks =
          (slot->valid_tokens + view->block_tokens - 1) / view->block_tokens;
      SlotWindow const window{.first_block = item.first_block, .n_blocks_in_slot = blocks};
      ok = blocks * per_block == slot->payload_bytes &&
           append_runs(copy.runs, *view, item.blocks, window).has_value();
    }
    if (!ok) {
      job->failed[i] = 1;
      count(tier_.counters().failed(slot ? LoadFailure::kCopyFailed : LoadFailure::kGone));
      if (slot) {
        ChunkRef const refs[] = {item.ref};
        tier_.release(refs);
      }
      continue;
    }
    std::byte* const pooled =
        job->side == nullptr ? nullptr : job->side->begin_load(item.ref, slot->payload_bytes);
    copy.slot = pooled != nullptr ? pooled : slot->payload;
    batch.items.push_back(std::move(copy));
    std::uint32_t const tokens = std::min<std::uint32_t>(
        slot->valid_tokens, static_cast<std::uint32_t>(item.blocks.size()) * view->block_tokens);
    job->chunks.push_back({.ref = item.ref,
                           .item = i,
                           .tokens = tokens,
                           .size_bytes = item.blocks.size() * per_block,
                           .from_pool = pooled != nullptr});
  }
  batch.on_item = [this, raw = job.get()](std::uint32_t item, CopyStatus status) {
    load_done(*raw, item, status);
  };
  return start(std::move(job), std::move(batch));
}

Result<JobId> TransferJobs::start(std::unique_ptr<Job> job, CopyBatch batch) {
  job->started_ns = clock_.monotonic_ns();
  job->open.store(static_cast<std::uint32_t>(job->chunks.size()));
  bool const load = batch.direction == CopyDirection::kSlotToEngine;
  if (!job->chunks.empty()) {
    auto ticket = job->copy.copier->submit(std::move(batch));
    if (!ticket) {
      refused(*job, load, ticket.error());
      return std::move(ticket).error();
    }
    job->copy.ticket = ticket.value();
  }
  // Nobody knows the id yet.
  std::lock_guard const lock{mutex_};
  JobId const id = next_job_++;
  jobs_.emplace(id, std::move(job));
  return id;
}

void TransferJobs::refused(Job const& job, bool load, Error const& error) {
  for (auto const& chunk : job.chunks) {
    ChunkRef const refs[] = {chunk.ref};
    load ? tier_.release(refs) : tier_.abandon(chunk.ref);
    count(load ? tier_.counters().failed(LoadFailure::kCopyFailed)
               : tier_.counters().dropped(DropReason::kCopyFailed));
    if (chunk.from_pool) job.side->end_load(chunk.ref);
  }
  for (auto const i : job.pooled) {
    auto const& chunk = job.chunks[i];
    job.side->end_store(chunk.ref, chunk.size_bytes, DevicePool::Written::kNot);
  }
  bool const lost = error.code() == ErrorCode::kUnavailable;
  if (lost && job.side != nullptr) job.side->close();
}

// The chunk itself was reported before: what could not be stored in DRAM is not kept here either.
void TransferJobs::pool_done(Job& job, std::uint32_t entry, CopyStatus status) {
  auto const& chunk = job.chunks[job.pooled[entry]];
  bool const whole = status == CopyStatus::kCopied && job.failed[chunk.item] == 0;
  job.side->end_store(chunk.ref, chunk.size_bytes,
                      whole ? DevicePool::Written::kWhole : DevicePool::Written::kNot);
}

void TransferJobs::store_done(Job& job, std::uint32_t item, CopyStatus status) {
  auto const& chunk = job.chunks[item];
  auto& counters = tier_.counters();
  if (status == CopyStatus::kCopied) {
    tier_.publish(chunk.ref);
    if (on_stored_) on_stored_(chunk.ref);
    count(counters.stored_chunks);
    count(counters.stored_bytes, chunk.size_bytes);
    count(counters.stored_tokens, chunk.tokens);
  } else {
    job.failed[chunk.item] = 1;
    tier_.abandon(chunk.ref);
    count(counters.dropped(status == CopyStatus::kCancelled ? DropReason::kCancelled
                                                            : DropReason::kCopyFailed));
  }
  if (job.open.fetch_sub(1) == 1) {
    auto const elapsed = static_cast<std::uint64_t>(clock_.monotonic_ns() - job.started_ns);
    count(counters.store_ns, elapsed);
    tier_.state().processes.record(tier_.state().process).latencies.store.record(elapsed);
  }
}

void TransferJobs::load_done(Job& job, std::uint32_t item, CopyStatus status) {
  auto const& chunk = job.chunks[item];
  auto& counters = tier_.counters();
  bool const copied = status == CopyStatus::kCopied;
  if (chunk.from_pool) job.side->end_load(chunk.ref);
  if (job.side != nullptr && copied && !chunk.from_pool) job.side->loaded_from_dram(chunk.ref);
  ChunkRef const refs[] = {chunk.ref};
  tier_.release(refs);
  if (chunk.from_pool && copied) {
    count(counters.device_loaded_chunks);
    count(counters.device_loaded_bytes, chunk.size_bytes);
    count(counters.device_loaded_tokens, chunk.tokens);
  }
  if (copied) {
    count(counters.loaded_chunks);
    count(counters.loaded_bytes, chunk.size_bytes);
    count(counters.loaded_tokens, chunk.tokens);
  } else {
    job.failed[chunk.item] = 1;
    count(counters.failed(status == CopyStatus::kCancelled ? LoadFailure::kCancelled
                                                           : LoadFailure::kCopyFailed));
  }
  if (job.open.fetch_sub(1) == 1) {
    auto const elapsed = static_cast<std::uint64_t>(clock_.monotonic_ns() - job.started_ns);
    count(counters.load_ns, elapsed);
    tier_.state().processes.record(tier_.state().process).latencies.load.record(elapsed);
  }
}

TransferJobs::Copy TransferJobs::copy_of(JobId id) const {
  std::lock_guard const lock{mutex_};
  auto const found = jobs_.find(id);
  return found == jobs_.end() ? Copy{} : found->second->copy;
}

bool TransferJobs::poll(JobId id) const {
  auto const copy = copy_of(id);
  return !copy.ticket || copy.copier->done(copy.ticket);
}

bool TransferJobs::wait(JobId id, CopyDeadline deadline) {
  auto const copy = copy_of(id);
  if (!copy.ticket) return true;
  auto const over = copy.copier->wait(copy.ticket, deadline);
  return !over || over.value();
}

bool TransferJobs::wait_plane(JobId id, std::uint32_t plane, CopyDeadline deadline) {
  auto const copy = copy_of(id);
  if (!copy.ticket) return true;
  auto const arrived = copy.copier->wait_plane(copy.ticket, plane, deadline);
  return arrived && arrived.value();
}

Result<bool> TransferJobs::stream_wait_plane(JobId id, std::uint32_t plane, EngineStream stream,
                                             CopyDeadline deadline) {
  auto const copy = copy_of(id);
  if (!copy.ticket) return true;
  auto waits = copy.copier->stream_wait_plane(copy.ticket, plane, stream, deadline);
  if (waits || waits.error().code() != ErrorCode::kCancelled) return waits;
  // What is on the device already ends by itself. Then poll() says that the job is over.
  (void)copy.copier->wait(copy.ticket, deadline);
  return false;
}

void TransferJobs::cancel(JobId id) {
  auto const copy = copy_of(id);
  if (copy.ticket) copy.copier->cancel(copy.ticket);
}

std::vector<std::uint32_t> TransferJobs::finish(JobId id) {
  auto const copy = copy_of(id);
  if (copy.ticket && !copy.copier->done(copy.ticket)) return {};
  std::unique_ptr<Job> job;
  {
    std::lock_guard const lock{mutex_};
    auto const found = jobs_.find(id);
    if (found == jobs_.end()) return {};
    job = std::move(found->second);
    jobs_.erase(found);
  }
  if (copy.ticket) copy.copier->retire(copy.ticket);
  std::vector<std::uint32_t> failed;
  for (std::uint32_t i = 0; i < job->failed.size(); ++i) {
    if (job->failed[i] != 0) failed.push_back(i);
  }
  return failed;
}

}  // namespace lmcache
