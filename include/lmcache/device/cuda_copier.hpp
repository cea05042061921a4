// SPDX-License-Identifier: Apache-2.0
// The copier between the memory of a CUDA device and slots.
//
// Two streams of its own: foreground batches on one of high priority, background ones on one of
// low. They are ordered against the engine's streams by events only; the host waits for nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include <lmcache/base/cuda_api.hpp>
#include <lmcache/base/log.hpp>
#include <lmcache/base/result.hpp>
#include <lmcache/device/cuda_choice.hpp>
#include <lmcache/device/cuda_issue.hpp>
#include <lmcache/device/cuda_pieces.hpp>
#include <lmcache/device/device_copier.hpp>
#include <lmcache/memory/pinned_cuda.hpp>

namespace lmcache {

namespace detail {
class CudaCopierParts;
}

struct CudaCopierOptions {
  int device = 0;
  // Memory that slots lie in, and how much of it is pinned at a time (an extent of the segment).
  // Slots elsewhere are copied through buffers.
  std::span<std::byte> slots = {};
  std::uint64_t slots_piece_bytes = std::uint64_t{256} << 20;
  detail::CudaPieceSizes pieces = {};
  // Pinned, of each of the two streams, for what is not pinned itself; at least four pieces.
  std::uint64_t staging_bytes = 32 * 1024 * 1024;
  // Of each of the two streams, pinned and as much on the device, for the entries of kernels.
  std::uint64_t entry_bytes = 2 * 1024 * 1024;
  // Our kernels; empty: those that were built in, if any.
  std::span<std::byte const> kernel_image = {};
  // SMs that a kernel may keep busy: prefill needs the others.
  unsigned kernel_blocks = 16;
  // Memory of the device for whoever keeps slots there; 0: none. Where the driver has not as much
  // to give, one line of the log says so, and there is none.
  std::uint64_t pool_bytes = 0;
  // Nothing: measured now, which takes some 10 ms and memory for as long.
  std::optional<CopyChoice> choice = std::nullopt;
  CopyMeasureOptions measure = {};
};

// Thread-safe.
class CudaCopier final : public DeviceCopier {
 public:
  // kInvalidArgument: options out of range. kUnavailable, kCuda, kOutOfMemory: the device cannot be
  // used. Makes the device's primary context, if it is not there, and keeps it.
  static Result<std::unique_ptr<CudaCopier>> create(CudaApi const& api, CudaCopierOptions options,
                                                    LogHook log);
  ~CudaCopier() override;

  // Offers slots to be pinned; asks what is.
  [[nodiscard]] PinnedMemory& pinned() noexcept;
  // Addresses of the device, which copies may use as those of slots; empty: there is none. Host
  // code must not touch it. Goes with the copier.
  [[nodiscard]] std::span<std::byte> pool_memory() const noexcept;
  // By which sizes the copy engine or the kernel is taken.
  [[nodiscard]] CopyChoice choice() const noexcept;
  // An error of the device ended it for this process: every batch is refused.
  [[nodiscard]] bool off() const noexcept;

 private:
  explicit CudaCopier(std::unique_ptr<detail::CudaCopierParts> parts);

  Result<CopyTicket> do_submit(CopyBatch batch) override;
  std::optional<CopyProgress> do_progress(CopyTicket ticket) const override;
  CopyStatus do_item_status(CopyTicket ticket, std::uint32_t item) const override;
  std::optional<CopyProgress> do_wait(CopyTicket ticket, std::uint32_t planes,
                                      CopyDeadline deadline) override;
  Result<bool> do_stream_wait(CopyTicket ticket, std::uint32_t planes, EngineStream stream,
                              CopyDeadline deadline) override;
  void do_cancel(CopyTicket ticket) override;
  void do_retire(CopyTicket ticket) override;

  std::unique_ptr<detail::CudaCopierParts> parts_;
};

}  // namespace lmcache
