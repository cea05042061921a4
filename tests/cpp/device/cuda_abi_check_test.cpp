// SPDX-License-Identifier: Apache-2.0
// That our numbers are CUDA's is checked when the library is compiled with CUDA. Here: what follows
// from them.
#include <lmcache/base/cuda_api.hpp>

#include <gtest/gtest.h>

namespace lmcache::test {
namespace {

TEST(CudaAbiCheckTest, ErrorsThatNeverGoAwayAreSticky) {
  for (auto const status :
       {CudaStatus::kDeinitialized, CudaStatus::kIllegalAddress, CudaStatus::kLaunchFailed,
        CudaStatus::kContextIsDestroyed, CudaStatus::kEccUncorrectable, CudaStatus::kUnknown,
        CudaStatus{716}, CudaStatus{721}}) {
    EXPECT_TRUE(is_sticky(status)) << static_cast<int>(status);
  }
  for (auto const status :
       {CudaStatus::kSuccess, CudaStatus::kInvalidValue, CudaStatus::kOutOfMemory,
        CudaStatus::kNotReady, CudaStatus::kNotPermitted, CudaStatus::kNotSupported,
        CudaStatus::kHostMemoryAlreadyRegistered, CudaStatus::kHostMemoryNotRegistered,
        CudaStatus{701}, CudaStatus{704}, CudaStatus{720}}) {
    EXPECT_FALSE(is_sticky(status)) << static_cast<int>(status);
  }
}

}  // namespace
}  // namespace lmcache::test
