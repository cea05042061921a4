// SPDX-License-Identifier: Apache-2.0
#include <limits>
#include <string>

#include <lmcache/layout/kv_view.hpp>

namespace lmcache {
namespace {

Error invalid(std::string message) {
  return Error{ErrorCode::kInvalidArgument, "KV view: " + message};
}

Result<void> validate_plane(KvPlane const& plane, std::uint32_t num_blocks,
                            std::string const& name) {
  if (plane.base == nullptr) return invalid(name + ".base is null");
  if (plane.page_bytes == 0) return invalid(name + ".page_bytes is 0, allowed: at least 1");
  std::uint64_t const gaps = num_blocks - 1;
  std::uint64_t stride = 0;
  if (gaps > 0) {
    if (plane.block_stride_bytes <= 0 ||
        static_cast<std::uint64_t>(plane.block_stride_bytes) < plane.page_bytes) {
      return invalid(name + ".block_stride_bytes is " + std::to_string(plane.block_stride_bytes) +
                     ", allowed: at least page_bytes, " + std::to_string(plane.page_bytes));
    }
    stride = static_cast<std::uint64_t>(plane.block_stride_bytes);
  }
  std::uint64_t reach = 0;  // from the base to the end of the last page
  auto const base = reinterpret_cast<std::uintptr_t>(plane.base);
  if (__builtin_mul_overflow(stride, gaps, &reach) ||
      __builtin_add_overflow(reach, plane.page_bytes, &reach) ||
      reach > std::numeric_limits<std::uintptr_t>::max() - base) {
    return invalid(name +
                   " reaches past the end of the address space: " + std::to_string(num_blocks) +
                   " blocks, stride " + std::to_string(plane.block_stride_bytes) + ", page_bytes " +
                   std::to_string(plane.page_bytes));
  }
  return {};
}

}  // namespace

Result<void> validate(KvView const& view) {
  if (view.planes.empty()) return invalid("no planes, allowed: at least 1");
  if (view.num_blocks == 0) return invalid("num_blocks is 0, allowed: at least 1");
  if (view.block_tokens == 0) return invalid("block_tokens is 0, allowed: at least 1");
  if (view.device.ordinal < 0) {
    return invalid("device.ordinal is " + std::to_string(view.device.ordinal) +
                   ", allowed: at least 0");
  }
  for (std::size_t i = 0; i < view.planes.size(); ++i) {
    LMC_TRY(validate_plane(view.planes[i], view.num_blocks, "planes[" + std::to_string(i) + "]"));
  }
  return {};
}

}  // namespace lmcache
