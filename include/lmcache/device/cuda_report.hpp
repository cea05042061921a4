// SPDX-License-Identifier: Apache-2.0
// What a device is, and how quickly it copies: for `lmcache bench gpu`.
#pragma once

#include <string>

#include <lmcache/base/cuda_api.hpp>
#include <lmcache/base/log.hpp>
#include <lmcache/base/result.hpp>
#include <lmcache/device/cuda_choice.hpp>
#include <lmcache/device/cuda_session.hpp>

namespace lmcache {

struct GpuReport {
  std::string device;
  int driver_version = 0;  // 1000 * major + 10 * minor
  bool batch_copies = false;
  bool kernels = false;
  CopyMeasurement measured;
  CopyChoice choice;
};

// Blocks for some 10 ms. kCuda, kOutOfMemory: the device cannot be used.
[[nodiscard]] Result<GpuReport> report_gpu(CudaApi const& api,
                                           detail::CudaSession::Options const& options,
                                           LogHook const& log, CopyMeasureOptions measure = {});
// Of a device of this machine. kUnavailable, with the reason: there is none, or no driver.
[[nodiscard]] Result<GpuReport> report_gpu(int device, LogHook const& log);

}  // namespace lmcache
