// SPDX-License-Identifier: Apache-2.0
// Which host memory a CUDA device reaches by itself.
//
// Pinning is slow (about 0.1 s a gigabyte, page by page) and takes memory that was only reserved,
// so nothing is pinned before somebody copies it: whoever asks for an address of a piece that is
// not pinned is told so, copies through buffers, and the piece is pinned in the background. A piece
// is an extent of the segment: a slot never lies in two.
//
// Memory that is pinned must not be given back to the system meanwhile, or the device would go on
// with pages that nobody else sees: an extent that ever held a slot never is (Segment).
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>

#include <lmcache/base/cuda_api.hpp>
#include <lmcache/base/log.hpp>
#include <lmcache/base/result.hpp>

namespace lmcache {

// Host memory [begin, begin + size_bytes) is at `device` for the device.
struct PinnedRange {
  std::byte* begin = nullptr;
  std::uint64_t size_bytes = 0;
  CudaAddress device = 0;
  bool on_device = false;  // memory of the device, not of the host

  [[nodiscard]] bool holds(std::byte const* at, std::uint64_t bytes) const noexcept {
    return at >= begin && bytes <= size_bytes &&
           static_cast<std::uint64_t>(at - begin) <= size_bytes - bytes;
  }
  [[nodiscard]] CudaAddress address(std::byte const* at) const noexcept {
    return device + static_cast<std::uint64_t>(at - begin);
  }
};

// Thread-safe, but for the destructor, which takes back what it pinned: no copy may be under way.
class PinnedMemory {
 public:
  // kUnavailable: a thread could not be started. The context must outlive this.
  static Result<std::unique_ptr<PinnedMemory>> create(CudaApi const& api, CudaContext context,
                                                      LogHook log);
  ~PinnedMemory();
  PinnedMemory(PinnedMemory const&) = delete;
  PinnedMemory& operator=(PinnedMemory const&) = delete;

  // Pieces of this memory may be pinned; the last one may be shorter. They must stay mapped.
  void offer(std::span<std::byte> memory, std::uint64_t piece_bytes);
  // Somebody else pinned it, and keeps it so.
  void adopt(PinnedRange range);

  // The pinned range that holds `at`. Nothing: not pinned; if it was offered, it will be. Waits for
  // nothing.
  [[nodiscard]] std::optional<PinnedRange> find(std::byte const* at);
  // Returns when what was asked for is pinned or refused.
  void settle();

  [[nodiscard]] std::uint64_t pinned_bytes() const;
  // The system does not let us (a limit on locked memory, a container): no more is tried.
  [[nodiscard]] bool refused() const;

 private:
  enum class State : std::uint8_t { kOffered, kWanted, kPinned, kAdopted };
  struct Piece {
    PinnedRange range;
    State state = State::kOffered;
  };

  PinnedMemory(CudaApi const& api, CudaContext context, LogHook log);
  [[nodiscard]] Piece* piece_of(std::byte const* at);
  void run();
  // Registers; the device's address.
  [[nodiscard]] Result<CudaAddress> pin(PinnedRange const& range, State& state) const;
  void refuse(Error const& error, std::uint64_t pinned);

  CudaApi const api_;
  CudaContext const context_;
  LogHook const log_;
  mutable std::mutex mutex_;  // guards all below but thread_
  std::condition_variable wake_;
  std::condition_variable settled_;
  std::map<std::byte const*, Piece> pieces_;  // by where they begin
  std::deque<std::byte const*> wanted_;
  std::uint64_t pinned_bytes_ = 0;
  bool working_ = false;
  bool refused_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace lmcache
