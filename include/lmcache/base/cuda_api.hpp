// SPDX-License-Identifier: Apache-2.0
// The calls of the CUDA driver that we use, as a table of plain function pointers, so that the same
// library works with and without a GPU and tests can put a simulation behind it. No CUDA header:
// where our types and numbers repeat CUDA's, cpp/device/cuda_abi_check.cpp compares them when it is
// compiled with CUDA.
//
// Driver, not runtime: one library (libcuda.so.1) that comes with every driver, instead of one per
// major version. A cudaStream_t of the runtime is a CUstream, so the streams of torch can be used.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lmcache {

// CUresult. Only the values that somebody reacts to have a name.
enum class CudaStatus : int {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kNotInitialized = 3,
  kDeinitialized = 4,
  kStubLibrary = 34,
  kDeviceUnavailable = 46,
  kNoDevice = 100,
  kInvalidImage = 200,
  kInvalidContext = 201,
  kNoBinaryForGpu = 209,
  kEccUncorrectable = 214,
  kNvlinkUncorrectable = 220,
  kUnsupportedPtxVersion = 222,
  kContained = 226,
  kOperatingSystem = 304,
  kInvalidHandle = 400,
  kNotFound = 500,
  kNotReady = 600,
  kIllegalAddress = 700,
  kLaunchTimeout = 702,
  kContextIsDestroyed = 709,
  kAssert = 710,
  kHostMemoryAlreadyRegistered = 712,
  kHostMemoryNotRegistered = 713,
  kLaunchFailed = 719,
  kTensorMemoryLeak = 721,
  kNotPermitted = 800,
  kNotSupported = 801,
  kSystemNotReady = 802,
  kSystemDriverMismatch = 803,
  kUnknown = 999,
};

using CudaDevice = int;             // CUdevice
using CudaAddress = std::uint64_t;  // CUdeviceptr
using CudaContext = struct CudaContextObject*;
using CudaStream = struct CudaStreamObject*;  // null: the legacy default stream
using CudaEvent = struct CudaEventObject*;
using CudaModule = struct CudaModuleObject*;
using CudaFunction = struct CudaFunctionObject*;

struct CudaMemLocation {  // CUmemLocation
  int type = 0;
  int id = 0;
};

struct CudaMemcpyAttributes {  // CUmemcpyAttributes
  int source_order = 0;
  CudaMemLocation source_hint = {};
  CudaMemLocation target_hint = {};
  unsigned flags = 0;
};

namespace cuda {

inline constexpr unsigned kHostAllocPortable = 1;
inline constexpr unsigned kHostAllocDeviceMap = 2;
inline constexpr unsigned kHostRegisterPortable = 1;
inline constexpr unsigned kHostRegisterDeviceMap = 2;
inline constexpr unsigned kStreamNonBlocking = 1;
inline constexpr unsigned kEventDefault = 0;
inline constexpr unsigned kEventDisableTiming = 2;
inline constexpr int kSourceOrderStream = 1;
inline constexpr int kSourceOrderAny = 3;
inline constexpr unsigned kPreferOverlapWithCompute = 1;
inline constexpr int kAttributeMultiprocessors = 16;
inline constexpr int kAttributeComputeMajor = 75;
inline constexpr int kAttributeComputeMinor = 76;

}  // namespace cuda

// What each call does is CUDA's documentation of the name in the comment. All are set, but for the
// two batch copies: a driver before 12.8 has neither, 12.8 and 12.9 have the first, 13.0 the other.
struct CudaApi {
  CudaStatus (*get_error_name)(CudaStatus, char const**) = nullptr;
  CudaStatus (*device_get)(CudaDevice*, int ordinal) = nullptr;
  CudaStatus (*device_get_count)(int*) = nullptr;
  CudaStatus (*device_get_name)(char*, int length, CudaDevice) = nullptr;
  CudaStatus (*device_get_attribute)(int*, int attribute, CudaDevice) = nullptr;
  CudaStatus (*primary_context_retain)(CudaContext*, CudaDevice) = nullptr;
  CudaStatus (*primary_context_release)(CudaDevice) = nullptr;
  CudaStatus (*context_push)(CudaContext) = nullptr;
  CudaStatus (*context_pop)(CudaContext*) = nullptr;
  CudaStatus (*priority_range)(int* least, int* greatest) = nullptr;
  CudaStatus (*mem_alloc)(CudaAddress*, std::size_t bytes) = nullptr;
  CudaStatus (*mem_free)(CudaAddress) = nullptr;
  CudaStatus (*host_alloc)(void**, std::size_t bytes, unsigned flags) = nullptr;
  CudaStatus (*host_free)(void*) = nullptr;
  CudaStatus (*host_register)(void*, std::size_t bytes, unsigned flags) = nullptr;
  CudaStatus (*host_unregister)(void*) = nullptr;
  CudaStatus (*host_device_address)(CudaAddress*, void* host, unsigned flags) = nullptr;
  CudaStatus (*stream_create)(CudaStream*, unsigned flags, int priority) = nullptr;
  CudaStatus (*stream_destroy)(CudaStream) = nullptr;
  CudaStatus (*stream_wait_event)(CudaStream, CudaEvent, unsigned flags) = nullptr;
  CudaStatus (*stream_synchronize)(CudaStream) = nullptr;
  CudaStatus (*event_create)(CudaEvent*, unsigned flags) = nullptr;
  CudaStatus (*event_destroy)(CudaEvent) = nullptr;
  CudaStatus (*event_record)(CudaEvent, CudaStream) = nullptr;
  CudaStatus (*event_query)(CudaEvent) = nullptr;
  CudaStatus (*event_elapsed_ms)(float*, CudaEvent begin, CudaEvent end) = nullptr;
  CudaStatus (*memcpy_async)(CudaAddress to, CudaAddress from, std::size_t bytes,
                             CudaStream) = nullptr;
  CudaStatus (*memcpy_batch_12)(CudaAddress* to, CudaAddress* from, std::size_t* bytes,
                                std::size_t count, CudaMemcpyAttributes*,
                                std::size_t* attribute_begin, std::size_t attribute_count,
                                std::size_t* failed, CudaStream) = nullptr;
  CudaStatus (*memcpy_batch_13)(CudaAddress* to, CudaAddress* from, std::size_t* bytes,
                                std::size_t count, CudaMemcpyAttributes*,
                                std::size_t* attribute_begin, std::size_t attribute_count,
                                CudaStream) = nullptr;
  CudaStatus (*module_load)(CudaModule*, void const* image) = nullptr;
  CudaStatus (*module_unload)(CudaModule) = nullptr;
  CudaStatus (*module_function)(CudaFunction*, CudaModule, char const* name) = nullptr;
  CudaStatus (*launch_kernel)(CudaFunction, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                              unsigned block_x, unsigned block_y, unsigned block_z,
                              unsigned shared_bytes, CudaStream, void** parameters,
                              void** extra) = nullptr;

  int driver_version = 0;  // 1000 * major + 10 * minor, of the CUDA that the driver supports
};

// The context cannot be used any more, whatever is called: the process would have to start anew.
[[nodiscard]] constexpr bool is_sticky(CudaStatus status) noexcept {
  auto const number = static_cast<int>(status);
  // 700 to 721 hold a few that are not (704, 705, 708, 711 to 713, 701, 720): wrong use or too
  // little room for a launch.
  if (number >= 702 && number <= 721) {
    return number == 702 || number == 709 || number == 710 || (number >= 714 && number <= 719) ||
           number == 721;
  }
  switch (status) {
    case CudaStatus::kNotInitialized:
    case CudaStatus::kDeinitialized:
    case CudaStatus::kDeviceUnavailable:
    case CudaStatus::kInvalidContext:
    case CudaStatus::kEccUncorrectable:
    case CudaStatus::kNvlinkUncorrectable:
    case CudaStatus::kContained:
    case CudaStatus::kIllegalAddress:
    case CudaStatus::kUnknown:
      return true;
    default:
      return false;
  }
}

}  // namespace lmcache
