// SPDX-License-Identifier: Apache-2.0
// The calls of the table. Each one begins with enter(), which counts and may fail it.
#include <atomic>
#include <cstdio>
#include <cstring>

#include "cuda_sim/sim_device.hpp"

namespace lmcache::test {
namespace {

using S = CudaStatus;

std::atomic<SimDevice*> active{nullptr};

SimDevice& device() { return *active.load(); }

// Counts the call; checks that a context is current.
S begin(char const* name) {
  S const answer = device().enter(name);
  return answer == S::kSuccess ? device().need_context(name) : answer;
}

S ok(bool done, S otherwise = S::kInvalidHandle) { return done ? S::kSuccess : otherwise; }

#define LMC_SIM_BEGIN(name)                                  \
  if (S const answer = begin(name); answer != S::kSuccess) { \
    return answer;                                           \
  }

S get_error_name(S status, char const** name) {
  *name = status == S::kIllegalAddress ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR";
  return S::kSuccess;
}
S device_get(CudaDevice* out, int ordinal) {
  *out = ordinal;
  return ordinal == 0 ? device().enter("cuDeviceGet") : S::kInvalidValue;
}
S device_get_count(int* out) {
  *out = 1;
  return device().enter("cuDeviceGetCount");
}
S device_get_name(char* out, int length, CudaDevice) {
  std::snprintf(out, static_cast<std::size_t>(length), "Simulated device");
  return device().enter("cuDeviceGetName");
}
S device_get_attribute(int* out, int attribute, CudaDevice) {
  *out = attribute == cuda::kAttributeMultiprocessors ? 132 : 9;
  return device().enter("cuDeviceGetAttribute");
}
S primary_context_retain(CudaContext* out, CudaDevice) {
  S const answer = device().enter("cuDevicePrimaryCtxRetain");
  if (answer != S::kSuccess) return answer;
  *out = reinterpret_cast<CudaContext>(&active);
  device().retain(1);
  return answer;
}
S primary_context_release(CudaDevice) {
  S const answer = device().enter("cuDevicePrimaryCtxRelease");
  if (answer == S::kSuccess) device().retain(-1);
  return answer;
}
S context_push(CudaContext context) {
  S const answer = device().enter("cuCtxPushCurrent");
  if (answer != S::kSuccess) return answer;
  if (context == nullptr) return S::kInvalidContext;
  device().push_context();
  return answer;
}
S context_pop(CudaContext*) {
  // Not refused after a lost context: only the thread's own stack changes.
  (void)device().enter("cuCtxPopCurrent");
  return ok(device().pop_context(), S::kInvalidContext);
}
S priority_range(int* least, int* greatest) {
  LMC_SIM_BEGIN("cuCtxGetStreamPriorityRange");
  *least = 0;
  *greatest = -5;
  return S::kSuccess;
}
S mem_alloc(CudaAddress* out, std::size_t bytes) {
  LMC_SIM_BEGIN("cuMemAlloc");
  return device().memory.allocate(out, bytes);
}
S mem_free(CudaAddress address) {
  LMC_SIM_BEGIN("cuMemFree");
  return device().memory.release(address);
}
S host_alloc(void** out, std::size_t bytes, unsigned) {
  LMC_SIM_BEGIN("cuMemHostAlloc");
  return device().memory.allocate_pinned(out, bytes);
}
S host_free(void* address) {
  LMC_SIM_BEGIN("cuMemFreeHost");
  return device().memory.release_pinned(address);
}
S host_register(void* address, std::size_t bytes, unsigned flags) {
  LMC_SIM_BEGIN("cuMemHostRegister");
  if (flags != (cuda::kHostRegisterPortable | cuda::kHostRegisterDeviceMap)) {
    device().violate("memory pinned for one context only");
  }
  return device().memory.pin(address, bytes);
}
S host_unregister(void* address) {
  LMC_SIM_BEGIN("cuMemHostUnregister");
  return device().memory.unpin(address);
}
S host_device_address(CudaAddress* out, void* host, unsigned) {
  LMC_SIM_BEGIN("cuMemHostGetDevicePointer");
  *out = reinterpret_cast<CudaAddress>(host);
  return ok(device().memory.is_pinned(*out, 1), S::kInvalidValue);
}
S stream_create(CudaStream* out, unsigned flags, int priority) {
  LMC_SIM_BEGIN("cuStreamCreateWithPriority");
  if (flags != cuda::kStreamNonBlocking) device().violate("a stream that waits for the default");
  *out = device().streams.make(priority);
  return S::kSuccess;
}
S stream_destroy(CudaStream stream) {
  LMC_SIM_BEGIN("cuStreamDestroy");
  return ok(device().streams.destroy(stream));
}
S stream_wait_event(CudaStream stream, CudaEvent event, unsigned) {
  LMC_SIM_BEGIN("cuStreamWaitEvent");
  return ok(device().streams.wait_event(stream, event));
}
S stream_synchronize(CudaStream stream) {
  LMC_SIM_BEGIN("cuStreamSynchronize");
  if (!device().streams.knows(stream)) return S::kInvalidHandle;
  return ok(device().streams.synchronize(stream), S::kIllegalAddress);
}
S event_create(CudaEvent* out, unsigned) {
  LMC_SIM_BEGIN("cuEventCreate");
  *out = device().streams.make_event();
  return S::kSuccess;
}
S event_destroy(CudaEvent event) {
  LMC_SIM_BEGIN("cuEventDestroy");
  return ok(device().streams.destroy_event(event));
}
S event_record(CudaEvent event, CudaStream stream) {
  LMC_SIM_BEGIN("cuEventRecord");
  return ok(device().streams.record(event, stream));
}
S event_query(CudaEvent event) {
  LMC_SIM_BEGIN("cuEventQuery");
  return device().streams.query(event);
}
S event_elapsed_ms(float* ms, CudaEvent from, CudaEvent to) {
  LMC_SIM_BEGIN("cuEventElapsedTime");
  return device().streams.elapsed(ms, from, to);
}
S memcpy_async(CudaAddress to, CudaAddress from, std::size_t bytes, CudaStream stream) {
  LMC_SIM_BEGIN("cuMemcpyAsync");
  SimCopy const copy{.to = to, .from = from, .bytes = bytes};
  return device().copy({&copy, 1}, cuda::kSourceOrderStream, stream);
}

S batch(CudaAddress* to, CudaAddress* from, std::size_t* bytes, std::size_t count,
        CudaMemcpyAttributes* attributes, std::size_t* begins, std::size_t attribute_count,
        CudaStream stream) {
  LMC_SIM_BEGIN("cuMemcpyBatchAsync");
  // We use one set of attributes for all copies of a batch.
  if (count == 0 || attribute_count != 1 || begins[0] != 0) return S::kInvalidValue;
  int const order = attributes[0].source_order;
  if (order < cuda::kSourceOrderStream || order > cuda::kSourceOrderAny) return S::kInvalidValue;
  std::vector<SimCopy> copies;
  for (std::size_t i = 0; i < count; ++i) {
    if (bytes[i] == 0) return S::kInvalidValue;
    copies.push_back({.to = to[i], .from = from[i], .bytes = bytes[i]});
  }
  return device().copy(copies, order, stream);
}
S memcpy_batch_12(CudaAddress* to, CudaAddress* from, std::size_t* bytes, std::size_t count,
                  CudaMemcpyAttributes* attributes, std::size_t* begins,
                  std::size_t attribute_count, std::size_t* failed, CudaStream stream) {
  *failed = 0;
  return batch(to, from, bytes, count, attributes, begins, attribute_count, stream);
}
S memcpy_batch_13(CudaAddress* to, CudaAddress* from, std::size_t* bytes, std::size_t count,
                  CudaMemcpyAttributes* attributes, std::size_t* begins,
                  std::size_t attribute_count, CudaStream stream) {
  return batch(to, from, bytes, count, attributes, begins, attribute_count, stream);
}

S module_load(CudaModule* out, void const* image) {
  LMC_SIM_BEGIN("cuModuleLoadData");
  if (!device().options.loads_modules || image == nullptr) return S::kNoBinaryForGpu;
  *out = reinterpret_cast<CudaModule>(&active);
  return S::kSuccess;
}
S module_unload(CudaModule) {
  LMC_SIM_BEGIN("cuModuleUnload");
  return S::kSuccess;
}
S module_function(CudaFunction* out, CudaModule, char const* name) {
  LMC_SIM_BEGIN("cuModuleGetFunction");
  auto const* const kernel = device().kernel(name);
  if (kernel == nullptr) return S::kNotFound;
  *out = reinterpret_cast<CudaFunction>(const_cast<SimKernel*>(kernel));
  return S::kSuccess;
}
S launch_kernel(CudaFunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                unsigned block_x, unsigned block_y, unsigned block_z, unsigned, CudaStream stream,
                void** parameters, void**) {
  LMC_SIM_BEGIN("cuLaunchKernel");
  if (grid_y != 1 || grid_z != 1 || block_y != 1 || block_z != 1) return S::kInvalidValue;
  auto const& kernel = *reinterpret_cast<SimKernel const*>(function);
  return device().launch(kernel, grid_x, block_x, parameters, stream);
}

#undef LMC_SIM_BEGIN

}  // namespace

CudaApi sim_api(SimDevice* made) {
  SimDevice* none = nullptr;
  if (!active.compare_exchange_strong(none, made)) std::abort();  // one at a time
  CudaApi api{.get_error_name = get_error_name,
              .device_get = device_get,
              .device_get_count = device_get_count,
              .device_get_name = device_get_name,
              .device_get_attribute = device_get_attribute,
              .primary_context_retain = primary_context_retain,
              .primary_context_release = primary_context_release,
              .context_push = context_push,
              .context_pop = context_pop,
              .priority_range = priority_range,
              .mem_alloc = mem_alloc,
              .mem_free = mem_free,
              .host_alloc = host_alloc,
              .host_free = host_free,
              .host_register = host_register,
              .host_unregister = host_unregister,
              .host_device_address = host_device_address,
              .stream_create = stream_create,
              .stream_destroy = stream_destroy,
              .stream_wait_event = stream_wait_event,
              .stream_synchronize = stream_synchronize,
              .event_create = event_create,
              .event_destroy = event_destroy,
              .event_record = event_record,
              .event_query = event_query,
              .event_elapsed_ms = event_elapsed_ms,
              .memcpy_async = memcpy_async,
              .module_load = module_load,
              .module_unload = module_unload,
              .module_function = module_function,
              .launch_kernel = launch_kernel,
              .driver_version = 12040};
  if (made->options.batch_version == 12) {
    api.memcpy_batch_12 = memcpy_batch_12;
    api.driver_version = 12080;
  }
  if (made->options.batch_version == 13) {
    api.memcpy_batch_13 = memcpy_batch_13;
    api.driver_version = 13000;
  }
  return api;
}

void forget_sim_device() { active.store(nullptr); }

}  // namespace lmcache::test
