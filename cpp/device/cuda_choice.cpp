// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/cuda_choice.hpp>

#include <algorithm>
#include <limits>
#include <utility>

#include <lmcache/base/cuda_error.hpp>

namespace lmcache {
namespace {

using detail::CudaCopy;
using detail::CudaIssuer;

constexpr auto kOk = CudaStatus::kSuccess;
constexpr std::uint64_t kEntrySpace = 128 * 1024;
constexpr std::uint64_t kSmallestEntry = 2 * 1024;
constexpr std::uint64_t kLargestEntry = 256 * 1024;
constexpr std::size_t kMostEntries = 512;
// The engine takes no SM from prefill, so it need not be quite as quick.
constexpr double kEngineIsWorth = 1.05;

// Everything the measurement holds, given back in any case.
class Bench {
 public:
  Bench(CudaApi const& api, CudaIssuer::Kernel kernel, CopyMeasureOptions options)
      : api_{api}, kernel_{kernel}, options_{options} {}
  Bench(Bench const&) = delete;
  Bench& operator=(Bench const&) = delete;
  ~Bench() {
    if (stream_ != nullptr) (void)api_.stream_destroy(stream_);
    for (CudaEvent const event : {begin_, end_}) {
      if (event != nullptr) (void)api_.event_destroy(event);
    }
    if (device_ != 0) (void)api_.mem_free(device_);
    if (host_ != nullptr) (void)api_.host_free(host_);
  }

  [[nodiscard]] CudaStatus open() {
    constexpr unsigned kFlags = cuda::kHostAllocPortable | cuda::kHostAllocDeviceMap;
    CudaStatus status = api_.stream_create(&stream_, cuda::kStreamNonBlocking, 0);
    if (status == kOk) status = api_.event_create(&begin_, cuda::kEventDefault);
    if (status == kOk) status = api_.event_create(&end_, cuda::kEventDefault);
    if (status == kOk) status = api_.host_alloc(&host_, options_.bytes + kEntrySpace, kFlags);
    if (status == kOk) status = api_.host_device_address(&host_device_, host_, 0);
    if (status == kOk) status = api_.mem_alloc(&device_, 3 * options_.bytes + kEntrySpace);
    return status;
  }

  // Bytes per microsecond; the best of a few.
  [[nodiscard]] CudaStatus rate(std::span<CudaCopy const> copies, CudaIssuer::Way way,
                                double& best) {
    CudaIssuer issuer{api_, stream_, kernel_, {}};
    std::uint64_t bytes = 0;
    for (CudaCopy const& copy : copies) bytes += copy.bytes;
    best = 0;
    for (int round = 0; round < options_.rounds; ++round) {
      bool begun = false;
      float ms = 0;
      CudaStatus status = api_.event_record(begin_, stream_);
      if (status == kOk) {
        status = way == CudaIssuer::Way::kEngine ? issuer.by_engine(copies, begun)
                                                 : issuer.by_kernel(copies, entry_space(), begun);
      }
      if (status == kOk) status = api_.event_record(end_, stream_);
      if (status == kOk) status = api_.stream_synchronize(stream_);
      if (status == kOk) status = api_.event_elapsed_ms(&ms, begin_, end_);
      if (status != kOk) return status;
      if (ms > 0) best = std::max(best, static_cast<double>(bytes) / (1000.0 * ms));
    }
    return kOk;
  }

  // Entries of one size: side by side in the slot, every other one on the device.
  [[nodiscard]] std::vector<CudaCopy> copies(CopyPath path, std::uint64_t entry_bytes) const {
    CudaAddress const slots =
        path == CopyPath::kInside ? device_ + 2 * options_.bytes : host_device_;
    std::vector<CudaCopy> made;
    std::size_t const count = std::min<std::size_t>(kMostEntries, options_.bytes / entry_bytes);
    for (std::size_t i = 0; i < count; ++i) {
      // From both ends, so that neighbours in the list are far apart.
      std::size_t const block = i % 2 == 0 ? i / 2 : count - 1 - i / 2;
      CudaAddress const engine = device_ + 2 * block * entry_bytes;
      CudaAddress const slot = slots + i * entry_bytes;
      made.push_back(path == CopyPath::kStore
                         ? CudaCopy{.to = slot, .from = engine, .bytes = entry_bytes}
                         : CudaCopy{.to = engine, .from = slot, .bytes = entry_bytes});
    }
    return made;
  }

 private:
  [[nodiscard]] detail::EntrySpace entry_space() const {
    return {.host = static_cast<std::byte*>(host_) + options_.bytes,
            .host_device = host_device_ + options_.bytes,
            .device = device_ + 3 * options_.bytes};
  }

  CudaApi const& api_;
  CudaIssuer::Kernel const kernel_;
  CopyMeasureOptions const options_;
  CudaStream stream_ = nullptr;
  CudaEvent begin_ = nullptr;
  CudaEvent end_ = nullptr;
  void* host_ = nullptr;
  CudaAddress host_device_ = 0;
  CudaAddress device_ = 0;
};

CopyChoice::Side side(std::vector<CopyRates> const& rates) {
  CopyChoice::Side chosen{.engine_from_bytes = std::numeric_limits<std::uint64_t>::max()};
  // From the largest down, as long as the engine is worth it.
  for (auto rate = rates.rbegin(); rate != rates.rend(); ++rate) {
    if (rate->engine * kEngineIsWorth < rate->kernel) return chosen;
    chosen.engine_from_bytes = rate->entry_bytes;
  }
  chosen.engine_from_bytes = 0;  // always
  return chosen;
}

}  // namespace

CopyChoice choose(CopyMeasurement const& measured) {
  CopyChoice chosen{.store = side(measured.store), .load = side(measured.load), .inside = {}};
  if (!measured.inside.empty()) chosen.inside = side(measured.inside);
  return chosen;
}

Result<CopyMeasurement> measure_copies(CudaApi const& api, CudaIssuer::Kernel kernel,
                                       CopyMeasureOptions options) {
  Bench bench{api, kernel, options};
  CudaStatus status = bench.open();
  CopyMeasurement measured;
  struct Path {
    CopyPath path;
    std::vector<CopyRates>& rates;
    double& limit;
  };
  Path const paths[] = {{CopyPath::kStore, measured.store, measured.store_limit},
                        {CopyPath::kLoad, measured.load, measured.load_limit},
                        {CopyPath::kInside, measured.inside, measured.inside_limit}};
  for (auto const& [path, rates, limit] : std::span{paths}.first(options.inside ? 3 : 2)) {
    if (status == kOk) {
      status = bench.rate(bench.copies(path, options.bytes), CudaIssuer::Way::kEngine, limit);
    }
    for (std::uint64_t bytes = kSmallestEntry; bytes <= kLargestEntry; bytes *= 2) {
      CopyRates rate{.entry_bytes = bytes};
      auto const copies = bench.copies(path, bytes);
      if (status == kOk) status = bench.rate(copies, CudaIssuer::Way::kEngine, rate.engine);
      if (status == kOk && kernel.function != nullptr) {
        status = bench.rate(copies, CudaIssuer::Way::kKernel, rate.kernel);
      }
      rates.push_back(rate);
    }
  }
  LMC_TRY(cuda_done(api, "measuring copies", status));
  return measured;
}

}  // namespace lmcache
