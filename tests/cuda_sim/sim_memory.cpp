// SPDX-License-Identifier: Apache-2.0
#include "cuda_sim/sim_memory.hpp"

#include <sys/mman.h>

#include <cstdlib>
#include <iterator>

namespace lmcache::test {
namespace {

constexpr std::uint64_t kAlign = 512;  // as cuMemAlloc's is at least

CudaAddress number(void const* address) { return reinterpret_cast<CudaAddress>(address); }

// The entry of `map` that holds [address, address + bytes); null where none does.
template <class Map, class Size>
auto const* holder(Map const& map, CudaAddress address, std::size_t bytes, Size size_of) {
  auto after = map.upper_bound(address);
  if (after == map.begin()) return static_cast<typename Map::value_type const*>(nullptr);
  auto const& entry = *std::prev(after);
  bool const inside = address + bytes <= entry.first + size_of(entry.second);
  return inside ? &entry : nullptr;
}

}  // namespace

SimMemory::SimMemory(std::uint64_t device_bytes, std::uint64_t pinned_limit_bytes)
    : device_bytes_{device_bytes}, pinned_limit_{pinned_limit_bytes} {
  void* const base =
      ::mmap(nullptr, device_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) std::abort();
  base_ = static_cast<std::byte*>(base);
}

SimMemory::~SimMemory() {
  for (auto const& [address, range] : pinned_) {
    if (range.ours) std::free(reinterpret_cast<void*>(address));
  }
  ::munmap(base_, device_bytes_);
}

void SimMemory::open() {
  std::lock_guard const lock{mutex_};
  if (open_windows_++ == 0 && ::mprotect(base_, next_, PROT_READ | PROT_WRITE) != 0) std::abort();
}

void SimMemory::close() {
  std::lock_guard const lock{mutex_};
  if (--open_windows_ == 0 && ::mprotect(base_, next_, PROT_NONE) != 0) std::abort();
}

CudaStatus SimMemory::allocate(CudaAddress* out, std::size_t bytes) {
  std::lock_guard const lock{mutex_};
  if (bytes == 0) return CudaStatus::kInvalidValue;
  std::uint64_t const room = (bytes + 4095) / 4096 * 4096 + kAlign;
  if (next_ + room > device_bytes_) return CudaStatus::kOutOfMemory;
  // Not at the start of a page always: nothing may rely on that.
  *out = number(base_ + next_) + (blocks_.size() % 2) * kAlign;
  blocks_.emplace(*out, bytes);
  std::uint64_t const from = next_;
  next_ += (room + 4095) / 4096 * 4096;
  if (open_windows_ > 0 && ::mprotect(base_ + from, next_ - from, PROT_READ | PROT_WRITE) != 0) {
    std::abort();
  }
  return CudaStatus::kSuccess;
}

CudaStatus SimMemory::release(CudaAddress address) {
  std::lock_guard const lock{mutex_};
  return blocks_.erase(address) == 1 ? CudaStatus::kSuccess : CudaStatus::kInvalidValue;
}

CudaStatus SimMemory::allocate_pinned(void** out, std::size_t bytes) {
  std::lock_guard const lock{mutex_};
  if (bytes == 0) return CudaStatus::kInvalidValue;
  *out = std::malloc(bytes);
  pinned_.emplace(number(*out), Pinned{.bytes = bytes, .ours = true});
  return CudaStatus::kSuccess;
}

CudaStatus SimMemory::release_pinned(void* address) {
  std::lock_guard const lock{mutex_};
  auto const found = pinned_.find(number(address));
  if (found == pinned_.end() || !found->second.ours) return CudaStatus::kInvalidValue;
  pinned_.erase(found);
  std::free(address);
  return CudaStatus::kSuccess;
}

CudaStatus SimMemory::pin(void* address, std::size_t bytes) {
  std::lock_guard const lock{mutex_};
  if (bytes == 0) return CudaStatus::kInvalidValue;
  auto const after = pinned_.lower_bound(number(address) + bytes);
  if (after != pinned_.begin()) {
    auto const& before = *std::prev(after);
    if (before.first + before.second.bytes > number(address)) {
      return CudaStatus::kHostMemoryAlreadyRegistered;
    }
  }
  if (registered_bytes_ + bytes > pinned_limit_) return CudaStatus::kOutOfMemory;
  registered_bytes_ += bytes;
  pinned_.emplace(number(address), Pinned{.bytes = bytes, .ours = false});
  return CudaStatus::kSuccess;
}

CudaStatus SimMemory::unpin(void* address) {
  std::lock_guard const lock{mutex_};
  auto const found = pinned_.find(number(address));
  if (found == pinned_.end() || found->second.ours) return CudaStatus::kHostMemoryNotRegistered;
  registered_bytes_ -= found->second.bytes;
  pinned_.erase(found);
  return CudaStatus::kSuccess;
}

bool SimMemory::in_device(CudaAddress address) const {
  return address >= number(base_) && address < number(base_) + device_bytes_;
}

std::optional<std::string> SimMemory::complaint(CudaAddress address, std::size_t bytes) const {
  if (in_device(address)) {
    std::lock_guard const lock{mutex_};
    bool const alive =
        holder(blocks_, address, bytes, [](std::size_t size) { return size; }) != nullptr;
    if (alive) return std::nullopt;
    return "device memory that is not allocated";
  }
  if (is_pinned(address, bytes)) return std::nullopt;
  return "host memory that is not pinned";
}

bool SimMemory::is_pinned(CudaAddress address, std::size_t bytes) const {
  std::lock_guard const lock{mutex_};
  return holder(pinned_, address, bytes, [](Pinned const& range) { return range.bytes; }) !=
         nullptr;
}

std::uint64_t SimMemory::pinned_bytes() const {
  std::lock_guard const lock{mutex_};
  std::uint64_t bytes = 0;
  for (auto const& entry : pinned_) bytes += entry.second.bytes;
  return bytes;
}

std::uint64_t SimMemory::alive() const {
  std::lock_guard const lock{mutex_};
  return blocks_.size() + pinned_.size();
}

}  // namespace lmcache::test
