// SPDX-License-Identifier: Apache-2.0
// The compiled kernels, as bytes for the driver. Both are empty in a build without nvcc.
//
// Machine code of one CUDA release is refused by the drivers of the release before, and so is its
// PTX, by a version number in its first line. The kernels use nothing that is newer than CUDA 12.0,
// so the PTX here says 12.0, and every driver from then on compiles it where it refuses the machine
// code (or has none for its GPU: sm_75, and what comes after sm_90). It keeps what it compiled.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace lmcache {

// A fat binary for cuModuleLoadData: machine code for sm_80 (all of 8.x) and sm_90. Aligned to 16.
[[nodiscard]] std::span<std::byte const> kernel_image() noexcept;

// PTX for compute_75 and later. A NUL follows the text, as cuModuleLoadData wants it.
[[nodiscard]] std::string_view kernel_ptx() noexcept;

}  // namespace lmcache
