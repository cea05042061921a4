// SPDX-License-Identifier: Apache-2.0
// A simulated device with a copier, for the tests of what runs on it.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <lmcache/device/cuda_copier.hpp>

#include "copier_decorators.hpp"
#include "copy_scene.hpp"
#include "cuda_sim/cuda_sim.hpp"
#include "cuda_sim/sim_kernels.hpp"
#include "support/must.hpp"

namespace lmcache::test {

// How a test wants bytes to go.
struct CudaWay {
  int batch_version = 13;
  bool kernels = true;
  // 0: the copy engine takes everything; else entries below it go by the kernel.
  std::uint64_t engine_from_bytes = 1 << 20;
  std::uint64_t seed = 1;
  unsigned most_delay_us = 40;
};

inline constexpr std::byte kAnyImage[4] = {};

// Small pieces and buffers, so that small scenes are cut and wait for room.
inline CudaCopierOptions small_options(CudaWay way = {}) {
  CopyChoice::Side const side{.engine_from_bytes = way.engine_from_bytes, .fewest = 1};
  return {.pieces = {.piece_bytes = 20'000, .plane_bytes = 2'000},
          .staging_bytes = 100'000,
          .entry_bytes = 1024 * 1024,
          .kernel_image = kAnyImage,
          .kernel_blocks = 4,
          .choice = CopyChoice{.store = side, .load = side, .inside = side}};
}

// One at a time, as simulations are.
class CudaWorld {
 public:
  explicit CudaWorld(CudaWay way = {}, std::optional<CudaCopierOptions> options = {})
      : sim_{{.seed = way.seed,
              .most_delay_us = way.most_delay_us,
              .batch_version = way.batch_version,
              .loads_modules = way.kernels,
              .kernels = sim_kernels()}} {
    current() = this;
    copier_ = must(CudaCopier::create(sim_.api(), options.value_or(small_options(way)),
                                      [this](LogLevel level, std::string_view text) {
                                        std::lock_guard const lock{mutex_};
                                        if (level >= LogLevel::kError) lines_.emplace_back(text);
                                      }));
  }
  ~CudaWorld() {
    for (CudaStream const stream : sim_.streams()) sim_.release(stream);
    copier_.reset();
    for (std::string const& violation : sim_.violations()) ADD_FAILURE() << violation;
    current() = nullptr;
  }
  CudaWorld(CudaWorld const&) = delete;
  CudaWorld& operator=(CudaWorld const&) = delete;

  static CudaWorld*& current() {
    static CudaWorld* world = nullptr;
    return world;
  }

  // The current one, if somebody shares it.
  static std::weak_ptr<CudaWorld>& shared() {
    static std::weak_ptr<CudaWorld> world;
    return world;
  }

  CudaSim& sim() { return sim_; }
  CudaCopier& copier() { return *copier_; }
  void end_copier() { copier_.reset(); }
  // Of errors.
  std::vector<std::string> lines() {
    std::lock_guard const lock{mutex_};
    return lines_;
  }
  CudaStream foreground() { return sim_.streams()[0]; }
  CudaStream background() { return sim_.streams()[1]; }

 private:
  CudaSim sim_;
  std::mutex mutex_;
  std::vector<std::string> lines_;
  std::unique_ptr<CudaCopier> copier_;
};

// Memory of the simulated device, and slots that are not pinned.
class CudaEngineMemory {
 public:
  using Slot = Bytes;

  explicit CudaEngineMemory(std::size_t bytes)
      : bytes_{bytes}, address_{CudaWorld::current()->sim().allocate_device(bytes)} {}
  std::byte* data() { return reinterpret_cast<std::byte*>(address_); }
  void write(Bytes const& bytes) { CudaWorld::current()->sim().write_device(address_, bytes); }
  [[nodiscard]] Bytes read() const {
    return CudaWorld::current()->sim().read_device(address_, bytes_);
  }

 private:
  std::shared_ptr<CudaWorld> keeps_ = CudaWorld::shared().lock();
  std::size_t bytes_;
  CudaAddress address_;
};

// Memory that the device reaches.
template <class T>
struct PinnedAllocator {
  using value_type = T;
  PinnedAllocator() = default;
  template <class U>
  PinnedAllocator(PinnedAllocator<U> const&) {}  // NOLINT(google-explicit-constructor)

  T* allocate(std::size_t count) {
    void* const made = std::malloc(count * sizeof(T));
    in_context([&](CudaApi const& api) { (void)api.host_register(made, count * sizeof(T), 3); });
    CudaWorld::current()->copier().pinned().adopt({.begin = static_cast<std::byte*>(made),
                                                   .size_bytes = count * sizeof(T),
                                                   .device = reinterpret_cast<CudaAddress>(made)});
    return static_cast<T*>(made);
  }
  void deallocate(T* made, std::size_t) {
    in_context([&](CudaApi const& api) { (void)api.host_unregister(made); });
    std::free(made);
  }
  template <class Call>
  static void in_context(Call call) {
    if (CudaWorld::current() == nullptr) return;
    auto const& api = CudaWorld::current()->sim().api();
    CudaContext context = nullptr;
    (void)api.primary_context_retain(&context, 0);
    (void)api.context_push(context);
    call(api);
    (void)api.context_pop(&context);
    (void)api.primary_context_release(0);
  }
  bool operator==(PinnedAllocator const&) const = default;
};

class CudaPinnedMemory : public CudaEngineMemory {
 public:
  using Slot = std::vector<std::byte, PinnedAllocator<std::byte>>;
  using CudaEngineMemory::CudaEngineMemory;
};

// The device's copier for the conformance suite, with the world it lives in.
class WorldCopier final : public DeviceCopier {
 public:
  explicit WorldCopier(CudaWay way) : world_{std::make_shared<CudaWorld>(way)} {
    CudaWorld::shared() = world_;
  }
  // The suite looks at the engine's memory after the copier is gone: that keeps the world.
  ~WorldCopier() override { world_->end_copier(); }
  static std::unique_ptr<DeviceCopier> make(CudaWay way) {
    return std::make_unique<WorldCopier>(way);
  }

 private:
  DeviceCopier& inner() const { return world_->copier(); }

  Result<CopyTicket> do_submit(CopyBatch batch) override {
    return inner().submit(std::move(batch));
  }
  std::optional<CopyProgress> do_progress(CopyTicket ticket) const override {
    return inner().progress(ticket);
  }
  CopyStatus do_item_status(CopyTicket ticket, std::uint32_t item) const override {
    return inner().item_status(ticket, item);
  }
  std::optional<CopyProgress> do_wait(CopyTicket ticket, std::uint32_t planes,
                                      CopyDeadline deadline) override {
    if (planes == kWholeBatch || planes == 0) {
      (void)inner().wait(ticket, planes == 0 ? CopyDeadline::min() : deadline);
    } else {
      (void)inner().wait_plane(ticket, planes - 1, deadline);
    }
    return inner().progress(ticket);
  }
  Result<bool> do_stream_wait(CopyTicket ticket, std::uint32_t planes, EngineStream stream,
                              CopyDeadline deadline) override {
    return inner().stream_wait_plane(ticket, planes == 0 ? 0 : planes - 1, stream, deadline);
  }
  void do_cancel(CopyTicket ticket) override { inner().cancel(ticket); }
  void do_retire(CopyTicket ticket) override { inner().retire(ticket); }

  std::shared_ptr<CudaWorld> world_;
};

}  // namespace lmcache::test
