// SPDX-License-Identifier: Apache-2.0
// The kernels of the module image, by their C names. The launch bounds are their largest blocks; a
// block of 1,024 threads leaves 64 registers to each.
#include "cuda/copy_entries.hpp"
#include "cuda/launch.hpp"
#include "cuda/quantise_groups.hpp"

namespace lmcache::detail {

extern "C" __global__ void __launch_bounds__(1024)
    lmcache_copy_entries(CopyEntry const* entries, std::uint32_t count) {
  copy_entries(device_lane(), entries, count);
}

extern "C" __global__ void __launch_bounds__(kQuantiseBlockMax)
    lmcache_quantise_groups(void const* elements, std::uint8_t* codes, float* scales,
                            GroupShape shape) {
  quantise_groups(device_lane(), elements, codes, scales, shape);
}

extern "C" __global__ void __launch_bounds__(kQuantiseBlockMax)
    lmcache_dequantise_groups(std::uint8_t const* codes, float const* scales, void* elements,
                              GroupShape shape) {
  dequantise_groups(device_lane(), codes, scales, elements, shape);
}

}  // namespace lmcache::detail
