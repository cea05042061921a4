// SPDX-License-Identifier: Apache-2.0
// The kernels as functions of the host: the twins of those in the module image, from the same
// source. For machines without a GPU, for a simulated driver, for sanitizers.
#pragma once

#include <span>

namespace lmcache {

// run() returns when all threads of the launch have run, one after the other. args[i] points to the
// i-th parameter, as cuLaunchKernel takes them; addresses are those of this process. Thread-safe.
struct HostKernel {
  char const* name = nullptr;
  void (*run)(unsigned grid, unsigned block, void** args) = nullptr;
};

[[nodiscard]] std::span<HostKernel const> host_kernels() noexcept;

}  // namespace lmcache
