// SPDX-License-Identifier: Apache-2.0
#include "cuda/host_kernels.hpp"

#include "cuda/copy_entries.hpp"
#include "cuda/launch.hpp"
#include "cuda/quantise_groups.hpp"

namespace lmcache {

std::span<HostKernel const> host_kernels() noexcept {
  using namespace detail;
  static constexpr HostKernel kKernels[] = {
      {kCopyKernelName, [](unsigned grid, unsigned block,
                           void** args) { launch_on_host(copy_entries, grid, block, args); }},
      {kQuantiseKernelName,
       [](unsigned grid, unsigned block, void** args) {
         launch_on_host(quantise_groups, grid, block, args);
       }},
      {kDequantiseKernelName,
       [](unsigned grid, unsigned block, void** args) {
         launch_on_host(dequantise_groups, grid, block, args);
       }},
  };
  return kKernels;
}

}  // namespace lmcache
