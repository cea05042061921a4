// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/cuda_pieces.hpp>

#include <utility>

namespace lmcache::detail {

CudaPiece& CudaPieces::front(CudaPieceSizes const& sizes) {
  if (ready_.empty()) {
    std::vector<CopyPart> parts;
    std::uint64_t bytes = 0;
    while (bytes < sizes.piece_bytes && parts.size() < kMostParts && !walk_.at_end()) {
      std::size_t const before = parts.size();
      walk_.next(sizes.piece_bytes - bytes, parts);
      for (std::size_t i = before; i < parts.size(); ++i) bytes += parts[i].bytes;
    }
    bool const load = direction_ == CopyDirection::kSlotToEngine;
    cut(std::move(parts), load ? sizes.plane_bytes : sizes.piece_bytes);
  }
  return ready_.front();
}

void CudaPieces::cut(std::vector<CopyPart>&& parts, std::uint64_t plane_bytes) {
  CudaPiece piece{.direction = direction_};
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    bytes += parts[i].bytes;
    piece.parts.push_back(parts[i]);
    bool const last = i + 1 == parts.size();
    bool const plane_ends = !last && parts[i + 1].plane != parts[i].plane;
    if (!last && (!plane_ends || bytes < plane_bytes)) continue;
    ready_.push_back(std::move(piece));
    piece = {.direction = direction_};
    bytes = 0;
  }
}

CudaPiece CudaPieces::pop() {
  CudaPiece piece = std::move(ready_.front());
  ready_.pop_front();
  return piece;
}

PlaneEvents::PlaneEvents(std::uint32_t plane_count, std::span<CopyItem const> items)
    : left_(plane_count, 0) {
  for (CopyItem const& item : items) {
    for (CopyRun const& run : item.runs) left_[run.plane] += run.bytes;
  }
  skip_whole_planes(nullptr);
}

void PlaneEvents::skip_whole_planes(CudaEvent event) {
  while (events_.size() < left_.size() && left_[events_.size()] == 0) events_.push_back(event);
}

bool PlaneEvents::issued(CudaPiece const& piece) {
  std::size_t const before = events_.size();
  for (CopyPart const& part : piece.parts) left_[part.plane] -= part.bytes;
  skip_whole_planes(piece.event);
  return events_.size() != before;
}

}  // namespace lmcache::detail
