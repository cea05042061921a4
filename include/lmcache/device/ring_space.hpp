// SPDX-License-Identifier: Apache-2.0
// Hands out pieces of a buffer that are given back in the order in which they were taken.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

namespace lmcache::detail {

// Invariants: head_ and tail_ count all bytes that ever went by, so head_ - tail_ <= size_ is what
// is taken; a piece never wraps around the end of the buffer. Externally synchronised.
class RingSpace {
 public:
  explicit RingSpace(std::uint64_t size_bytes) noexcept : size_{size_bytes} {}

  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return size_; }

  // Where the piece begins; nothing: no room until some are given back. More than the whole never
  // fits.
  [[nodiscard]] std::optional<std::uint64_t> take(std::uint64_t bytes) {
    if (ends_.empty()) head_ = tail_ = 0;
    std::uint64_t const at = head_ % size_;
    std::uint64_t const skipped = at + bytes > size_ ? size_ - at : 0;
    if (bytes > size_ || head_ + skipped + bytes - tail_ > size_) return std::nullopt;
    head_ += skipped + bytes;
    ends_.push_back(head_);
    return skipped > 0 ? 0 : at;
  }
  // The newest piece, as if it had not been taken.
  void untake() {
    ends_.pop_back();
    head_ = ends_.empty() ? tail_ : ends_.back();
  }
  // The oldest piece.
  void give_back() {
    tail_ = ends_.front();
    ends_.pop_front();
  }

 private:
  std::uint64_t const size_;
  std::uint64_t head_ = 0;
  std::uint64_t tail_ = 0;
  std::deque<std::uint64_t> ends_;  // of the pieces, oldest first
};

}  // namespace lmcache::detail
