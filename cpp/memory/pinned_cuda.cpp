// SPDX-License-Identifier: Apache-2.0
#include <lmcache/memory/pinned_cuda.hpp>

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include <lmcache/base/cuda_error.hpp>
#include <lmcache/base/worker_thread.hpp>

namespace lmcache {
namespace {

constexpr unsigned kRegisterFlags = cuda::kHostRegisterPortable | cuda::kHostRegisterDeviceMap;

}  // namespace

PinnedMemory::PinnedMemory(CudaApi const& api, CudaContext context, LogHook log)
    : api_{api}, context_{context}, log_{std::move(log)} {}

Result<std::unique_ptr<PinnedMemory>> PinnedMemory::create(CudaApi const& api, CudaContext context,
                                                           LogHook log) {
  std::unique_ptr<PinnedMemory> made{new PinnedMemory{api, context, std::move(log)}};
  PinnedMemory* const self = made.get();
  LMC_TRY_ASSIGN(made->thread_,
                 start_worker_thread({.name = "lmc-pin", .nice = 10}, [self] { self->run(); }));
  return made;
}

PinnedMemory::~PinnedMemory() {
  {
    std::lock_guard const lock{mutex_};
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  CudaScope const scope{api_, context_};
  // A driver that is unloading refuses, and has taken the memory back itself.
  if (scope.status() != CudaStatus::kSuccess) return;
  for (auto const& entry : pieces_) {
    Piece const& piece = entry.second;
    if (piece.state == State::kPinned) (void)api_.host_unregister(piece.range.begin);
  }
}

void PinnedMemory::offer(std::span<std::byte> memory, std::uint64_t piece_bytes) {
  std::lock_guard const lock{mutex_};
  for (std::uint64_t at = 0; at < memory.size(); at += piece_bytes) {
    std::uint64_t const bytes = std::min<std::uint64_t>(piece_bytes, memory.size() - at);
    std::byte* const begin = memory.data() + at;
    pieces_.emplace(begin, Piece{.range = {.begin = begin, .size_bytes = bytes}});
  }
}

void PinnedMemory::adopt(PinnedRange range) {
  std::lock_guard const lock{mutex_};
  pieces_.insert_or_assign(range.begin, Piece{.range = range, .state = State::kAdopted});
}

PinnedMemory::Piece* PinnedMemory::piece_of(std::byte const* at) {
  auto const after = pieces_.upper_bound(at);
  if (after == pieces_.begin()) return nullptr;
  Piece& piece = std::prev(after)->second;
  return piece.range.holds(at, 1) ? &piece : nullptr;
}

std::optional<PinnedRange> PinnedMemory::find(std::byte const* at) {
  std::lock_guard const lock{mutex_};
  Piece* const piece = piece_of(at);
  if (piece == nullptr) return std::nullopt;
  if (piece->state == State::kPinned || piece->state == State::kAdopted) return piece->range;
  if (piece->state == State::kOffered && !refused_) {
    piece->state = State::kWanted;
    wanted_.push_back(piece->range.begin);
    wake_.notify_one();
  }
  return std::nullopt;
}

void PinnedMemory::settle() {
  std::unique_lock lock{mutex_};
  settled_.wait(lock, [&] { return wanted_.empty() && !working_; });
}

std::uint64_t PinnedMemory::pinned_bytes() const {
  std::lock_guard const lock{mutex_};
  return pinned_bytes_;
}

bool PinnedMemory::refused() const {
  std::lock_guard const lock{mutex_};
  return refused_;
}

void PinnedMemory::run() {
  std::unique_lock lock{mutex_};
  for (;;) {
    wake_.wait(lock, [&] { return stopping_ || !wanted_.empty(); });
    if (stopping_) {
      wanted_.clear();
      settled_.notify_all();
      return;
    }
    Piece& piece = pieces_.at(wanted_.front());  // a map's nodes stay put, and no piece goes
    wanted_.pop_front();
    PinnedRange const range = piece.range;
    std::uint64_t const pinned = pinned_bytes_;
    working_ = true;
    lock.unlock();
    State state = State::kPinned;
    auto device = pin(range, state);
    if (!device) refuse(device.error(), pinned);
    lock.lock();
    working_ = false;
    if (device) {
      piece.range.device = device.value();
      piece.state = state;
      pinned_bytes_ += range.size_bytes;
    } else {
      refused_ = true;
      wanted_.clear();
    }
    settled_.notify_all();
  }
}

Result<CudaAddress> PinnedMemory::pin(PinnedRange const& range, State& state) const {
  CudaScope const scope{api_, context_};
  LMC_TRY(cuda_done(api_, "cuCtxPushCurrent", scope.status()));
  CudaStatus const status = api_.host_register(range.begin, range.size_bytes, kRegisterFlags);
  if (status == CudaStatus::kHostMemoryAlreadyRegistered) {
    state = State::kAdopted;  // by somebody else in this process, whose business it is to end it
  } else {
    LMC_TRY(cuda_done(api_, "cuMemHostRegister", status));
  }
  CudaAddress device = 0;
  CudaStatus const asked = api_.host_device_address(&device, range.begin, 0);
  if (asked != CudaStatus::kSuccess && state == State::kPinned) {
    (void)api_.host_unregister(range.begin);
  }
  LMC_TRY(cuda_done(api_, "cuMemHostGetDevicePointer", asked));
  return device;
}

void PinnedMemory::refuse(Error const& error, std::uint64_t pinned) {
  log(log_, LogLevel::kWarning,
      "CUDA cannot pin more of the cache's memory (" + error.message() +
          "): " + std::to_string(pinned / 1'000'000) +
          " MB are pinned, the rest is copied through buffers, which is slower; a limit on locked "
          "memory (ulimit -l) is the usual reason");
}

}  // namespace lmcache
