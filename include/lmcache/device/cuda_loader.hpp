// SPDX-License-Identifier: Apache-2.0
// Finds the CUDA driver at run time. Nothing is linked, and nothing is looked for before somebody
// asks: a process that copies in host memory pays nothing.
#pragma once

#include <functional>
#include <string>

#include <lmcache/base/cuda_api.hpp>
#include <lmcache/base/result.hpp>

namespace lmcache {

// The address of a driver call as of a CUDA version; null where this driver has none.
using CudaSymbolFinder = std::function<void*(char const* name, int version)>;

// Fills the table and initialises the driver. kUnavailable, with a reason that a person can act on:
// the driver is too old, lacks a call, refuses to start, or sees no device.
[[nodiscard]] Result<CudaApi> fill_cuda_api(CudaSymbolFinder const& find);

// The same from the driver of this machine, by its usual name or the given one. kUnavailable, as
// above, or: there is no driver. Blocks for as long as the driver takes to start (0.1 to 1 s with a
// device). The library stays loaded until the process ends, as its threads do.
[[nodiscard]] Result<CudaApi> load_cuda(std::string const& library = "libcuda.so.1");

}  // namespace lmcache
