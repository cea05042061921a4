// SPDX-License-Identifier: Apache-2.0
// One stream of the copier, with what its copies need until they end: a ring of pinned buffers for
// host memory that the device does not reach, and one for the entries of kernels.
//
// Invariants: the pieces of a lane begin and end in one order (they are on one stream), so rings
// suffice; what a piece took of them is given back when the host has seen its event, not before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include <lmcache/base/cuda_api.hpp>
#include <lmcache/base/result.hpp>
#include <lmcache/device/batch_walk.hpp>
#include <lmcache/device/cuda_events.hpp>
#include <lmcache/device/cuda_issue.hpp>
#include <lmcache/device/ring_space.hpp>
#include <lmcache/memory/pinned_cuda.hpp>

namespace lmcache::detail {

struct CudaLaneOptions {
  int priority = 0;
  CudaIssuer::Kernel kernel = {};
  CopyChoice choice = {};
  std::uint64_t staging_bytes = 0;  // pinned; at least that of four pieces
  std::uint64_t entry_bytes = 0;    // pinned, and as much of the device
};

// What was put on the stream together, under one event.
struct CudaPiece {
  CopyDirection direction = CopyDirection::kEngineToSlot;
  std::vector<CopyPart> parts = {};
  CudaEvent event = nullptr;  // nobody's but the batch's
  bool failed = false;        // some copies of it were refused; the others end with the event
  // Held by the lane until finish().
  bool took_staging = false;
  bool took_entries = false;
  // Stores through buffers: [buffer, buffer + part.bytes) belongs to that part of `parts`.
  struct Staged {
    std::size_t part = 0;
    std::byte* buffer = nullptr;
  };
  std::vector<Staged> staged = {};
};

enum class LaneRoom : std::uint8_t { kBegun, kFull };

// Externally synchronised; every call needs the context current.
class CudaLane {
 public:
  static Result<std::unique_ptr<CudaLane>> create(CudaApi const& api, CudaLaneOptions options,
                                                  PinnedMemory& pinned, CudaEvents& events);
  // The pieces must have ended, or the context be lost.
  ~CudaLane();
  CudaLane(CudaLane const&) = delete;
  CudaLane& operator=(CudaLane const&) = delete;

  // What comes after waits until the event's last record is reached.
  [[nodiscard]] CudaStatus wait_for(CudaEvent event);
  // Puts piece.parts on the stream and records a new event into piece.event. kFull: nothing was
  // done; older pieces must finish() first. An error with piece.event set: the piece is marked
  // failed and ends with that event. An error without: nothing of it is on the stream.
  struct Begun {
    LaneRoom room = LaneRoom::kBegun;
    CudaStatus status = CudaStatus::kSuccess;
  };
  [[nodiscard]] Begun begin(CudaPiece& piece);
  // The oldest piece's event was reached: the rest of a store is copied on the host, and the room
  // is given back.
  void finish(CudaPiece const& piece);

  [[nodiscard]] CudaStream stream() const noexcept { return issuer_->stream(); }

 private:
  CudaLane(CudaApi const& api, PinnedMemory& pinned, CudaEvents& events, CudaLaneOptions options);
  [[nodiscard]] CudaStatus allocate(CudaLaneOptions const& options);
  // Fills copies_ and path_; false: no room in the staging ring.
  [[nodiscard]] bool translate(CudaPiece& piece);
  [[nodiscard]] std::optional<CudaAddress> reach(std::byte const* host, std::uint64_t bytes);
  void give_back(CudaPiece& piece);
  [[nodiscard]] CudaStatus record(CudaPiece& piece, CudaStatus issued);

  CudaApi const& api_;
  PinnedMemory& pinned_;
  CudaEvents& events_;
  CudaStream stream_ = nullptr;
  std::unique_ptr<CudaIssuer> issuer_;
  RingSpace staging_;
  RingSpace entries_;
  void* staging_host_ = nullptr;
  CudaAddress staging_device_ = 0;  // of the same memory
  void* entries_host_ = nullptr;
  CudaAddress entries_host_device_ = 0;
  CudaAddress entries_device_ = 0;
  PinnedRange last_range_;  // of the last look-up: runs lie side by side
  std::vector<CudaCopy> copies_;
  CopyPath path_{CopyPath::kStore};
};

}  // namespace lmcache::detail
