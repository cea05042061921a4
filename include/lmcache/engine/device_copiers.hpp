// SPDX-License-Identifier: Apache-2.0
// The copiers of one engine: that of host memory, and one for each CUDA device whose memory was
// registered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>

#include <lmcache/base/cuda_api.hpp>
#include <lmcache/base/log.hpp>
#include <lmcache/base/result.hpp>
#include <lmcache/device/cuda_copier.hpp>
#include <lmcache/device/device_copier.hpp>
#include <lmcache/engine/engine_options.hpp>
#include <lmcache/layout/kv_view.hpp>
#include <lmcache/memory/segment.hpp>

namespace lmcache {

// Thread-safe, but for the destructor, which drains them all.
class DeviceCopiers {
 public:
  struct Cuda {
    std::function<Result<CudaApi>()> source = {};     // as EngineOptions::cuda_source
    std::optional<CopyChoice> choice = std::nullopt;  // as EngineOptions::cuda_choice
    // Slots, and what is pinned of them at a time. They must outlive the copiers.
    std::span<std::byte> slots = {};
    std::uint64_t slots_piece_bytes = std::uint64_t{256} << 20;
    std::uint64_t pool_bytes = 0;  // of each device, as CudaCopierOptions::pool_bytes
    LogHook log = {};
  };

  // As the options say, for the slots of this segment. Errors: those of HostCopier::create().
  [[nodiscard]] static Result<std::unique_ptr<DeviceCopiers>> open(EngineOptions const& options,
                                                                   Segment const& segment,
                                                                   LogHook log);
  explicit DeviceCopiers(std::unique_ptr<DeviceCopier> host);
  DeviceCopiers(std::unique_ptr<DeviceCopier> host, Cuda cuda);
  ~DeviceCopiers();
  DeviceCopiers(DeviceCopiers const&) = delete;
  DeviceCopiers& operator=(DeviceCopiers const&) = delete;

  // The copier for memory of this device, valid as long as this. That of a CUDA device is made when
  // it is first asked for, which blocks while the driver starts: a second or so, once. Errors:
  // those of load_cuda() and of CudaCopier::create(); asking again tries again.
  [[nodiscard]] Result<DeviceCopier*> of(KvDevice device);
  // Memory of a device for slots, valid as long as its copier. Empty: there is none, or the device
  // was not asked for.
  [[nodiscard]] std::span<std::byte> pool_memory(KvDevice device);

 private:
  [[nodiscard]] Result<std::unique_ptr<CudaCopier>> make_cuda(int ordinal) const;

  Cuda const cuda_;
  std::unique_ptr<DeviceCopier> const host_;
  // Guards cuda_copiers_, also while one is made: nobody who copies needs it.
  std::mutex mutex_;
  std::map<int, std::unique_ptr<CudaCopier>> cuda_copiers_;
};

}  // namespace lmcache
