// SPDX-License-Identifier: Apache-2.0
// A device with its primary context and our kernels: what copies and measurements begin with.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include <lmcache/base/cuda_api.hpp>
#include <lmcache/base/log.hpp>
#include <lmcache/base/result.hpp>
#include <lmcache/device/cuda_issue.hpp>

namespace lmcache::detail {

// Immutable once it is made.
class CudaSession {
 public:
  struct Options {
    int device = 0;
    std::span<std::byte const> kernel_image = {};  // empty: what was built in, if anything
    unsigned kernel_blocks = 16;
  };
  // Makes the context, if it is not there, and keeps it. Kernels that cannot be loaded are told of
  // in the log, and done without.
  static Result<std::unique_ptr<CudaSession>> open(CudaApi const& api, Options options,
                                                   LogHook const& log);
  // Accepts a driver that is unloading.
  ~CudaSession();
  CudaSession(CudaSession const&) = delete;
  CudaSession& operator=(CudaSession const&) = delete;

  [[nodiscard]] CudaApi const& api() const noexcept { return api_; }
  [[nodiscard]] CudaContext context() const noexcept { return context_; }
  [[nodiscard]] CudaIssuer::Kernel kernel() const noexcept { return kernel_; }
  // As the driver calls the device; empty if it does not.
  [[nodiscard]] std::string device_name() const;

 private:
  explicit CudaSession(CudaApi const& api) : api_{api} {}
  void load_kernel(std::span<std::byte const> image, LogHook const& log);
  [[nodiscard]] CudaStatus load_module(std::span<std::byte const> image);

  CudaApi const api_;
  CudaDevice device_ = 0;
  CudaContext context_ = nullptr;
  CudaModule module_ = nullptr;
  CudaIssuer::Kernel kernel_;
};

}  // namespace lmcache::detail
