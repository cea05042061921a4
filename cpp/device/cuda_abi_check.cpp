// SPDX-License-Identifier: Apache-2.0
// Compiled only with CUDA: our table and numbers are those of <cuda.h>. No code.
#include <cuda.h>
#include <lmcache/base/cuda_api.hpp>

#include <cstddef>
#include <type_traits>

namespace lmcache {
namespace {

constexpr bool is(CudaStatus ours, CUresult theirs) {
  return static_cast<int>(ours) == static_cast<int>(theirs);
}

static_assert(is(CudaStatus::kSuccess, CUDA_SUCCESS));
static_assert(is(CudaStatus::kInvalidValue, CUDA_ERROR_INVALID_VALUE));
static_assert(is(CudaStatus::kOutOfMemory, CUDA_ERROR_OUT_OF_MEMORY));
static_assert(is(CudaStatus::kNotInitialized, CUDA_ERROR_NOT_INITIALIZED));
static_assert(is(CudaStatus::kDeinitialized, CUDA_ERROR_DEINITIALIZED));
static_assert(is(CudaStatus::kStubLibrary, CUDA_ERROR_STUB_LIBRARY));
static_assert(is(CudaStatus::kDeviceUnavailable, CUDA_ERROR_DEVICE_UNAVAILABLE));
static_assert(is(CudaStatus::kNoDevice, CUDA_ERROR_NO_DEVICE));
static_assert(is(CudaStatus::kInvalidImage, CUDA_ERROR_INVALID_IMAGE));
static_assert(is(CudaStatus::kInvalidContext, CUDA_ERROR_INVALID_CONTEXT));
static_assert(is(CudaStatus::kNoBinaryForGpu, CUDA_ERROR_NO_BINARY_FOR_GPU));
static_assert(is(CudaStatus::kEccUncorrectable, CUDA_ERROR_ECC_UNCORRECTABLE));
static_assert(is(CudaStatus::kNvlinkUncorrectable, CUDA_ERROR_NVLINK_UNCORRECTABLE));
static_assert(is(CudaStatus::kUnsupportedPtxVersion, CUDA_ERROR_UNSUPPORTED_PTX_VERSION));
#if CUDA_VERSION >= 12060
static_assert(is(CudaStatus::kContained, CUDA_ERROR_CONTAINED));
static_assert(is(CudaStatus::kTensorMemoryLeak, CUDA_ERROR_TENSOR_MEMORY_LEAK));
#endif
static_assert(is(CudaStatus::kOperatingSystem, CUDA_ERROR_OPERATING_SYSTEM));
static_assert(is(CudaStatus::kInvalidHandle, CUDA_ERROR_INVALID_HANDLE));
static_assert(is(CudaStatus::kNotFound, CUDA_ERROR_NOT_FOUND));
static_assert(is(CudaStatus::kNotReady, CUDA_ERROR_NOT_READY));
static_assert(is(CudaStatus::kIllegalAddress, CUDA_ERROR_ILLEGAL_ADDRESS));
static_assert(is(CudaStatus::kLaunchTimeout, CUDA_ERROR_LAUNCH_TIMEOUT));
static_assert(is(CudaStatus::kContextIsDestroyed, CUDA_ERROR_CONTEXT_IS_DESTROYED));
static_assert(is(CudaStatus::kAssert, CUDA_ERROR_ASSERT));
static_assert(is(CudaStatus::kHostMemoryAlreadyRegistered,
                 CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED));
static_assert(is(CudaStatus::kHostMemoryNotRegistered, CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED));
static_assert(is(CudaStatus::kLaunchFailed, CUDA_ERROR_LAUNCH_FAILED));
static_assert(is(CudaStatus::kNotPermitted, CUDA_ERROR_NOT_PERMITTED));
static_assert(is(CudaStatus::kNotSupported, CUDA_ERROR_NOT_SUPPORTED));
static_assert(is(CudaStatus::kSystemNotReady, CUDA_ERROR_SYSTEM_NOT_READY));
static_assert(is(CudaStatus::kSystemDriverMismatch, CUDA_ERROR_SYSTEM_DRIVER_MISMATCH));
static_assert(is(CudaStatus::kUnknown, CUDA_ERROR_UNKNOWN));

static_assert(cuda::kHostAllocPortable == CU_MEMHOSTALLOC_PORTABLE);
static_assert(cuda::kHostAllocDeviceMap == CU_MEMHOSTALLOC_DEVICEMAP);
static_assert(cuda::kHostRegisterPortable == CU_MEMHOSTREGISTER_PORTABLE);
static_assert(cuda::kHostRegisterDeviceMap == CU_MEMHOSTREGISTER_DEVICEMAP);
static_assert(cuda::kStreamNonBlocking == CU_STREAM_NON_BLOCKING);
static_assert(cuda::kEventDefault == CU_EVENT_DEFAULT);
static_assert(cuda::kEventDisableTiming == CU_EVENT_DISABLE_TIMING);
static_assert(cuda::kAttributeMultiprocessors == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
static_assert(cuda::kAttributeComputeMajor == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
static_assert(cuda::kAttributeComputeMinor == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);

static_assert(sizeof(CudaDevice) == sizeof(CUdevice));
static_assert(sizeof(CudaAddress) == sizeof(CUdeviceptr));
static_assert(sizeof(CudaStatus) == sizeof(CUresult));
static_assert(sizeof(CudaStream) == sizeof(CUstream));

#if CUDA_VERSION >= 12080
static_assert(cuda::kSourceOrderStream == CU_MEMCPY_SRC_ACCESS_ORDER_STREAM);
static_assert(cuda::kSourceOrderAny == CU_MEMCPY_SRC_ACCESS_ORDER_ANY);
static_assert(cuda::kPreferOverlapWithCompute == CU_MEMCPY_FLAG_PREFER_OVERLAP_WITH_COMPUTE);
static_assert(sizeof(CudaMemcpyAttributes) == sizeof(CUmemcpyAttributes));
static_assert(offsetof(CudaMemcpyAttributes, source_order) ==
              offsetof(CUmemcpyAttributes, srcAccessOrder));
static_assert(offsetof(CudaMemcpyAttributes, source_hint) ==
              offsetof(CUmemcpyAttributes, srcLocHint));
static_assert(offsetof(CudaMemcpyAttributes, target_hint) ==
              offsetof(CUmemcpyAttributes, dstLocHint));
static_assert(offsetof(CudaMemcpyAttributes, flags) == offsetof(CUmemcpyAttributes, flags));
static_assert(sizeof(CudaMemLocation) == sizeof(CUmemLocation));
#endif

// The same calls, parameter by parameter: as many, of the same sizes, passed in the same registers.
template <class Ours, class Theirs>
constexpr bool kSameParameter =
    sizeof(Ours) == sizeof(Theirs) && (std::is_pointer_v<Ours> == std::is_pointer_v<Theirs>) &&
    (std::is_floating_point_v<Ours> == std::is_floating_point_v<Theirs>);

template <class Ours, class Theirs>
struct SameCall : std::false_type {};
template <class... Ours, class... Theirs>
struct SameCall<CudaStatus (*)(Ours...), CUresult(Theirs...)>
    : std::bool_constant<sizeof...(Ours) == sizeof...(Theirs)> {
  static_assert((kSameParameter<Ours, Theirs> && ...));
};

#define LMC_SAME_CALL(member, call) \
  static_assert(SameCall<decltype(CudaApi::member), decltype(call)>::value)
LMC_SAME_CALL(get_error_name, cuGetErrorName);
LMC_SAME_CALL(device_get, cuDeviceGet);
LMC_SAME_CALL(device_get_count, cuDeviceGetCount);
LMC_SAME_CALL(device_get_name, cuDeviceGetName);
LMC_SAME_CALL(device_get_attribute, cuDeviceGetAttribute);
LMC_SAME_CALL(primary_context_retain, cuDevicePrimaryCtxRetain);
LMC_SAME_CALL(primary_context_release, cuDevicePrimaryCtxRelease);
LMC_SAME_CALL(context_push, cuCtxPushCurrent);
LMC_SAME_CALL(context_pop, cuCtxPopCurrent);
LMC_SAME_CALL(priority_range, cuCtxGetStreamPriorityRange);
LMC_SAME_CALL(mem_alloc, cuMemAlloc);
LMC_SAME_CALL(mem_free, cuMemFree);
LMC_SAME_CALL(host_alloc, cuMemHostAlloc);
LMC_SAME_CALL(host_free, cuMemFreeHost);
LMC_SAME_CALL(host_register, cuMemHostRegister);
LMC_SAME_CALL(host_unregister, cuMemHostUnregister);
LMC_SAME_CALL(host_device_address, cuMemHostGetDevicePointer);
LMC_SAME_CALL(stream_create, cuStreamCreateWithPriority);
LMC_SAME_CALL(stream_destroy, cuStreamDestroy);
LMC_SAME_CALL(stream_wait_event, cuStreamWaitEvent);
LMC_SAME_CALL(stream_synchronize, cuStreamSynchronize);
LMC_SAME_CALL(event_create, cuEventCreate);
LMC_SAME_CALL(event_destroy, cuEventDestroy);
LMC_SAME_CALL(event_record, cuEventRecord);
LMC_SAME_CALL(event_query, cuEventQuery);
LMC_SAME_CALL(event_elapsed_ms, cuEventElapsedTime);
LMC_SAME_CALL(memcpy_async, cuMemcpyAsync);
#if CUDA_VERSION >= 13000
LMC_SAME_CALL(memcpy_batch_13, cuMemcpyBatchAsync);
#elif CUDA_VERSION >= 12080
LMC_SAME_CALL(memcpy_batch_12, cuMemcpyBatchAsync);
#endif
LMC_SAME_CALL(module_load, cuModuleLoadData);
LMC_SAME_CALL(module_unload, cuModuleUnload);
LMC_SAME_CALL(module_function, cuModuleGetFunction);
LMC_SAME_CALL(launch_kernel, cuLaunchKernel);
#undef LMC_SAME_CALL

}  // namespace
}  // namespace lmcache
