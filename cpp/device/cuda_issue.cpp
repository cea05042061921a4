// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/cuda_issue.hpp>

#include <algorithm>
#include <cstring>

#include "cuda/copy_kernel.hpp"

namespace lmcache::detail {
namespace {

std::uint64_t pieces(std::uint64_t bytes) {
  return (bytes + kCopyEntryBytes - 1) / kCopyEntryBytes;
}

}  // namespace

void CudaIssuer::merge(std::vector<CudaCopy>& copies) {
  std::size_t kept = 0;
  for (CudaCopy const& copy : copies) {
    if (copy.bytes == 0) continue;
    if (kept > 0) {
      CudaCopy& last = copies[kept - 1];
      if (last.to + last.bytes == copy.to && last.from + last.bytes == copy.from) {
        last.bytes += copy.bytes;
        continue;
      }
    }
    copies[kept++] = copy;
  }
  copies.resize(kept);
}

CudaIssuer::Way CudaIssuer::way(CopyPath path, std::span<CudaCopy const> copies) const noexcept {
  auto const& side = choice_.of(path);
  if (kernel_.function == nullptr || copies.size() < side.fewest) return Way::kEngine;
  std::uint64_t bytes = 0;
  for (CudaCopy const& copy : copies) bytes += copy.bytes;
  return bytes / copies.size() < side.engine_from_bytes ? Way::kKernel : Way::kEngine;
}

std::uint64_t CudaIssuer::entry_bytes(std::span<CudaCopy const> copies) noexcept {
  std::uint64_t entries = 0;
  for (CudaCopy const& copy : copies) entries += pieces(copy.bytes);
  return entries * sizeof(CopyEntry);
}

CudaStatus CudaIssuer::by_engine(std::span<CudaCopy const> copies, bool& begun) {
  bool const has_batch = api_.memcpy_batch_12 != nullptr || api_.memcpy_batch_13 != nullptr;
  if (has_batch && copies.size() > 1) return in_batch(copies, begun);
  for (CudaCopy const& copy : copies) {
    CudaStatus const status = api_.memcpy_async(copy.to, copy.from, copy.bytes, stream_);
    if (status != CudaStatus::kSuccess) return status;
    begun = true;
  }
  return CudaStatus::kSuccess;
}

CudaStatus CudaIssuer::in_batch(std::span<CudaCopy const> copies, bool& begun) {
  to_.clear();
  from_.clear();
  bytes_.clear();
  for (CudaCopy const& copy : copies) {
    to_.push_back(copy.to);
    from_.push_back(copy.from);
    bytes_.push_back(copy.bytes);
  }
  // The order of the stream for the sources: with any other one the driver may read a block before
  // the event is reached that says that it holds its KV.
  CudaMemcpyAttributes attributes{.source_order = cuda::kSourceOrderStream,
                                  .flags = cuda::kPreferOverlapWithCompute};
  std::size_t first = 0;
  std::size_t failed = 0;
  begun = true;  // a batch that fails may have begun
  return api_.memcpy_batch_13 != nullptr
             ? api_.memcpy_batch_13(to_.data(), from_.data(), bytes_.data(), to_.size(),
                                    &attributes, &first, 1, stream_)
             : api_.memcpy_batch_12(to_.data(), from_.data(), bytes_.data(), to_.size(),
                                    &attributes, &first, 1, &failed, stream_);
}

CudaStatus CudaIssuer::by_kernel(std::span<CudaCopy const> copies, EntrySpace space, bool& begun) {
  auto* out = space.host;
  std::uint32_t count = 0;
  for (CudaCopy const& copy : copies) {
    for (std::uint64_t at = 0; at < copy.bytes; at += kCopyEntryBytes) {
      CopyEntry const entry{.to = copy.to + at,
                            .from = copy.from + at,
                            .bytes = std::min(kCopyEntryBytes, copy.bytes - at)};
      std::memcpy(out, &entry, sizeof(entry));
      out += sizeof(entry);
      ++count;
    }
  }
  CudaStatus const sent =
      api_.memcpy_async(space.device, space.host_device, count * sizeof(CopyEntry), stream_);
  if (sent != CudaStatus::kSuccess) return sent;
  begun = true;
  CudaAddress entries = space.device;
  void* parameters[] = {&entries, &count};
  return api_.launch_kernel(kernel_.function, std::min(kernel_.blocks, count), 1, 1,
                            kernel_.threads, 1, 1, 0, stream_, parameters, nullptr);
}

}  // namespace lmcache::detail
