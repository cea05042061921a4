// SPDX-License-Identifier: Apache-2.0
// The conformance suite on the device of this machine, where it has one: from slots that are not
// pinned, by the copy engine and the kernel, whichever the size says.
#include <gtest/gtest.h>

#include <memory>

#include <lmcache/base/cuda_error.hpp>
#include <lmcache/device/cuda_copier.hpp>
#include <lmcache/device/cuda_loader.hpp>

#include "copier_conformance.hpp"
#include "support/must.hpp"

namespace lmcache::test {
namespace {

// The driver, with a context and a stream for what the suite itself does; null without a device.
class Gpu {
 public:
  static Gpu* find() {
    static std::unique_ptr<Gpu> const gpu = [] {
      auto api = load_cuda();
      return api ? std::make_unique<Gpu>(api.value()) : nullptr;
    }();
    return gpu.get();
  }
  explicit Gpu(CudaApi const& found) : api{found} {
    must(cuda_done(api, "context", api.primary_context_retain(&context_, 0)));
    CudaScope const scope{api, context_};
    must(cuda_done(api, "stream", api.stream_create(&stream_, cuda::kStreamNonBlocking, 0)));
  }
  CudaAddress allocate(std::size_t bytes) {
    CudaScope const scope{api, context_};
    CudaAddress made = 0;
    must(cuda_done(api, "memory", api.mem_alloc(&made, bytes)));
    return made;
  }
  void release(CudaAddress address) {
    CudaScope const scope{api, context_};
    must(cuda_done(api, "memory", api.mem_free(address)));
  }
  void copy(CudaAddress to, CudaAddress from, std::size_t bytes) {
    CudaScope const scope{api, context_};
    must(cuda_done(api, "copy", api.memcpy_async(to, from, bytes, stream_)));
    must(cuda_done(api, "copy", api.stream_synchronize(stream_)));
  }

  CudaApi const api;

 private:
  CudaContext context_ = nullptr;
  CudaStream stream_ = nullptr;
};

class GpuMemory {
 public:
  using Slot = Bytes;

  explicit GpuMemory(std::size_t bytes) : bytes_{bytes}, address_{Gpu::find()->allocate(bytes)} {}
  ~GpuMemory() { Gpu::find()->release(address_); }
  GpuMemory(GpuMemory const&) = delete;
  GpuMemory& operator=(GpuMemory const&) = delete;

  std::byte* data() { return reinterpret_cast<std::byte*>(address_); }
  void write(Bytes const& bytes) {
    Gpu::find()->copy(address_, reinterpret_cast<CudaAddress>(bytes.data()), bytes.size());
  }
  [[nodiscard]] Bytes read() const {
    Bytes out(bytes_);
    Gpu::find()->copy(reinterpret_cast<CudaAddress>(out.data()), address_, bytes_);
    return out;
  }

 private:
  std::size_t bytes_;
  CudaAddress address_;
};

template <std::uint64_t kEngineFromBytes>
struct RealDevice {
  using EngineMemory = GpuMemory;
  static std::unique_ptr<DeviceCopier> make() {
    if (Gpu::find() == nullptr) return nullptr;
    CopyChoice::Side const side{.engine_from_bytes = kEngineFromBytes, .fewest = 1};
    return must(
        CudaCopier::create(Gpu::find()->api,
                           {.pieces = {.piece_bytes = 20'000, .plane_bytes = 2'000},
                            .staging_bytes = 100'000,
                            .choice = CopyChoice{.store = side, .load = side, .inside = side}},
                           {}));
  }
};

using RealBySize = RealDevice<3000>;

}  // namespace

INSTANTIATE_TYPED_TEST_SUITE_P(Gpu, CopierConformance, RealBySize);

}  // namespace lmcache::test
