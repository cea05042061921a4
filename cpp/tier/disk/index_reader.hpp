// SPDX-License-Identifier: Apache-2.0
// A file from beginning to end, in pieces: a thread reads the next ones while the caller works on
// one.
//
// After a restart the index is in no page cache, and pages for 128 bytes per chunk would have to be
// found first. So it is read past the cache, into the same few buffers again and again; what the
// cache has is taken from there.
#pragma once

#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <span>
#include <thread>

#include <lmcache/base/result.hpp>

namespace lmcache::detail {

// One thread: the caller's. Who destroys it waits for the read that is under way.
class IndexReader {
 public:
  static constexpr std::uint64_t kPieceBytes = 1u << 20;

  struct Source {
    int fd = -1;         // through the page cache
    int direct_fd = -1;  // past it; -1: not possible
    std::uint64_t size_bytes = 0;
  };
  // The descriptors must outlive it.
  explicit IndexReader(Source source);
  IndexReader(IndexReader const&) = delete;
  IndexReader& operator=(IndexReader const&) = delete;
  ~IndexReader();

  // kPieceBytes of the file, or what there is; empty: the end. Valid until the next call. Blocks.
  [[nodiscard]] Result<std::span<std::byte const>> next();

 private:
  static constexpr std::size_t kBuffers = 4;
  struct Free {
    void operator()(std::byte* memory) const noexcept { std::free(memory); }
  };
  struct Piece {
    std::uint64_t size_bytes = 0;
    int os_error = 0;
  };

  void read_ahead();
  [[nodiscard]] Piece read(std::uint64_t number);
  [[nodiscard]] bool is_cached(std::uint64_t offset, std::uint64_t size_bytes) const;

  Source source_;
  std::byte* mapped_ = nullptr;  // to ask what of it is in the page cache
  std::unique_ptr<std::byte, Free> memory_;
  std::uint64_t given_ = 0;  // pieces

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::array<Piece, kBuffers> pieces_;
  std::uint64_t read_ = 0;   // pieces
  std::uint64_t freed_ = 0;  // pieces that the caller is through with
  bool stop_ = false;
  std::thread thread_;  // none: next() reads
};

}  // namespace lmcache::detail
