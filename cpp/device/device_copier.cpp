// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/device_copier.hpp>

#include <limits>
#include <string>
#include <utility>

namespace lmcache {
namespace {

Result<std::uint64_t> checked_bytes(CopyItem const& item, std::uint32_t plane_count) {
  std::uint64_t bytes = 0;
  for (CopyRun const& run : item.runs) {
    if (run.plane >= plane_count) {
      return Error{ErrorCode::kInvalidArgument,
                   "plane " + std::to_string(run.plane) + " of " + std::to_string(plane_count)};
    }
    if (run.bytes == 0) continue;
    if (item.slot == nullptr || run.engine == nullptr) {
      return Error{ErrorCode::kInvalidArgument, "a run without an address"};
    }
    bytes += run.bytes;
  }
  return bytes;
}

Result<std::uint64_t> checked_bytes(CopyBatch const& batch) {
  if (batch.items.size() > std::numeric_limits<std::uint32_t>::max()) {
    return Error{ErrorCode::kInvalidArgument, "too many items in one batch"};
  }
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < batch.items.size(); ++i) {
    auto item_bytes = checked_bytes(batch.items[i], batch.plane_count);
    if (!item_bytes) {
      return std::move(item_bytes).error().with_context("copy item " + std::to_string(i));
    }
    bytes += item_bytes.value();
  }
  return bytes;
}

// Counts are independent of each other and of other memory: relaxed.
void count(std::atomic<std::uint64_t>& counter, std::uint64_t by) noexcept {
  counter.fetch_add(by, std::memory_order_relaxed);
}

std::uint64_t read(std::atomic<std::uint64_t> const& counter) noexcept {
  return counter.load(std::memory_order_relaxed);
}

Error unknown_ticket() { return Error{ErrorCode::kInvalidArgument, "unknown copy ticket"}; }

Error never_arrives(std::uint32_t planes) {
  return Error{ErrorCode::kCancelled,
               "the batch ended before " + std::to_string(planes) + " planes arrived"};
}

// Saturates: a plane beyond the last one means all of them.
std::uint32_t planes_up_to(std::uint32_t plane, CopyProgress const& progress) noexcept {
  return plane >= progress.plane_count ? progress.plane_count : plane + 1;
}

}  // namespace

Result<CopyTicket> DeviceCopier::submit(CopyBatch batch) {
  auto bytes = checked_bytes(batch);
  if (!bytes) {
    count(rejected_batches_, 1);
    return std::move(bytes).error();
  }
  auto const items = batch.items.size();
  bool const load = batch.direction == CopyDirection::kSlotToEngine;
  auto ticket = do_submit(std::move(batch));
  if (!ticket) {
    count(rejected_batches_, 1);
    return ticket;
  }
  count(batches_, 1);
  count(items_, items);
  count(load ? bytes_to_engine_ : bytes_to_slots_, bytes.value());
  return ticket;
}

std::optional<CopyProgress> DeviceCopier::progress(CopyTicket ticket) const {
  return do_progress(ticket);
}

bool DeviceCopier::done(CopyTicket ticket) const {
  auto const progress = do_progress(ticket);
  return !progress || progress->over;
}

bool DeviceCopier::plane_done(CopyTicket ticket, std::uint32_t plane) const {
  auto const progress = do_progress(ticket);
  if (!progress) return false;
  return progress->planes_arrived == progress->plane_count || progress->planes_arrived > plane;
}

bool DeviceCopier::item_done(CopyTicket ticket, std::uint32_t item) const {
  return do_item_status(ticket, item) != CopyStatus::kPending;
}

CopyStatus DeviceCopier::item_status(CopyTicket ticket, std::uint32_t item) const {
  return do_item_status(ticket, item);
}

Result<bool> DeviceCopier::wait(CopyTicket ticket, CopyDeadline deadline) {
  auto const progress = do_wait(ticket, kWholeBatch, deadline);
  if (!progress) return unknown_ticket();
  return progress->over;
}

Result<bool> DeviceCopier::wait_plane(CopyTicket ticket, std::uint32_t plane,
                                      CopyDeadline deadline) {
  auto const before = do_progress(ticket);
  if (!before) return unknown_ticket();
  return wait_planes(ticket, planes_up_to(plane, *before), deadline);
}

Result<bool> DeviceCopier::wait_planes(CopyTicket ticket, std::uint32_t planes,
                                       CopyDeadline deadline) {
  auto const progress = do_wait(ticket, planes, deadline);
  if (!progress) return unknown_ticket();
  if (progress->planes_arrived >= planes) return true;
  if (progress->over) return never_arrives(planes);
  return false;
}

Result<bool> DeviceCopier::stream_wait_plane(CopyTicket ticket, std::uint32_t plane,
                                             EngineStream stream, CopyDeadline deadline) {
  auto const before = do_progress(ticket);
  if (!before) return unknown_ticket();
  return do_stream_wait(ticket, planes_up_to(plane, *before), stream, deadline);
}

void DeviceCopier::cancel(CopyTicket ticket) { do_cancel(ticket); }

void DeviceCopier::retire(CopyTicket ticket) { do_retire(ticket); }

CopierStats DeviceCopier::stats() const noexcept {
  return {.batches = read(batches_),
          .rejected_batches = read(rejected_batches_),
          .items = read(items_),
          .bytes_to_slots = read(bytes_to_slots_),
          .bytes_to_engine = read(bytes_to_engine_)};
}

}  // namespace lmcache
