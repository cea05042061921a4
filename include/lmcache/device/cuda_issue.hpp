// SPDX-License-Identifier: Apache-2.0
// Puts copies on a stream: by the copy engine or by the kernel, whichever is quicker for their
// size, number and direction.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <lmcache/base/cuda_api.hpp>
#include <lmcache/base/result.hpp>
#include <lmcache/device/copy_batch.hpp>

namespace lmcache {

// Where the copies of a piece go: over the link to or from the device, or nowhere but inside it.
enum class CopyPath : std::uint8_t { kStore, kLoad, kInside };

// Where the copy engine takes over: entries that are this long on average, or fewer than `fewest`.
struct CopyChoice {
  struct Side {
    std::uint64_t engine_from_bytes = 64 * 1024;
    std::uint32_t fewest = 8;
  };
  Side store;
  Side load;
  Side inside;

  [[nodiscard]] Side const& of(CopyPath path) const noexcept {
    if (path == CopyPath::kInside) return inside;
    return path == CopyPath::kStore ? store : load;
  }
};

namespace detail {

// Both are addresses of the device.
struct CudaCopy {
  CudaAddress to = 0;
  CudaAddress from = 0;
  std::uint64_t bytes = 0;
};

// Room in one pinned buffer and one of the device for the entries of a launch: the same offset in
// both, so that the kernel reads them at the speed of the device.
struct EntrySpace {
  std::byte* host = nullptr;
  CudaAddress host_device = 0;
  CudaAddress device = 0;
};

// Externally synchronised.
class CudaIssuer {
 public:
  enum class Way : std::uint8_t { kEngine, kKernel };
  struct Kernel {
    CudaFunction function = nullptr;  // null: the copy engine does everything
    // Few, since prefill needs the others: 16 blocks of 512 threads keep 512 KiB in flight, four
    // times 16 bytes each, and a link of 55 GB/s with 2 us of latency needs about 110 KiB.
    unsigned blocks = 16;
    unsigned threads = 512;
  };

  CudaIssuer(CudaApi const& api, CudaStream stream, Kernel kernel, CopyChoice choice)
      : api_{api}, stream_{stream}, kernel_{kernel}, choice_{choice} {}

  // Copies that follow each other on both sides become one.
  static void merge(std::vector<CudaCopy>& copies);

  [[nodiscard]] Way way(CopyPath path, std::span<CudaCopy const> copies) const noexcept;
  // What issue() by kernel needs of EntrySpace.
  [[nodiscard]] static std::uint64_t entry_bytes(std::span<CudaCopy const> copies) noexcept;

  // `begun`: something was put on the stream, even when the call fails. The entries in `space` are
  // read until the copies have ended.
  [[nodiscard]] CudaStatus by_engine(std::span<CudaCopy const> copies, bool& begun);
  [[nodiscard]] CudaStatus by_kernel(std::span<CudaCopy const> copies, EntrySpace space,
                                     bool& begun);

  [[nodiscard]] CudaStream stream() const noexcept { return stream_; }

 private:
  [[nodiscard]] CudaStatus in_batch(std::span<CudaCopy const> copies, bool& begun);

  CudaApi const& api_;
  CudaStream const stream_;
  Kernel const kernel_;
  CopyChoice const choice_;
  std::vector<CudaAddress> to_;
  std::vector<CudaAddress> from_;
  std::vector<std::size_t> bytes_;
};

}  // namespace detail
}  // namespace lmcache
