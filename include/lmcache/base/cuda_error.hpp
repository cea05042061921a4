// SPDX-License-Identifier: Apache-2.0
// What CUDA said, as an Error.
#pragma once

#include <string>

#include <lmcache/base/cuda_api.hpp>
#include <lmcache/base/result.hpp>

namespace lmcache {

// "CUDA_ERROR_NOT_PERMITTED (800)".
[[nodiscard]] std::string cuda_error_text(CudaApi const& api, CudaStatus status);
// kCuda with that text; kOutOfMemory where that is what CUDA said.
[[nodiscard]] Error cuda_failure(CudaApi const& api, std::string doing, CudaStatus status);

// Nothing, or cuda_failure().
[[nodiscard]] inline Result<void> cuda_done(CudaApi const& api, char const* doing,
                                            CudaStatus status) {
  if (status == CudaStatus::kSuccess) return {};
  return cuda_failure(api, doing, status);
}

// The context is current on this thread while one of these lives. Threads of ours have none, and
// those of the serving engine may have another one.
class CudaScope {
 public:
  CudaScope(CudaApi const& api, CudaContext context)
      : api_{api}, status_{api.context_push(context)} {}
  ~CudaScope() {
    CudaContext popped = nullptr;
    if (status_ == CudaStatus::kSuccess) (void)api_.context_pop(&popped);
  }
  CudaScope(CudaScope const&) = delete;
  CudaScope& operator=(CudaScope const&) = delete;

  [[nodiscard]] CudaStatus status() const noexcept { return status_; }

 private:
  CudaApi const& api_;
  CudaStatus status_;
};

}  // namespace lmcache
