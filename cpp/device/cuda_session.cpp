// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/cuda_session.hpp>

#include <array>

#include <lmcache/base/cuda_error.hpp>

#include "cuda/copy_kernel.hpp"
#include "cuda/kernel_image.hpp"

namespace lmcache::detail {

Result<std::unique_ptr<CudaSession>> CudaSession::open(CudaApi const& api, Options options,
                                                       LogHook const& log) {
  std::unique_ptr<CudaSession> made{new CudaSession{api}};
  LMC_TRY(cuda_done(api, "cuDeviceGet", api.device_get(&made->device_, options.device)));
  CudaContext context = nullptr;
  LMC_TRY(
      cuda_done(api, "the device's context", api.primary_context_retain(&context, made->device_)));
  made->context_ = context;
  made->kernel_.blocks = options.kernel_blocks;
  CudaScope const scope{api, context};
  LMC_TRY(cuda_done(api, "cuCtxPushCurrent", scope.status()));
  made->load_kernel(options.kernel_image, log);
  return made;
}

CudaSession::~CudaSession() {
  if (context_ == nullptr) return;
  if (module_ != nullptr) {
    CudaScope const scope{api_, context_};
    (void)api_.module_unload(module_);
  }
  (void)api_.primary_context_release(device_);
}

// Machine code first; the PTX where the driver has no use for it.
CudaStatus CudaSession::load_module(std::span<std::byte const> image) {
  CudaStatus status = api_.module_load(&module_, image.data());
  if (status != CudaStatus::kSuccess && !is_sticky(status) && !kernel_ptx().empty()) {
    status = api_.module_load(&module_, kernel_ptx().data());
  }
  if (status != CudaStatus::kSuccess) return status;
  return api_.module_function(&kernel_.function, module_, kCopyKernelName);
}

void CudaSession::load_kernel(std::span<std::byte const> image, LogHook const& log) {
  if (image.empty()) image = kernel_image();
  if (image.empty()) {
    lmcache::log(log, LogLevel::kInfo,
                 "built without CUDA kernels: the copy engine of the device copies everything");
    return;
  }
  CudaStatus const status = load_module(image);
  if (status == CudaStatus::kSuccess) return;
  kernel_.function = nullptr;
  lmcache::log(log, LogLevel::kWarning,
               "the driver refuses our CUDA kernels (" + cuda_error_text(api_, status) +
                   "): the copy engine of the device copies everything");
}

std::string CudaSession::device_name() const {
  std::array<char, 256> name{};
  auto const status = api_.device_get_name(name.data(), static_cast<int>(name.size()), device_);
  return status == CudaStatus::kSuccess ? name.data() : "";
}

}  // namespace lmcache::detail
