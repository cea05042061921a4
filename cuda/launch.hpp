// SPDX-License-Identifier: Apache-2.0
// The two launchers of a kernel body `void body(Lane, parameters...)`: as a thread of the device,
// and on the host, where the lanes of a launch run one after the other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "cuda/lane.hpp"

namespace lmcache::detail {

#if defined(__CUDACC__)

// For the one line of a __global__ function. Grids and blocks have one dimension here.
__device__ inline Lane device_lane() {
  return {.block = blockIdx.x, .thread = threadIdx.x, .grid = gridDim.x, .threads = blockDim.x};
}

#else

// Runs blocks [first, last) of a launch, so that a test can spread the blocks over threads: two
// blocks that touch the same byte are a data race then, and ThreadSanitizer says so.
template <class... P>
void run_blocks(void (*body)(Lane, P...), std::uint32_t first, std::uint32_t last, Lane shape,
                P... parameters) {
  for (shape.block = first; shape.block < last; ++shape.block) {
    for (shape.thread = 0; shape.thread < shape.threads; ++shape.thread) {
      body(shape, parameters...);
    }
  }
}

template <class... P, std::size_t... I>
void run_packed(void (*body)(Lane, P...), Lane shape, void** args, std::index_sequence<I...>) {
  run_blocks<P...>(body, 0, shape.grid, shape, *static_cast<P*>(args[I])...);
}

// As cuLaunchKernel takes them: args[i] points to the i-th parameter.
template <class... P>
void launch_on_host(void (*body)(Lane, P...), unsigned grid, unsigned block, void** args) {
  run_packed(body, Lane{.grid = grid, .threads = block}, args, std::index_sequence_for<P...>{});
}

#endif

}  // namespace lmcache::detail
