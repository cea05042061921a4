// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/cuda_copier.hpp>

#include <array>
#include <span>
#include <string>
#include <utility>

#include <lmcache/base/cuda_error.hpp>
#include <lmcache/device/cuda_choice.hpp>
#include <lmcache/device/cuda_queue.hpp>

#include "cuda/copy_kernel.hpp"
#include "cuda/kernel_image.hpp"

namespace lmcache {
namespace detail {

// Made and destroyed in this order; destroying accepts a driver that is unloading.
class CudaCopierParts {
 public:
  CudaCopierParts(CudaApi const& table, LogHook hook) : api{table}, log{std::move(hook)} {}
  ~CudaCopierParts();
  CudaCopierParts(CudaCopierParts const&) = delete;
  CudaCopierParts& operator=(CudaCopierParts const&) = delete;

  [[nodiscard]] Result<void> open(CudaCopierOptions const& options);

  CudaApi const api;
  LogHook const log;
  CudaContext context = nullptr;
  CudaDevice device = 0;
  CudaModule module = nullptr;
  CudaIssuer::Kernel kernel;
  CopyChoice choice;
  CudaEvents events{api};
  std::unique_ptr<PinnedMemory> pinned;
  std::array<std::unique_ptr<CudaLane>, 2> lanes;
  std::unique_ptr<CudaQueue> queue;

 private:
  [[nodiscard]] Result<void> open_context(int ordinal);
  void load_kernel(std::span<std::byte const> image);
  [[nodiscard]] CudaStatus load_module(std::span<std::byte const> image);
  [[nodiscard]] CopyChoice measured_choice() const;
  [[nodiscard]] Result<void> open_lanes(CudaCopierOptions const& options);
};

Result<void> CudaCopierParts::open_context(int ordinal) {
  LMC_TRY(cuda_done(api, "cuDeviceGet", api.device_get(&device, ordinal)));
  return cuda_done(api, "the device's context", api.primary_context_retain(&context, device));
}

// Machine code first; the PTX where the driver has no use for it.
CudaStatus CudaCopierParts::load_module(std::span<std::byte const> image) {
  CudaStatus status = api.module_load(&module, image.data());
  if (status != CudaStatus::kSuccess && !is_sticky(status) && !kernel_ptx().empty()) {
    status = api.module_load(&module, kernel_ptx().data());
  }
  if (status != CudaStatus::kSuccess) return status;
  return api.module_function(&kernel.function, module, kCopyKernelName);
}

void CudaCopierParts::load_kernel(std::span<std::byte const> image) {
  if (image.empty()) image = kernel_image();
  if (image.empty()) {
    lmcache::log(log, LogLevel::kInfo,
                 "built without CUDA kernels: the copy engine of the device copies everything");
    return;
  }
  CudaStatus const status = load_module(image);
  if (status == CudaStatus::kSuccess) return;
  kernel.function = nullptr;
  lmcache::log(log, LogLevel::kWarning,
               "the driver refuses our CUDA kernels (" + cuda_error_text(api, status) +
                   "): the copy engine of the device copies everything");
}

// Without a kernel there is nothing to choose.
CopyChoice CudaCopierParts::measured_choice() const {
  if (kernel.function == nullptr) return {};
  auto const measured = measure_copies(api, kernel);
  if (measured) return choose(measured.value());
  lmcache::log(
      log, LogLevel::kWarning,
      "the usual sizes decide between the copy engine and kernels: " + measured.error().message());
  return {};
}

Result<void> CudaCopierParts::open_lanes(CudaCopierOptions const& options) {
  int least = 0;
  int greatest = 0;
  LMC_TRY(cuda_done(api, "cuCtxGetStreamPriorityRange", api.priority_range(&least, &greatest)));
  for (auto const priority : {CopyPriority::kForeground, CopyPriority::kBackground}) {
    auto& lane = lanes[static_cast<std::size_t>(priority)];
    CudaLaneOptions const lane_options{
        .priority = priority == CopyPriority::kForeground ? greatest : least,
        .kernel = kernel,
        .choice = choice,
        .staging_bytes = options.staging_bytes,
        .entry_bytes = options.entry_bytes};
    LMC_TRY_ASSIGN(lane, CudaLane::create(api, lane_options, *pinned, events));
  }
  return {};
}

Result<void> CudaCopierParts::open(CudaCopierOptions const& options) {
  LMC_TRY(open_context(options.device));
  CudaScope const scope{api, context};
  LMC_TRY(cuda_done(api, "cuCtxPushCurrent", scope.status()));
  kernel.blocks = options.kernel_blocks;
  load_kernel(options.kernel_image);
  choice = options.choice ? *options.choice : measured_choice();
  LMC_TRY_ASSIGN(pinned, PinnedMemory::create(api, context, log));
  if (!options.slots.empty()) pinned->offer(options.slots, options.slots_piece_bytes);
  LMC_TRY(open_lanes(options));
  queue = std::make_unique<CudaQueue>(CudaQueue::Setting{.api = api,
                                                         .context = context,
                                                         .events = events,
                                                         .lanes = {lanes[0].get(), lanes[1].get()},
                                                         .sizes = options.pieces,
                                                         .log = log});
  return queue->start();
}

CudaCopierParts::~CudaCopierParts() {
  queue.reset();
  if (context == nullptr) return;
  {
    // Where the driver refuses it, what is called now is refused, too, and nobody needs it.
    CudaScope const scope{api, context};
    for (auto& lane : lanes) lane.reset();
    events.destroy();
    if (module != nullptr) (void)api.module_unload(module);
  }
  pinned.reset();
  (void)api.primary_context_release(device);
}

}  // namespace detail

Result<std::unique_ptr<CudaCopier>> CudaCopier::create(CudaApi const& api,
                                                       CudaCopierOptions options, LogHook log) {
  if (options.pieces.piece_bytes == 0 || options.staging_bytes / options.pieces.piece_bytes < 4) {
    return Error{ErrorCode::kInvalidArgument, "the buffers for CUDA must hold four pieces"};
  }
  if (options.entry_bytes < 1024 * 1024 || options.kernel_blocks == 0) {
    return Error{ErrorCode::kInvalidArgument, "no room for the kernels of CUDA copies"};
  }
  if (options.slots_piece_bytes == 0) {
    return Error{ErrorCode::kInvalidArgument, "memory pinned in pieces of 0 bytes"};
  }
  auto parts = std::make_unique<detail::CudaCopierParts>(api, std::move(log));
  LMC_TRY(parts->open(options));
  return std::unique_ptr<CudaCopier>{new CudaCopier{std::move(parts)}};
}

CudaCopier::CudaCopier(std::unique_ptr<detail::CudaCopierParts> parts) : parts_{std::move(parts)} {}

CudaCopier::~CudaCopier() = default;

PinnedMemory& CudaCopier::pinned() noexcept { return *parts_->pinned; }
CopyChoice CudaCopier::choice() const noexcept { return parts_->choice; }
bool CudaCopier::off() const noexcept { return parts_->queue->off(); }

Result<CopyTicket> CudaCopier::do_submit(CopyBatch batch) {
  return parts_->queue->submit(std::move(batch));
}

std::optional<CopyProgress> CudaCopier::do_progress(CopyTicket ticket) const {
  return parts_->queue->progress(ticket);
}

CopyStatus CudaCopier::do_item_status(CopyTicket ticket, std::uint32_t item) const {
  return parts_->queue->item_status(ticket, item);
}

std::optional<CopyProgress> CudaCopier::do_wait(CopyTicket ticket, std::uint32_t planes,
                                                CopyDeadline deadline) {
  return parts_->queue->wait(ticket, planes, deadline);
}

Result<bool> CudaCopier::do_stream_wait(CopyTicket ticket, std::uint32_t planes,
                                        EngineStream stream, CopyDeadline deadline) {
  return parts_->queue->stream_wait(ticket, planes, stream, deadline);
}

void CudaCopier::do_cancel(CopyTicket ticket) { parts_->queue->cancel(ticket); }

void CudaCopier::do_retire(CopyTicket ticket) { parts_->queue->retire(ticket); }

}  // namespace lmcache
