// SPDX-License-Identifier: Apache-2.0
// The simulated device behind the calls: memory, streams, modules, and the calls that fail.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cuda_sim/cuda_sim.hpp"
#include "cuda_sim/sim_memory.hpp"
#include "cuda_sim/sim_stream.hpp"

namespace lmcache::test {

struct SimCopy {
  CudaAddress to = 0;
  CudaAddress from = 0;
  std::size_t bytes = 0;
};

// Thread-safe.
class SimDevice {
 public:
  explicit SimDevice(CudaSimOptions options);

  // Begins every call: counts it, and answers with what a test wants it to fail with, or with the
  // error that stays.
  [[nodiscard]] CudaStatus enter(char const* name);
  void fail_call(std::uint64_t n, CudaStatus status, std::string name);
  void stop_failing();
  void lose(CudaStatus status);
  void violate(std::string what);

  // Notes a violation where the calling thread has not made the context current.
  [[nodiscard]] CudaStatus need_context(char const* name);
  void push_context();
  [[nodiscard]] bool pop_context();
  void retain(int by);

  [[nodiscard]] CudaStatus copy(std::span<SimCopy const> copies, int source_order,
                                CudaStream stream);
  [[nodiscard]] CudaStatus launch(SimKernel const& kernel, unsigned grid, unsigned block,
                                  void** parameters, CudaStream stream);
  [[nodiscard]] SimKernel const* kernel(std::string_view name) const;

  [[nodiscard]] std::uint64_t calls(std::string const& name) const;
  [[nodiscard]] std::vector<std::string> violations() const;
  [[nodiscard]] std::uint64_t alive() const;

  CudaSimOptions const options;
  SimMemory memory;

 private:
  [[nodiscard]] bool check(SimCopy const& copy, char const* when);
  // Their bytes.
  std::uint64_t check_entries(void* const* parameters);

  struct Failure {
    std::uint64_t left;
    CudaStatus status;
    std::string name;
  };
  mutable std::mutex mutex_;  // guards all below
  std::map<std::string, std::uint64_t> calls_;
  std::uint64_t all_calls_ = 0;
  std::vector<Failure> failures_;
  CudaStatus sticky_ = CudaStatus::kSuccess;
  std::vector<std::string> violations_;
  std::mt19937_64 random_;
  std::int64_t retained_ = 0;

 public:
  SimStreams streams;  // last: its threads touch the rest
};

// The table of calls into `device`; one at a time.
[[nodiscard]] CudaApi sim_api(SimDevice* device);
void forget_sim_device();

}  // namespace lmcache::test
