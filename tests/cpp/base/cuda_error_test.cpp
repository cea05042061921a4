// SPDX-License-Identifier: Apache-2.0
#include <lmcache/base/cuda_error.hpp>

#include <gtest/gtest.h>

#include <vector>

namespace lmcache::test {
namespace {

CudaStatus name_of(CudaStatus status, char const** out) {
  if (status != CudaStatus::kSystemNotReady) return CudaStatus::kInvalidValue;
  *out = "CUDA_ERROR_SYSTEM_NOT_READY";
  return CudaStatus::kSuccess;
}

TEST(CudaErrorTest, ErrorsAreNamed) {
  CudaApi const api{.get_error_name = name_of};
  EXPECT_EQ(cuda_error_text(api, CudaStatus::kUnknown), "CUDA error (999)");
  EXPECT_EQ(cuda_error_text({}, CudaStatus::kOutOfMemory), "CUDA error (2)");
  auto const refused = cuda_failure(api, "pin", CudaStatus::kSystemNotReady);
  EXPECT_EQ(refused.code(), ErrorCode::kCuda);
  EXPECT_EQ(refused.os_error(), 802);
  EXPECT_EQ(refused.message(), "pin: CUDA_ERROR_SYSTEM_NOT_READY (802)");
  EXPECT_EQ(cuda_failure(api, "pin", CudaStatus::kOutOfMemory).code(), ErrorCode::kOutOfMemory);
  EXPECT_TRUE(cuda_done(api, "pin", CudaStatus::kSuccess));
  EXPECT_FALSE(cuda_done(api, "pin", CudaStatus::kNotReady));
}

std::vector<char> trail;

TEST(CudaErrorTest, ScopeTakesBackOnlyWhatItPushed) {
  trail.clear();
  CudaApi api{.context_push =
                  [](CudaContext) {
                    trail.push_back('+');
                    return CudaStatus::kSuccess;
                  },
              .context_pop =
                  [](CudaContext*) {
                    trail.push_back('-');
                    return CudaStatus::kSuccess;
                  }};
  {
    CudaScope const scope{api, nullptr};
    EXPECT_EQ(scope.status(), CudaStatus::kSuccess);
    EXPECT_EQ(trail, std::vector{'+'});
  }
  EXPECT_EQ(trail, (std::vector{'+', '-'}));
  api.context_push = [](CudaContext) { return CudaStatus::kDeinitialized; };
  {
    CudaScope const scope{api, nullptr};
    EXPECT_EQ(scope.status(), CudaStatus::kDeinitialized);
  }
  EXPECT_EQ(trail.size(), 2U);
}

}  // namespace
}  // namespace lmcache::test
