// SPDX-License-Identifier: Apache-2.0
#include "cuda/kernel_image.hpp"

#if defined(LMC_WITH_CUDA)
#include "kernel_bytes.hpp"  // generated: kFatbin, kPtx
#endif

namespace lmcache {

std::span<std::byte const> kernel_image() noexcept {
#if defined(LMC_WITH_CUDA)
  return std::as_bytes(std::span{detail::kFatbin});
#else
  return {};
#endif
}

std::string_view kernel_ptx() noexcept {
#if defined(LMC_WITH_CUDA)
  return {reinterpret_cast<char const*>(detail::kPtx), sizeof(detail::kPtx) - 1};
#else
  return {};
#endif
}

}  // namespace lmcache
