// SPDX-License-Identifier: Apache-2.0
// A device that kernels can be launched on: a simulation, or the GPU of this machine.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <lmcache/base/cuda_error.hpp>
#include <lmcache/device/cuda_loader.hpp>

#include "cuda/copy_kernel.hpp"
#include "cuda/group_codes.hpp"
#include "cuda/host_kernels.hpp"
#include "cuda/kernel_image.hpp"
#include "cuda_sim/cuda_sim.hpp"

namespace lmcache::test {

enum class KernelCode { kSimulated, kMachineCode, kPtx };

inline std::vector<SimKernel> all_sim_kernels() {
  std::vector<std::size_t> const pointers_and_shape{8, 8, 8, sizeof(GroupShape)};
  std::vector<SimKernel> kernels;
  for (HostKernel const& kernel : host_kernels()) {
    bool const copies = std::strcmp(kernel.name, kCopyKernelName) == 0;
    kernels.push_back(
        {.name = kernel.name,
         .run = kernel.run,
         .parameter_bytes = copies ? std::vector<std::size_t>{8, 4} : pointers_and_shape});
  }
  return kernels;
}

// Pinned memory of the host, which the device can reach too. Moves nowhere.
class PinnedBuffer {
 public:
  PinnedBuffer(CudaApi const& api, std::size_t size_bytes) : api_{api}, size_bytes_{size_bytes} {
    constexpr unsigned kFlags = cuda::kHostAllocPortable | cuda::kHostAllocDeviceMap;
    void* data = nullptr;
    EXPECT_EQ(api_.host_alloc(&data, size_bytes, kFlags), CudaStatus::kSuccess);
    EXPECT_EQ(api_.host_device_address(&device_, data, 0), CudaStatus::kSuccess);
    data_ = static_cast<std::byte*>(data);
    std::memset(data_, 0xee, size_bytes);
  }
  ~PinnedBuffer() { EXPECT_EQ(api_.host_free(data_), CudaStatus::kSuccess); }
  PinnedBuffer(PinnedBuffer const&) = delete;
  PinnedBuffer& operator=(PinnedBuffer const&) = delete;

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] CudaAddress device() const { return device_; }
  [[nodiscard]] std::vector<std::byte> bytes() const { return {data_, data_ + size_bytes_}; }

 private:
  CudaApi const& api_;
  std::size_t size_bytes_;
  std::byte* data_ = nullptr;
  CudaAddress device_ = 0;
};

// One thread. `usable()` is false, with the reason, where there is no such device.
class KernelDevice {
 public:
  explicit KernelDevice(KernelCode code) {
    if (code == KernelCode::kSimulated) {
      sim_ = std::make_unique<CudaSim>(CudaSimOptions{.kernels = all_sim_kernels()});
      api_ = sim_->api();
    } else if (auto found = load_cuda(); !found) {
      reason_ = found.error().message();
      return;
    } else if (kernel_image().empty()) {
      reason_ = "built without CUDA";
      return;
    } else {
      api_ = found.value();
    }
    static constexpr std::byte kAnyImage[16] = {};
    void const* image = code == KernelCode::kPtx ? static_cast<void const*>(kernel_ptx().data())
                                                 : kernel_image().data();
    if (code == KernelCode::kSimulated) image = kAnyImage;
    check(api_.device_get(&device_, 0));
    check(api_.primary_context_retain(&context_, device_));
    check(api_.context_push(context_));
    check(api_.stream_create(&stream_, cuda::kStreamNonBlocking, 0));
    check(api_.module_load(&module_, image));
  }

  ~KernelDevice() {
    if (!usable()) return;
    check(api_.module_unload(module_));
    check(api_.stream_destroy(stream_));
    CudaContext popped = nullptr;
    check(api_.context_pop(&popped));
    check(api_.primary_context_release(device_));
    if (sim_) {
      EXPECT_EQ(sim_->violations(), std::vector<std::string>{});
    }
  }
  KernelDevice(KernelDevice const&) = delete;
  KernelDevice& operator=(KernelDevice const&) = delete;

  [[nodiscard]] bool usable() const { return reason_.empty(); }
  [[nodiscard]] std::string const& reason() const { return reason_; }
  [[nodiscard]] CudaApi const& api() const { return api_; }

  // Returns when the kernel has ended.
  void launch(char const* name, unsigned grid, unsigned block, std::vector<void*> parameters) {
    CudaFunction function = nullptr;
    check(api_.module_function(&function, module_, name));
    check(api_.launch_kernel(function, grid, 1, 1, block, 1, 1, 0, stream_, parameters.data(),
                             nullptr));
    check(api_.stream_synchronize(stream_));
  }

  void copy(CudaAddress to, CudaAddress from, std::size_t size_bytes) {
    check(api_.memcpy_async(to, from, size_bytes, stream_));
    check(api_.stream_synchronize(stream_));
  }

  [[nodiscard]] CudaAddress allocate(std::size_t size_bytes) {
    CudaAddress address = 0;
    check(api_.mem_alloc(&address, size_bytes));
    return address;
  }
  void free(CudaAddress address) { check(api_.mem_free(address)); }

 private:
  void check(CudaStatus status) {
    EXPECT_EQ(status, CudaStatus::kSuccess) << cuda_error_text(api_, status);
  }

  std::string reason_;
  std::unique_ptr<CudaSim> sim_;
  CudaApi api_ = {};
  CudaDevice device_ = 0;
  CudaContext context_ = nullptr;
  CudaStream stream_ = nullptr;
  CudaModule module_ = nullptr;
};

}  // namespace lmcache::test
