// SPDX-License-Identifier: Apache-2.0
// Events to use again: a job takes one per piece, and making one costs microseconds.
#pragma once

#include <mutex>
#include <vector>

#include <lmcache/base/cuda_api.hpp>

namespace lmcache::detail {

// Thread-safe. Every call needs the context current.
class CudaEvents {
 public:
  explicit CudaEvents(CudaApi const& api) : api_{api} {}
  CudaEvents(CudaEvents const&) = delete;
  CudaEvents& operator=(CudaEvents const&) = delete;

  [[nodiscard]] CudaStatus take(CudaEvent& out) {
    {
      std::lock_guard const lock{mutex_};
      if (!free_.empty()) {
        out = free_.back();
        free_.pop_back();
        return CudaStatus::kSuccess;
      }
    }
    return api_.event_create(&out, cuda::kEventDisableTiming);
  }
  // Nobody will wait for its last record again.
  void give(CudaEvent event) {
    if (event == nullptr) return;
    std::lock_guard const lock{mutex_};
    free_.push_back(event);
  }
  // What was given. A driver that unloads refuses, and needs none of it.
  void destroy() {
    std::lock_guard const lock{mutex_};
    for (CudaEvent const event : free_) (void)api_.event_destroy(event);
    free_.clear();
  }

 private:
  CudaApi const& api_;
  std::mutex mutex_;
  std::vector<CudaEvent> free_;
};

}  // namespace lmcache::detail
