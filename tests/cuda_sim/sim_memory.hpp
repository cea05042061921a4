// SPDX-License-Identifier: Apache-2.0
// What memory a simulated device can reach: its own, which nobody else can, and pinned host memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include <lmcache/base/cuda_api.hpp>

namespace lmcache::test {

// Thread-safe.
class SimMemory {
 public:
  SimMemory(std::uint64_t device_bytes, std::uint64_t pinned_limit_bytes);
  ~SimMemory();
  SimMemory(SimMemory const&) = delete;
  SimMemory& operator=(SimMemory const&) = delete;

  [[nodiscard]] CudaStatus allocate(CudaAddress* out, std::size_t bytes);
  [[nodiscard]] CudaStatus release(CudaAddress address);
  // Memory of ours that is pinned from the start, or the caller's.
  [[nodiscard]] CudaStatus allocate_pinned(void** out, std::size_t bytes);
  [[nodiscard]] CudaStatus release_pinned(void* address);
  [[nodiscard]] CudaStatus pin(void* address, std::size_t bytes);
  [[nodiscard]] CudaStatus unpin(void* address);

  // Nothing: the device may copy these bytes. Else what is wrong with them.
  [[nodiscard]] std::optional<std::string> complaint(CudaAddress address, std::size_t bytes) const;
  [[nodiscard]] bool is_pinned(CudaAddress address, std::size_t bytes) const;
  [[nodiscard]] std::uint64_t pinned_bytes() const;
  [[nodiscard]] std::uint64_t alive() const;

  // Device memory can be touched while one of these lives.
  class Window {
   public:
    explicit Window(SimMemory& memory) : memory_{memory} { memory_.open(); }
    ~Window() { memory_.close(); }
    Window(Window const&) = delete;
    Window& operator=(Window const&) = delete;

   private:
    SimMemory& memory_;
  };

 private:
  struct Pinned {
    std::size_t bytes;
    bool ours;
  };
  void open();
  void close();
  [[nodiscard]] bool in_device(CudaAddress address) const;

  std::byte* base_ = nullptr;
  std::uint64_t const device_bytes_;
  std::uint64_t const pinned_limit_;
  mutable std::mutex mutex_;  // guards all below
  int open_windows_ = 0;
  std::uint64_t next_ = 4096;  // an address of 0 is nobody's
  std::map<CudaAddress, std::size_t> blocks_;
  std::map<CudaAddress, Pinned> pinned_;
  std::uint64_t registered_bytes_ = 0;
};

}  // namespace lmcache::test
