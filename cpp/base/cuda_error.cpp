// SPDX-License-Identifier: Apache-2.0
#include <lmcache/base/cuda_error.hpp>

#include <utility>

namespace lmcache {

std::string cuda_error_text(CudaApi const& api, CudaStatus status) {
  char const* name = nullptr;
  bool const known = api.get_error_name != nullptr &&
                     api.get_error_name(status, &name) == CudaStatus::kSuccess && name != nullptr;
  std::string const text = known ? name : "CUDA error";
  return text + " (" + std::to_string(static_cast<int>(status)) + ")";
}

Error cuda_failure(CudaApi const& api, std::string doing, CudaStatus status) {
  auto const code = status == CudaStatus::kOutOfMemory ? ErrorCode::kOutOfMemory : ErrorCode::kCuda;
  return Error{code, std::move(doing) + ": " + cuda_error_text(api, status),
               static_cast<int>(status)};
}

}  // namespace lmcache
