// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/cuda_loader.hpp>

#include <dlfcn.h>

#include <utility>

#include <lmcache/base/cuda_error.hpp>

namespace lmcache {
namespace {

constexpr int kOldestDriver = 12000;

// cuGetProcAddress as of 12.0, and without it.
using GetProcAddress = CudaStatus (*)(char const*, void**, int version, std::uint64_t flags,
                                      int* found);

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

Error unavailable(std::string message, CudaStatus status = CudaStatus::kSuccess) {
  return Error{ErrorCode::kUnavailable, std::move(message), static_cast<int>(status)};
}

// Binds calls by name and notes the first that is not there.
class Binder {
 public:
  explicit Binder(CudaSymbolFinder const& find) : find_{find} {}

  template <class Function>
  bool optional(Function*& to, char const* name, int version) {
    to = reinterpret_cast<Function*>(find_(name, version));
    return to != nullptr;
  }
  template <class Function>
  void required(Function*& to, char const* name, int version) {
    if (!optional(to, name, version) && missing_.empty()) missing_ = name;
  }
  [[nodiscard]] std::string const& missing() const { return missing_; }

 private:
  CudaSymbolFinder const& find_;
  std::string missing_;
};

// The versions are those in which the form of the call that we declare came.
void bind_memory(Binder& bind, CudaApi& api) {
  bind.required(api.mem_alloc, "cuMemAlloc", 3020);
  bind.required(api.mem_free, "cuMemFree", 3020);
  bind.required(api.host_alloc, "cuMemHostAlloc", 2020);
  bind.required(api.host_free, "cuMemFreeHost", 2000);
  bind.required(api.host_register, "cuMemHostRegister", 6050);
  bind.required(api.host_unregister, "cuMemHostUnregister", 4000);
  bind.required(api.host_device_address, "cuMemHostGetDevicePointer", 3020);
  bind.required(api.memcpy_async, "cuMemcpyAsync", 4000);
  // The call lost a parameter in 13.0; a driver may know the older form only.
  if (!bind.optional(api.memcpy_batch_13, "cuMemcpyBatchAsync", 13000)) {
    bind.optional(api.memcpy_batch_12, "cuMemcpyBatchAsync", 12080);
  }
}

void bind_streams(Binder& bind, CudaApi& api) {
  bind.required(api.priority_range, "cuCtxGetStreamPriorityRange", 5050);
  bind.required(api.stream_create, "cuStreamCreateWithPriority", 5050);
  bind.required(api.stream_destroy, "cuStreamDestroy", 4000);
  bind.required(api.stream_wait_event, "cuStreamWaitEvent", 3020);
  bind.required(api.stream_synchronize, "cuStreamSynchronize", 2000);
  bind.required(api.event_create, "cuEventCreate", 2000);
  bind.required(api.event_destroy, "cuEventDestroy", 4000);
  bind.required(api.event_record, "cuEventRecord", 2000);
  bind.required(api.event_query, "cuEventQuery", 2000);
  bind.required(api.event_elapsed_ms, "cuEventElapsedTime", 2000);
}

void bind_device(Binder& bind, CudaApi& api) {
  bind.required(api.get_error_name, "cuGetErrorName", 6000);
  bind.required(api.device_get, "cuDeviceGet", 2000);
  bind.required(api.device_get_count, "cuDeviceGetCount", 2000);
  bind.required(api.device_get_name, "cuDeviceGetName", 2000);
  bind.required(api.device_get_attribute, "cuDeviceGetAttribute", 2000);
  bind.required(api.primary_context_retain, "cuDevicePrimaryCtxRetain", 7000);
  bind.required(api.primary_context_release, "cuDevicePrimaryCtxRelease", 11000);
  bind.required(api.context_push, "cuCtxPushCurrent", 4000);
  bind.required(api.context_pop, "cuCtxPopCurrent", 4000);
  bind.required(api.module_load, "cuModuleLoadData", 2000);
  bind.required(api.module_unload, "cuModuleUnload", 2000);
  bind.required(api.module_function, "cuModuleGetFunction", 2000);
  bind.required(api.launch_kernel, "cuLaunchKernel", 4000);
}

Result<void> start_driver(CudaSymbolFinder const& find, CudaApi const& api) {
  using Init = CudaStatus(unsigned);
  auto* const init = reinterpret_cast<Init*>(find("cuInit", 2000));
  if (init == nullptr) return unavailable("the CUDA driver has no cuInit");
  CudaStatus const started = init(0);
  if (started == CudaStatus::kNoDevice) return unavailable("no CUDA device is visible", started);
  if (started != CudaStatus::kSuccess) {
    return unavailable("the CUDA driver does not start: " + cuda_error_text(api, started), started);
  }
  int count = 0;
  CudaStatus const counted = api.device_get_count(&count);
  if (counted != CudaStatus::kSuccess) {
    return unavailable("CUDA devices cannot be counted: " + cuda_error_text(api, counted), counted);
  }
  if (count == 0) return unavailable("no CUDA device is visible", CudaStatus::kNoDevice);
  return {};
}

}  // namespace

Result<CudaApi> fill_cuda_api(CudaSymbolFinder const& find) {
  using DriverGetVersion = CudaStatus(int*);
  auto* const get_version = reinterpret_cast<DriverGetVersion*>(find("cuDriverGetVersion", 2020));
  CudaApi api;
  if (get_version == nullptr || get_version(&api.driver_version) != CudaStatus::kSuccess) {
    return unavailable("the CUDA driver does not tell its version");
  }
  if (api.driver_version < kOldestDriver) {
    return unavailable("the CUDA driver is too old: it supports CUDA " +
                       version_text(api.driver_version) + ", needed is " +
                       version_text(kOldestDriver));
  }
  Binder bind{find};
  bind_device(bind, api);
  bind_memory(bind, api);
  bind_streams(bind, api);
  if (!bind.missing().empty()) return unavailable("the CUDA driver lacks " + bind.missing());
  LMC_TRY(start_driver(find, api));
  return api;
}

Result<CudaApi> load_cuda(std::string const& library) {
  // RTLD_LOCAL: nobody else may find the driver's symbols through us.
  void* const driver = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (driver == nullptr) {
    char const* const why = ::dlerror();
    return unavailable("no CUDA driver: " + std::string{why != nullptr ? why : library});
  }
  auto const get_proc_address =
      reinterpret_cast<GetProcAddress>(::dlsym(driver, "cuGetProcAddress_v2"));
  if (get_proc_address == nullptr) {
    return unavailable("the CUDA driver is too old: it has no cuGetProcAddress of CUDA 12.0");
  }
  return fill_cuda_api([get_proc_address](char const* name, int version) -> void* {
    void* address = nullptr;
    int found = 0;
    bool const asked = get_proc_address(name, &address, version, 0, &found) == CudaStatus::kSuccess;
    return asked && found == 0 ? address : nullptr;
  });
}

}  // namespace lmcache
