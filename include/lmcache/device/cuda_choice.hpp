// SPDX-License-Identifier: Apache-2.0
// Measures on this device, for each path of copies, from which size of entries the copy engine is
// as quick as the kernel.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <lmcache/base/cuda_api.hpp>
#include <lmcache/base/result.hpp>
#include <lmcache/device/cuda_issue.hpp>

namespace lmcache {

// Of many entries of one size, scattered on the device, in bytes per microsecond; 0: not measured.
struct CopyRates {
  std::uint64_t entry_bytes = 0;
  double engine = 0;
  double kernel = 0;
};

struct CopyMeasurement {
  std::vector<CopyRates> store = {};  // by size, ascending
  std::vector<CopyRates> load = {};
  std::vector<CopyRates> inside = {};  // between two places of the device; empty unless asked for
  // One copy of all the bytes in one piece: what the link gives.
  double store_limit = 0;
  double load_limit = 0;
  double inside_limit = 0;
};

struct CopyMeasureOptions {
  std::uint64_t bytes = 8 * 1024 * 1024;  // at least 256 KiB: moved per rate
  int rounds = 3;                         // the best counts: the first one wakes the link up
  bool inside = false;
};

// What follows from it.
[[nodiscard]] CopyChoice choose(CopyMeasurement const& measured);

// On a stream and buffers of its own, 3 times the bytes on the device and once in pinned memory,
// for some 10 ms. The context is current. kOutOfMemory, kCuda: it could not be measured.
[[nodiscard]] Result<CopyMeasurement> measure_copies(CudaApi const& api,
                                                     detail::CudaIssuer::Kernel kernel,
                                                     CopyMeasureOptions options = {});

}  // namespace lmcache
