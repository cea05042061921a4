// SPDX-License-Identifier: Apache-2.0
// Cuts a batch into what is put on a stream together, and knows which events its planes wait for.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include <lmcache/base/cuda_api.hpp>
#include <lmcache/device/batch_walk.hpp>
#include <lmcache/device/copy_batch.hpp>
#include <lmcache/device/cuda_lane.hpp>

namespace lmcache::detail {

struct CudaPieceSizes {
  // The most of one piece: an event each, and what staging buffers hold at once.
  std::uint64_t piece_bytes = 8 * 1024 * 1024;
  // A load's piece ends with a plane, so that the plane has an event, once it has as many bytes:
  // below, a launch of its own costs more than the earlier start of a layer gains (256 KiB are 10
  // us of a link of 25 GB/s, about as much as a launch).
  std::uint64_t plane_bytes = 256 * 1024;
};

// The pieces of one batch, in the order of BatchWalk. One thread: the copier's.
class CudaPieces {
 public:
  CudaPieces(CopyDirection direction, BatchWalk walk)
      : direction_{direction}, walk_{std::move(walk)} {}

  [[nodiscard]] bool at_end() const noexcept { return ready_.empty() && walk_.at_end(); }
  // The next piece; not at_end(). It stays the next one until pop().
  [[nodiscard]] CudaPiece& front(CudaPieceSizes const& sizes);
  [[nodiscard]] CudaPiece pop();

 private:
  static constexpr std::size_t kMostParts = 16 * 1024;
  void cut(std::vector<CopyPart>&& parts, std::uint64_t plane_bytes);

  CopyDirection direction_;
  BatchWalk walk_;
  std::deque<CudaPiece> ready_;
};

// Which event stands for planes 0..p of a batch: that of the piece that brought the last byte of
// them. Externally synchronised.
class PlaneEvents {
 public:
  PlaneEvents(std::uint32_t plane_count, std::span<CopyItem const> items);

  // The piece is on the stream, with its event. True if planes_issued() grew.
  bool issued(CudaPiece const& piece);
  // Planes 0..planes_issued()-1 are on the stream as a whole.
  [[nodiscard]] std::uint32_t planes_issued() const noexcept {
    return static_cast<std::uint32_t>(events_.size());
  }
  // Of the first `planes` planes, at least 1 and at most planes_issued(); null: they have no bytes.
  [[nodiscard]] CudaEvent event(std::uint32_t planes) const { return events_[planes - 1]; }

 private:
  void skip_whole_planes(CudaEvent event);

  std::vector<std::uint64_t> left_;  // bytes not on the stream, by plane
  std::vector<CudaEvent> events_;
};

}  // namespace lmcache::detail
