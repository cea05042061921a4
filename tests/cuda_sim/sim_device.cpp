// SPDX-License-Identifier: Apache-2.0
#include "cuda_sim/sim_device.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "cuda/copy_kernel.hpp"

namespace lmcache::test {
namespace {

thread_local int contexts_pushed = 0;

void* pointer(CudaAddress address) { return reinterpret_cast<void*>(address); }

void move_bytes(SimMemory& memory, SimCopy const& copy) {
  SimMemory::Window const window{memory};
  std::memcpy(pointer(copy.to), pointer(copy.from), copy.bytes);
}

}  // namespace

SimDevice::SimDevice(CudaSimOptions chosen)
    : options{std::move(chosen)},
      memory{options.device_bytes, options.pinned_limit_bytes},
      random_{options.seed},
      streams{options.seed, options.most_delay_us} {}

CudaStatus SimDevice::enter(char const* name) {
  CudaStatus answer = CudaStatus::kSuccess;
  {
    std::lock_guard const lock{mutex_};
    ++calls_[name];
    ++all_calls_;
    if (sticky_ != CudaStatus::kSuccess) return sticky_;
    for (Failure& failure : failures_) {
      bool const meant = failure.name.empty() || failure.name == name;
      if (meant && failure.left > 0 && --failure.left == 0) answer = failure.status;
    }
    if (!is_sticky(answer)) return answer;
    sticky_ = answer;
  }
  streams.abandon();
  return answer;
}

void SimDevice::fail_call(std::uint64_t n, CudaStatus status, std::string name) {
  std::lock_guard const lock{mutex_};
  failures_.push_back({.left = n, .status = status, .name = std::move(name)});
}

void SimDevice::stop_failing() {
  std::lock_guard const lock{mutex_};
  failures_.clear();
}

void SimDevice::lose(CudaStatus status) {
  {
    std::lock_guard const lock{mutex_};
    if (sticky_ == CudaStatus::kSuccess) sticky_ = status;
  }
  streams.abandon();
}

void SimDevice::violate(std::string what) {
  std::lock_guard const lock{mutex_};
  violations_.push_back(std::move(what));
}

CudaStatus SimDevice::need_context(char const* name) {
  if (contexts_pushed > 0) return CudaStatus::kSuccess;
  violate(std::string{name} + " on a thread without a context");
  return CudaStatus::kInvalidContext;
}

void SimDevice::push_context() { ++contexts_pushed; }

bool SimDevice::pop_context() {
  if (contexts_pushed == 0) return false;
  --contexts_pushed;
  return true;
}

void SimDevice::retain(int by) {
  std::lock_guard const lock{mutex_};
  retained_ += by;
}

bool SimDevice::check(SimCopy const& copy, char const* when) {
  for (CudaAddress const address : {copy.to, copy.from}) {
    if (auto const complaint = memory.complaint(address, copy.bytes)) {
      violate(*complaint + " in a copy, " + when);
      return false;
    }
  }
  return true;
}

CudaStatus SimDevice::copy(std::span<SimCopy const> copies, int source_order, CudaStream stream) {
  if (stream == nullptr) {
    violate("a copy on the default stream");
    return CudaStatus::kInvalidValue;
  }
  std::vector<SimCopy> order{copies.begin(), copies.end()};
  for (SimCopy const& each : order) {
    if (!check(each, "as it is submitted")) return CudaStatus::kInvalidValue;
  }
  std::uint64_t bytes = 0;
  for (SimCopy const& each : order) bytes += each.bytes;
  // With any other order than the stream's the driver may read the sources now.
  std::vector<std::vector<std::byte>> read_ahead;
  {
    std::lock_guard const lock{mutex_};
    std::shuffle(order.begin(), order.end(), random_);
  }
  if (source_order != cuda::kSourceOrderStream) {
    SimMemory::Window const window{memory};
    for (SimCopy const& each : order) {
      auto const* from = static_cast<std::byte const*>(pointer(each.from));
      read_ahead.emplace_back(from, from + each.bytes);
    }
  }
  double const cost = options.copy_overhead_us * static_cast<double>(order.size()) +
                      static_cast<double>(bytes) / options.copy_bytes_per_us;
  auto run = [this, cost, order = std::move(order), read_ahead = std::move(read_ahead)] {
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (!check(order[i], "as it runs")) {
        lose(CudaStatus::kIllegalAddress);
        return 0.0;
      }
      if (read_ahead.empty()) {
        move_bytes(memory, order[i]);
      } else {
        SimMemory::Window const window{memory};
        std::memcpy(pointer(order[i].to), read_ahead[i].data(), order[i].bytes);
      }
    }
    return cost;
  };
  bool const known = streams.submit(stream, {.run = std::move(run)});
  return known ? CudaStatus::kSuccess : CudaStatus::kInvalidHandle;
}

std::uint64_t SimDevice::check_entries(void* const* parameters) {
  CopyEntry const* entries = nullptr;
  std::uint32_t count = 0;
  std::memcpy(&entries, parameters[0], sizeof(entries));
  std::memcpy(&count, parameters[1], sizeof(count));
  if (auto const complaint =
          memory.complaint(reinterpret_cast<CudaAddress>(entries), count * sizeof(CopyEntry))) {
    violate(*complaint + " for the entries of a kernel");
    return 0;
  }
  std::uint64_t bytes = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    bytes += entries[i].bytes;
    (void)check({.to = entries[i].to, .from = entries[i].from, .bytes = entries[i].bytes},
                "by a kernel");
  }
  return bytes;
}

CudaStatus SimDevice::launch(SimKernel const& kernel, unsigned grid, unsigned block,
                             void** parameters, CudaStream stream) {
  if (grid == 0 || block == 0 || block > 1024) return CudaStatus::kInvalidValue;
  if (stream == nullptr) {
    violate("a kernel on the default stream");
    return CudaStatus::kInvalidValue;
  }
  std::vector<std::vector<std::byte>> kept;
  for (std::size_t i = 0; i < kernel.parameter_bytes.size(); ++i) {
    auto const* from = static_cast<std::byte const*>(parameters[i]);
    kept.emplace_back(from, from + kernel.parameter_bytes[i]);
  }
  auto run = [this, &kernel, grid, block, kept = std::move(kept)]() mutable {
    std::vector<void*> args;
    for (auto& parameter : kept) args.push_back(parameter.data());
    SimMemory::Window const window{memory};
    std::uint64_t const bytes = kernel.name == kCopyKernelName ? check_entries(args.data()) : 0;
    kernel.run(grid, block, args.data());
    return options.kernel_overhead_us + static_cast<double>(bytes) / options.kernel_bytes_per_us;
  };
  bool const known = streams.submit(stream, {.run = std::move(run)});
  return known ? CudaStatus::kSuccess : CudaStatus::kInvalidHandle;
}

SimKernel const* SimDevice::kernel(std::string_view name) const {
  auto const found = std::find_if(options.kernels.begin(), options.kernels.end(),
                                  [name](SimKernel const& each) { return each.name == name; });
  return found == options.kernels.end() ? nullptr : &*found;
}

std::uint64_t SimDevice::calls(std::string const& name) const {
  std::lock_guard const lock{mutex_};
  if (name.empty()) return all_calls_;
  auto const found = calls_.find(name);
  return found == calls_.end() ? 0 : found->second;
}

std::vector<std::string> SimDevice::violations() const {
  std::lock_guard const lock{mutex_};
  return violations_;
}

std::uint64_t SimDevice::alive() const {
  std::uint64_t const rest = memory.alive() + streams.alive();
  std::lock_guard const lock{mutex_};
  return rest + static_cast<std::uint64_t>(retained_);
}

}  // namespace lmcache::test
