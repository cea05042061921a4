// SPDX-License-Identifier: Apache-2.0
// A serving engine's paged KV memory as it really lies there, on the host or on a device. Owns
// nothing: the memory must outlive it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <lmcache/base/result.hpp>

namespace lmcache {

// Page b lies at base + b * block_stride_bytes. The stride is what the engine's tensor says; planes
// of one backing buffer may interleave (blocks outermost), so it is often more than the page.
struct KvPlane {
  std::byte* base = nullptr;
  std::int64_t block_stride_bytes = 0;
  std::uint64_t page_bytes = 0;
};

enum class KvDeviceKind : std::uint8_t { kHost, kCuda };

// Where the memory lies.
struct KvDevice {
  KvDeviceKind kind = KvDeviceKind::kHost;
  int ordinal = 0;  // of CUDA, as this process sees the devices
};

struct KvView {
  std::vector<KvPlane> planes{};
  std::uint32_t num_blocks = 0;
  std::uint32_t block_tokens = 0;
  KvDevice device{};
};

// kInvalidArgument names plane, value and what is allowed: at least one plane, block and token per
// block, no null base, no empty page; with more than one block a stride of at least the page (so
// that pages never overlap), no address past the end of the address space, no ordinal below 0.
[[nodiscard]] Result<void> validate(KvView const& view);

}  // namespace lmcache
