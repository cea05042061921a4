// SPDX-License-Identifier: Apache-2.0
// The kernels of cuda/, compiled for the host, for a simulated device.
#pragma once

#include <cstring>
#include <vector>

#include "cuda/copy_kernel.hpp"
#include "cuda/host_kernels.hpp"
#include "cuda_sim/cuda_sim.hpp"

namespace lmcache::test {

inline std::vector<SimKernel> sim_kernels() {
  std::vector<SimKernel> kernels;
  for (HostKernel const& kernel : host_kernels()) {
    if (std::strcmp(kernel.name, kCopyKernelName) != 0) continue;
    kernels.push_back({.name = kernel.name,
                       .run = kernel.run,
                       .parameter_bytes = {sizeof(CopyEntry*), sizeof(std::uint32_t)}});
  }
  return kernels;
}

}  // namespace lmcache::test
