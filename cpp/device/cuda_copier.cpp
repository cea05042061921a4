// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/cuda_copier.hpp>

#include <array>
#include <string>
#include <utility>

#include <lmcache/base/cuda_error.hpp>
#include <lmcache/device/cuda_choice.hpp>
#include <lmcache/device/cuda_queue.hpp>
#include <lmcache/device/cuda_session.hpp>

namespace lmcache {
namespace detail {

// Destroyed from the last to the first; that accepts a driver that is unloading.
class CudaCopierParts {
 public:
  explicit CudaCopierParts(std::unique_ptr<CudaSession> opened)
      : session{std::move(opened)}, events{session->api()} {}
  ~CudaCopierParts();
  CudaCopierParts(CudaCopierParts const&) = delete;
  CudaCopierParts& operator=(CudaCopierParts const&) = delete;

  [[nodiscard]] Result<void> open(CudaCopierOptions const& options, LogHook const& log);

  std::unique_ptr<CudaSession> const session;
  CudaEvents events;
  CopyChoice choice;
  std::unique_ptr<PinnedMemory> pinned;
  std::array<std::unique_ptr<CudaLane>, 2> lanes;  // by CopyPriority
  std::unique_ptr<CudaQueue> queue;
  std::span<std::byte> pool;

 private:
  [[nodiscard]] CopyChoice measured_choice(CopyMeasureOptions options, LogHook const& log) const;
  [[nodiscard]] Result<void> open_lanes(CudaCopierOptions const& options);
  void open_pool(std::uint64_t pool_bytes, LogHook const& log);
};

// Without a kernel there is nothing to choose.
CopyChoice CudaCopierParts::measured_choice(CopyMeasureOptions options, LogHook const& log) const {
  if (session->kernel().function == nullptr) return {};
  auto const measured = measure_copies(session->api(), session->kernel(), options);
  if (measured) return choose(measured.value());
  lmcache::log(
      log, LogLevel::kWarning,
      "the usual sizes decide between the copy engine and kernels: " + measured.error().message());
  return {};
}

Result<void> CudaCopierParts::open_lanes(CudaCopierOptions const& options) {
  CudaApi const& api = session->api();
  int least = 0;
  int greatest = 0;
  LMC_TRY(cuda_done(api, "cuCtxGetStreamPriorityRange", api.priority_range(&least, &greatest)));
  for (auto const priority : {CopyPriority::kForeground, CopyPriority::kBackground}) {
    auto& lane = lanes[static_cast<std::size_t>(priority)];
    CudaLaneOptions const lane_options{
        .priority = priority == CopyPriority::kForeground ? greatest : least,
        .kernel = session->kernel(),
        .choice = choice,
        .staging_bytes = options.staging_bytes,
        .entry_bytes = options.entry_bytes};
    LMC_TRY_ASSIGN(lane, CudaLane::create(api, lane_options, *pinned, events));
  }
  return {};
}

void CudaCopierParts::open_pool(std::uint64_t pool_bytes, LogHook const& log) {
  if (pool_bytes == 0) return;
  CudaAddress address = 0;
  CudaStatus const status = session->api().mem_alloc(&address, pool_bytes);
  if (status != CudaStatus::kSuccess) {
    lmcache::log(log, LogLevel::kWarning,
                 "no pool in GPU memory: the driver does not give " +
                     std::to_string(pool_bytes / 1'000'000) + " MB (" +
                     cuda_error_text(session->api(), status) +
                     "); KV is copied to and from DRAM only");
    return;
  }
  // A device address is one and the same for the device and for us.
  pool = {reinterpret_cast<std::byte*>(address), pool_bytes};
  pinned->adopt(
      {.begin = pool.data(), .size_bytes = pool_bytes, .device = address, .on_device = true});
  lmcache::log(log, LogLevel::kInfo,
               "a pool of " + std::to_string(pool_bytes / 1'000'000) + " MB in GPU memory");
}

Result<void> CudaCopierParts::open(CudaCopierOptions const& options, LogHook const& log) {
  CudaApi const& api = session->api();
  CudaContext const context = session->context();
  CudaScope const scope{api, context};
  LMC_TRY(cuda_done(api, "cuCtxPushCurrent", scope.status()));
  auto measure = options.measure;
  measure.inside = options.pool_bytes != 0;
  choice = options.choice ? *options.choice : measured_choice(measure, log);
  LMC_TRY_ASSIGN(pinned, PinnedMemory::create(api, context, log));
  if (!options.slots.empty()) pinned->offer(options.slots, options.slots_piece_bytes);
  LMC_TRY(open_lanes(options));
  open_pool(options.pool_bytes, log);
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
  // Where the driver refuses it, what is called now is refused, too, and nobody needs it.
  CudaScope const scope{session->api(), session->context()};
  for (auto& lane : lanes) lane.reset();
  if (!pool.empty()) (void)session->api().mem_free(reinterpret_cast<CudaAddress>(pool.data()));
  events.destroy();
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
  LMC_TRY_ASSIGN(auto session, detail::CudaSession::open(api,
                                                         {.device = options.device,
                                                          .kernel_image = options.kernel_image,
                                                          .kernel_blocks = options.kernel_blocks},
                                                         log));
  auto parts = std::make_unique<detail::CudaCopierParts>(std::move(session));
  LMC_TRY(parts->open(options, log));
  return std::unique_ptr<CudaCopier>{new CudaCopier{std::move(parts)}};
}

CudaCopier::CudaCopier(std::unique_ptr<detail::CudaCopierParts> parts) : parts_{std::move(parts)} {}

CudaCopier::~CudaCopier() = default;

PinnedMemory& CudaCopier::pinned() noexcept { return *parts_->pinned; }
std::span<std::byte> CudaCopier::pool_memory() const noexcept { return parts_->pool; }
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
