// SPDX-License-Identifier: Apache-2.0
// Moves bytes between the serving engine's paged KV and slots, with the semantics of a stream:
// submit, then poll or wait. One class per device (host memory; CUDA), one instance of the
// conformance suite each.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>

#include <lmcache/base/result.hpp>
#include <lmcache/device/copy_batch.hpp>

namespace lmcache {

using CopyDeadline = std::chrono::steady_clock::time_point;

// How far a batch has come.
struct CopyProgress {
  std::uint32_t planes_arrived = 0;  // planes 0..planes_arrived-1 have arrived, for every item
  std::uint32_t plane_count = 0;
  bool over = false;  // every item is copied, cancelled or failed, and every callback has returned
};

// What was asked of one copier since it was made.
struct CopierStats {
  std::uint64_t batches = 0;
  std::uint64_t rejected_batches = 0;
  std::uint64_t items = 0;
  std::uint64_t bytes_to_slots = 0;
  std::uint64_t bytes_to_engine = 0;
};

// Thread-safe, but for the destructor, which drains: it returns after every submitted batch is
// over.
//
// The memory of a batch (slots and blocks) belongs to the copier from submit() until done() or
// until cancel() returns. A ticket stays known until retire().
class DeviceCopier {
 public:
  DeviceCopier(DeviceCopier const&) = delete;
  DeviceCopier& operator=(DeviceCopier const&) = delete;
  virtual ~DeviceCopier() = default;

  // Never waits for a copy. An error means that nothing was begun and no callback will come.
  // Loads arrive plane by plane, over all items (the model needs layer 0 of every chunk first);
  // stores item by item (a chunk is published when its last plane is there, so the sooner one is
  // whole the better).
  [[nodiscard]] Result<CopyTicket> submit(CopyBatch batch);

  // Nothing for unknown tickets.
  [[nodiscard]] std::optional<CopyProgress> progress(CopyTicket ticket) const;
  // True for tickets that were retired and forgotten: nothing of them is in flight.
  [[nodiscard]] bool done(CopyTicket ticket) const;
  // Planes 0..plane of all items have arrived. False for ever for a batch that was cancelled
  // before, and for unknown tickets. A plane beyond the last one means all of them.
  [[nodiscard]] bool plane_done(CopyTicket ticket, std::uint32_t plane) const;
  // The item is over, in whichever way, and its callback has returned.
  [[nodiscard]] bool item_done(CopyTicket ticket, std::uint32_t item) const;
  // kCancelled for unknown tickets and items.
  [[nodiscard]] CopyStatus item_status(CopyTicket ticket, std::uint32_t item) const;

  // True: the batch is over (ask item_status() for how). False: the deadline passed.
  // kInvalidArgument: unknown ticket.
  [[nodiscard]] Result<bool> wait(CopyTicket ticket, CopyDeadline deadline);
  // True: planes 0..plane have arrived. False: the deadline passed. kCancelled: they never will.
  [[nodiscard]] Result<bool> wait_plane(CopyTicket ticket, std::uint32_t plane,
                                        CopyDeadline deadline);

  // Makes what is put on `stream` from now on wait, on the device, until planes 0..plane have
  // arrived (load), or until their blocks were read (store). The host waits only until the copies
  // are on their way: microseconds, unless they need buffers that others hold. A copier of host
  // memory has no streams and waits for the planes themselves. True: it will. False: the deadline
  // passed first, and the stream does not wait. kCancelled: they never will.
  [[nodiscard]] Result<bool> stream_wait_plane(CopyTicket ticket, std::uint32_t plane,
                                               EngineStream stream, CopyDeadline deadline);

  // Drops what has not begun, waits for the pieces that have (microseconds each). When it returns
  // the batch is over and no thread touches its memory again. No effect on batches that are over.
  // Not to be called from a callback.
  void cancel(CopyTicket ticket);
  // Forgets the ticket, at once or when its batch is over.
  void retire(CopyTicket ticket);

  [[nodiscard]] CopierStats stats() const noexcept;

 protected:
  DeviceCopier() = default;
  // wait_plane() by the number of planes.
  [[nodiscard]] Result<bool> wait_planes(CopyTicket ticket, std::uint32_t planes,
                                         CopyDeadline deadline);

  // The batch is valid: slots and engine addresses are set where there are bytes, planes are in
  // range.
  virtual Result<CopyTicket> do_submit(CopyBatch batch) = 0;
  virtual std::optional<CopyProgress> do_progress(CopyTicket ticket) const = 0;
  virtual CopyStatus do_item_status(CopyTicket ticket, std::uint32_t item) const = 0;
  // Returns when the batch is over, when at least `planes` planes have arrived (kWholeBatch: only
  // when it is over) or at the deadline, with the progress then; nothing for unknown tickets.
  static constexpr std::uint32_t kWholeBatch = 0xffffffff;
  virtual std::optional<CopyProgress> do_wait(CopyTicket ticket, std::uint32_t planes,
                                              CopyDeadline deadline) = 0;
  // As stream_wait_plane() for the first `planes` planes, at most as many as the batch has.
  virtual Result<bool> do_stream_wait(CopyTicket ticket, std::uint32_t planes, EngineStream stream,
                                      CopyDeadline deadline) = 0;
  virtual void do_cancel(CopyTicket ticket) = 0;
  virtual void do_retire(CopyTicket ticket) = 0;

 private:
  std::atomic<std::uint64_t> batches_{0};
  std::atomic<std::uint64_t> rejected_batches_{0};
  std::atomic<std::uint64_t> items_{0};
  std::atomic<std::uint64_t> bytes_to_slots_{0};
  std::atomic<std::uint64_t> bytes_to_engine_{0};
};

}  // namespace lmcache
