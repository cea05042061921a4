// SPDX-License-Identifier: Apache-2.0
// One thread of a launch as a value, so that the body of a kernel is an ordinary function: nvcc
// compiles it for the device, the host's compiler for tests, sanitizers and the CPU twins.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define LMC_KERNEL_BODY __device__ inline
#define LMC_UNROLL _Pragma("unroll")
// nvcc unrolls what it can, and an edge of a few bytes would take most of the code and registers.
#define LMC_ROLLED _Pragma("unroll 1")
#else
#define LMC_KERNEL_BODY inline
#define LMC_UNROLL
#define LMC_ROLLED
#endif

namespace lmcache::detail {

inline constexpr std::uint32_t kWarpThreads = 32;

struct Lane {
  std::uint32_t block = 0;
  std::uint32_t thread = 0;
  std::uint32_t grid = 1;     // blocks of the launch
  std::uint32_t threads = 1;  // of each block
};

// What one thread loads and stores at a time. It may alias anything, as bytes may; its alignment
// holds, and UBSan checks that on the host.
struct alignas(16) [[gnu::may_alias]] Vector {
  std::uint32_t words[4];
};
struct [[gnu::may_alias]] Word {
  std::uint32_t bits;
};

// Bytes that are read once and written once: they are the first to leave the caches again, so the
// serving engine's kernels keep theirs. The loads are not the non-coherent ones (ld.global.nc):
// within the device an engine's memory may be written by another stream's kernel in between.
LMC_KERNEL_BODY Vector load_once(Vector const* from) {
#if defined(__CUDA_ARCH__)
  uint4 const v = __ldcs(reinterpret_cast<uint4 const*>(from));
  return {{v.x, v.y, v.z, v.w}};
#else
  return *from;
#endif
}

LMC_KERNEL_BODY void store_once(Vector* to, Vector const& value) {
#if defined(__CUDA_ARCH__)
  __stcs(reinterpret_cast<uint4*>(to),
         make_uint4(value.words[0], value.words[1], value.words[2], value.words[3]));
#else
  *to = value;
#endif
}

LMC_KERNEL_BODY Word load_once(Word const* from) {
#if defined(__CUDA_ARCH__)
  return {__ldcs(&from->bits)};
#else
  return *from;
#endif
}

LMC_KERNEL_BODY void store_once(Word* to, Word value) {
#if defined(__CUDA_ARCH__)
  __stcs(&to->bits, value.bits);
#else
  *to = value;
#endif
}

LMC_KERNEL_BODY std::uint8_t load_once(std::uint8_t const* from) {
#if defined(__CUDA_ARCH__)
  return __ldcs(from);
#else
  return *from;
#endif
}

LMC_KERNEL_BODY void store_once(std::uint8_t* to, std::uint8_t value) {
#if defined(__CUDA_ARCH__)
  __stcs(to, value);
#else
  *to = value;
#endif
}

}  // namespace lmcache::detail
