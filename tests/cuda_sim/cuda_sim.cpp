// SPDX-License-Identifier: Apache-2.0
#include "cuda_sim/cuda_sim.hpp"

#include <cstdlib>
#include <cstring>
#include <utility>

#include "cuda_sim/sim_device.hpp"

namespace lmcache::test {

CudaSim::CudaSim(CudaSimOptions options)
    : device_{std::make_unique<SimDevice>(std::move(options))} {
  api_ = sim_api(device_.get());
}

CudaSim::~CudaSim() { forget_sim_device(); }

CudaAddress CudaSim::allocate_device(std::size_t bytes) {
  CudaAddress address = 0;
  if (device_->memory.allocate(&address, bytes) != CudaStatus::kSuccess) std::abort();
  return address;
}

void CudaSim::write_device(CudaAddress to, std::span<std::byte const> bytes) {
  SimMemory::Window const window{device_->memory};
  std::memcpy(reinterpret_cast<void*>(to), bytes.data(), bytes.size());
}

std::vector<std::byte> CudaSim::read_device(CudaAddress from, std::size_t bytes) const {
  SimMemory::Window const window{device_->memory};
  auto const* begin = reinterpret_cast<std::byte const*>(from);
  return {begin, begin + bytes};
}

CudaStream CudaSim::make_engine_stream() { return device_->streams.make(0); }

void CudaSim::compute(CudaStream stream, std::function<void()> work) {
  auto run = [this, work = std::move(work)] {
    SimMemory::Window const window{device_->memory};
    work();
    return 1.0;
  };
  if (!device_->streams.submit(stream, {.run = std::move(run)})) std::abort();
}

std::vector<CudaStream> CudaSim::streams() const { return device_->streams.all(); }
int CudaSim::priority_of(CudaStream stream) const { return device_->streams.priority_of(stream); }
void CudaSim::hold(CudaStream stream) { device_->streams.hold(stream, true); }
void CudaSim::release(CudaStream stream) { device_->streams.hold(stream, false); }
void CudaSim::allow(CudaStream stream, unsigned works) { device_->streams.allow(stream, works); }
void CudaSim::settle() { device_->streams.settle(); }

void CudaSim::fail_call(std::uint64_t n, CudaStatus status, std::string name) {
  device_->fail_call(n, status, std::move(name));
}
void CudaSim::stop_failing() { device_->stop_failing(); }
void CudaSim::unload() { device_->lose(CudaStatus::kDeinitialized); }

std::uint64_t CudaSim::calls(std::string const& name) const { return device_->calls(name); }
std::vector<std::string> CudaSim::violations() const { return device_->violations(); }
std::uint64_t CudaSim::pinned_bytes() const { return device_->memory.pinned_bytes(); }
std::uint64_t CudaSim::alive() const { return device_->alive(); }

}  // namespace lmcache::test
