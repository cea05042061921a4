// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/device_copiers.hpp>

#include <algorithm>
#include <cstdint>
#include <string>
#include <thread>
#include <utility>

#include <lmcache/device/cuda_loader.hpp>
#include <lmcache/device/host_copier.hpp>

namespace lmcache {
namespace {

std::uint32_t copy_threads(EngineOptions const& options) {
  if (options.copy_threads != 0) return options.copy_threads;
  return std::clamp(std::thread::hardware_concurrency(), 1u, 4u);
}

}  // namespace

Result<std::unique_ptr<DeviceCopiers>> DeviceCopiers::open(EngineOptions const& options,
                                                           Segment const& segment, LogHook log) {
  LMC_TRY_ASSIGN(auto host, HostCopier::create({.threads = copy_threads(options)}));
  return std::make_unique<DeviceCopiers>(std::move(host),
                                         Cuda{.source = options.cuda_source,
                                              .choice = options.cuda_choice,
                                              .slots = segment.all_payload(),
                                              .slots_piece_bytes = segment.header().extent_bytes,
                                              .pool_bytes = options.device_pool_bytes,
                                              .log = std::move(log)});
}

DeviceCopiers::DeviceCopiers(std::unique_ptr<DeviceCopier> host)
    : DeviceCopiers{std::move(host), Cuda{}} {}

DeviceCopiers::DeviceCopiers(std::unique_ptr<DeviceCopier> host, Cuda cuda)
    : cuda_{std::move(cuda)}, host_{std::move(host)} {}

DeviceCopiers::~DeviceCopiers() = default;

Result<std::unique_ptr<CudaCopier>> DeviceCopiers::make_cuda(int ordinal) const {
  LMC_TRY_ASSIGN(auto const api, cuda_.source ? cuda_.source() : load_cuda());
  return CudaCopier::create(api,
                            {.device = ordinal,
                             .slots = cuda_.slots,
                             .slots_piece_bytes = cuda_.slots_piece_bytes,
                             .pool_bytes = cuda_.pool_bytes,
                             .choice = cuda_.choice},
                            cuda_.log);
}

Result<DeviceCopier*> DeviceCopiers::of(KvDevice device) {
  if (device.kind == KvDeviceKind::kHost) return host_.get();
  std::lock_guard const lock{mutex_};
  auto const found = cuda_copiers_.find(device.ordinal);
  if (found != cuda_copiers_.end()) return found->second.get();
  auto made = make_cuda(device.ordinal);
  if (!made) {
    return std::move(made).error().with_context("CUDA device " + std::to_string(device.ordinal));
  }
  return cuda_copiers_.emplace(device.ordinal, std::move(made).value()).first->second.get();
}

std::span<std::byte> DeviceCopiers::pool_memory(KvDevice device) {
  if (device.kind == KvDeviceKind::kHost) return {};
  std::lock_guard const lock{mutex_};
  auto const found = cuda_copiers_.find(device.ordinal);
  return found == cuda_copiers_.end() ? std::span<std::byte>{} : found->second->pool_memory();
}

}  // namespace lmcache
