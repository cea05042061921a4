// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/cuda_lane.hpp>

#include <cstring>
#include <utility>

#include <lmcache/base/cuda_error.hpp>
#include <lmcache/device/stream_copy.hpp>

namespace lmcache::detail {
namespace {

constexpr unsigned kHostFlags = cuda::kHostAllocPortable | cuda::kHostAllocDeviceMap;
constexpr auto kOk = CudaStatus::kSuccess;

CudaAddress number(std::byte const* address) { return reinterpret_cast<CudaAddress>(address); }

}  // namespace

CudaLane::CudaLane(CudaApi const& api, PinnedMemory& pinned, CudaEvents& events,
                   CudaLaneOptions options)
    : api_{api},
      pinned_{pinned},
      events_{events},
      staging_{options.staging_bytes},
      entries_{options.entry_bytes} {}

Result<std::unique_ptr<CudaLane>> CudaLane::create(CudaApi const& api, CudaLaneOptions options,
                                                   PinnedMemory& pinned, CudaEvents& events) {
  std::unique_ptr<CudaLane> made{new CudaLane{api, pinned, events, options}};
  LMC_TRY(cuda_done(api, "a stream and its buffers", made->allocate(options)));
  made->issuer_ = std::make_unique<CudaIssuer>(api, made->stream_, options.kernel, options.choice);
  return made;
}

CudaStatus CudaLane::allocate(CudaLaneOptions const& options) {
  CudaStatus status = api_.stream_create(&stream_, cuda::kStreamNonBlocking, options.priority);
  if (status == kOk) status = api_.host_alloc(&staging_host_, options.staging_bytes, kHostFlags);
  if (status == kOk) status = api_.host_device_address(&staging_device_, staging_host_, 0);
  if (options.kernel.function == nullptr) return status;
  if (status == kOk) status = api_.host_alloc(&entries_host_, options.entry_bytes, kHostFlags);
  if (status == kOk) status = api_.host_device_address(&entries_host_device_, entries_host_, 0);
  if (status == kOk) status = api_.mem_alloc(&entries_device_, options.entry_bytes);
  return status;
}

// What a driver that unloads refuses, it has taken back itself.
CudaLane::~CudaLane() {
  if (stream_ != nullptr) (void)api_.stream_destroy(stream_);
  if (entries_device_ != 0) (void)api_.mem_free(entries_device_);
  if (entries_host_ != nullptr) (void)api_.host_free(entries_host_);
  if (staging_host_ != nullptr) (void)api_.host_free(staging_host_);
}

CudaStatus CudaLane::wait_for(CudaEvent event) { return api_.stream_wait_event(stream_, event, 0); }

std::optional<CudaAddress> CudaLane::reach(std::byte const* host, std::uint64_t bytes) {
  if (!last_range_.holds(host, bytes)) {
    auto const range = pinned_.find(host);
    if (!range || !range->holds(host, bytes)) return std::nullopt;
    last_range_ = *range;
  }
  return last_range_.address(host);
}

bool CudaLane::translate(CudaPiece& piece) {
  bool const load = piece.direction == CopyDirection::kSlotToEngine;
  copies_.clear();
  piece.staged.clear();
  bool inside = true;
  std::uint64_t staged_bytes = 0;
  for (std::size_t i = 0; i < piece.parts.size(); ++i) {
    CopyPart const& part = piece.parts[i];
    std::byte const* const slot = load ? part.from : part.to;
    std::byte const* const engine = load ? part.to : part.from;
    CudaAddress device = 0;
    if (auto const reached = reach(slot, part.bytes)) {
      device = *reached;
      inside = inside && last_range_.on_device;
    } else {
      inside = false;
      // Its place in the buffer is known once all of them are counted.
      piece.staged.push_back({.part = i});
      staged_bytes += part.bytes;
    }
    copies_.push_back(load ? CudaCopy{.to = number(engine), .from = device, .bytes = part.bytes}
                           : CudaCopy{.to = device, .from = number(engine), .bytes = part.bytes});
  }
  path_ = inside ? CopyPath::kInside : load ? CopyPath::kLoad : CopyPath::kStore;
  if (staged_bytes == 0) return true;
  auto const taken = staging_.take(staged_bytes);
  if (!taken) return false;
  piece.took_staging = true;
  std::uint64_t at = *taken;
  for (CudaPiece::Staged& staged : piece.staged) {
    CopyPart const& part = piece.parts[staged.part];
    staged.buffer = static_cast<std::byte*>(staging_host_) + at;
    CudaCopy& copy = copies_[staged.part];
    (load ? copy.from : copy.to) = staging_device_ + at;
    if (load) copy_bytes(staged.buffer, part.from, part.bytes);
    at += part.bytes;
  }
  copy_fence();
  return true;
}

CudaLane::Begun CudaLane::begin(CudaPiece& piece) {
  if (!translate(piece)) return {.room = LaneRoom::kFull};
  CudaIssuer::merge(copies_);
  bool begun = false;
  CudaStatus issued = kOk;
  if (issuer_->way(path_, copies_) == CudaIssuer::Way::kKernel) {
    auto const taken = entries_.take(CudaIssuer::entry_bytes(copies_));
    if (!taken) {
      give_back(piece);
      return {.room = LaneRoom::kFull};
    }
    piece.took_entries = true;
    issued = issuer_->by_kernel(copies_,
                                {.host = static_cast<std::byte*>(entries_host_) + *taken,
                                 .host_device = entries_host_device_ + *taken,
                                 .device = entries_device_ + *taken},
                                begun);
  } else {
    issued = issuer_->by_engine(copies_, begun);
  }
  piece.failed = issued != kOk;
  if (piece.failed && !begun) {
    give_back(piece);
    return {.status = issued};
  }
  return {.status = record(piece, issued)};
}

// Without its event nobody knows when a piece has ended, so the lane is waited for instead; that
// happens only when the driver refuses to record.
CudaStatus CudaLane::record(CudaPiece& piece, CudaStatus issued) {
  CudaStatus recorded = events_.take(piece.event);
  if (recorded == kOk) {
    recorded = api_.event_record(piece.event, stream_);
    if (recorded == kOk) return issued;
    events_.give(std::exchange(piece.event, nullptr));
  }
  CudaStatus const ended = api_.stream_synchronize(stream_);
  piece.failed = true;
  give_back(piece);
  if (is_sticky(ended)) return ended;
  return issued != kOk ? issued : recorded;
}

// Of the newest piece, of which nothing is on the stream.
void CudaLane::give_back(CudaPiece& piece) {
  if (std::exchange(piece.took_staging, false)) staging_.untake();
  if (std::exchange(piece.took_entries, false)) entries_.untake();
}

void CudaLane::finish(CudaPiece const& piece) {
  if (piece.direction == CopyDirection::kEngineToSlot && !piece.failed) {
    for (CudaPiece::Staged const& staged : piece.staged) {
      CopyPart const& part = piece.parts[staged.part];
      copy_bytes(part.to, staged.buffer, part.bytes);
    }
    copy_fence();
  }
  if (piece.took_staging) staging_.give_back();
  if (piece.took_entries) entries_.give_back();
}

}  // namespace lmcache::detail
