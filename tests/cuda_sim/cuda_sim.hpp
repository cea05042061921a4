// SPDX-License-Identifier: Apache-2.0
// A stand-in for the CUDA driver behind the table of calls, for tests only. What it is strict about
// is what real devices punish late or silently:
//  * streams are threads: every copy and kernel happens late, and in random order against other
//    streams, unless an event orders them;
//  * device memory cannot be touched by host code (PROT_NONE outside simulated copies and kernels);
//  * host memory that is not pinned may not take part in a copy; pinned ranges are known;
//  * the copies of one batch happen in random order, and with a source order of "any" their sources
//    are read at once, as CUDA is free to do;
//  * events, streams and memory that were given back may not be used.
// A violation is noted, and the test that made it must ask for them.
//
// The table has no room for a context, so one simulation is alive at a time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <lmcache/base/cuda_api.hpp>

namespace lmcache::test {

class SimDevice;  // sim_device.hpp

// A kernel compiled for the host: as in cuda/host_kernels.hpp, with the sizes of its parameters, so
// that they can be kept until it runs.
struct SimKernel {
  std::string name;
  void (*run)(unsigned grid, unsigned block, void** args) = nullptr;
  std::vector<std::size_t> parameter_bytes = {};
};

struct CudaSimOptions {
  std::uint64_t seed = 1;
  unsigned most_delay_us = 40;  // before each piece of work of a stream, at random
  int batch_version = 13;       // which form of the batch copy there is: 0 (none), 12, 13
  bool loads_modules = true;    // false: as an old driver that refuses the image
  std::vector<SimKernel> kernels = {};
  // What cuMemHostRegister grants, as a limit on locked memory does.
  std::uint64_t pinned_limit_bytes = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t device_bytes = std::uint64_t{256} << 20;
  // The time that events tell of, in microseconds: what one copy of the engine costs on top of its
  // bytes, and what a kernel costs; bytes per microsecond of either.
  double copy_overhead_us = 5;
  double kernel_overhead_us = 12;
  double copy_bytes_per_us = 50'000;
  double kernel_bytes_per_us = 40'000;
};

// Thread-safe.
class CudaSim {
 public:
  explicit CudaSim(CudaSimOptions options = {});
  ~CudaSim();
  CudaSim(CudaSim const&) = delete;
  CudaSim& operator=(CudaSim const&) = delete;

  [[nodiscard]] CudaApi const& api() const { return api_; }

  // Device memory, reached by the test only through these.
  [[nodiscard]] CudaAddress allocate_device(std::size_t bytes);
  void write_device(CudaAddress to, std::span<std::byte const> bytes);
  [[nodiscard]] std::vector<std::byte> read_device(CudaAddress from, std::size_t bytes) const;

  // The serving engine: a stream of its own, and what it computes there. `work` may touch device
  // memory by its address.
  [[nodiscard]] CudaStream make_engine_stream();
  void compute(CudaStream stream, std::function<void()> work);

  // All streams there are, in the order in which they were made.
  [[nodiscard]] std::vector<CudaStream> streams() const;
  [[nodiscard]] int priority_of(CudaStream stream) const;
  // Nothing of this stream happens until release(): the slowest schedule there can be.
  void hold(CudaStream stream);
  void release(CudaStream stream);
  // So many pieces of work of a held stream may happen: copies, kernels, records and waits each
  // count.
  void allow(CudaStream stream, unsigned works);
  // Everything that may happen has happened: each stream is empty, held, or waits for an event that
  // cannot come.
  void settle();

  // The n-th call from now (1 is the next one), of that name or of any, answers `status`. A sticky
  // status stays. Names are those of CUDA ("cuMemcpyAsync").
  void fail_call(std::uint64_t n, CudaStatus status, std::string name = {});
  void stop_failing();
  // As a process that ends does: nothing in flight ever completes, every call is refused.
  void unload();

  [[nodiscard]] std::uint64_t calls(std::string const& name = {}) const;
  [[nodiscard]] std::vector<std::string> violations() const;
  [[nodiscard]] std::uint64_t pinned_bytes() const;
  // Streams, events, memory and contexts that were made and not given back.
  [[nodiscard]] std::uint64_t alive() const;

 private:
  CudaApi api_;
  std::unique_ptr<SimDevice> device_;
};

}  // namespace lmcache::test
