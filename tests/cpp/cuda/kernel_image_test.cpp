// SPDX-License-Identifier: Apache-2.0
#include "cuda/kernel_image.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "cuda/host_kernels.hpp"

namespace lmcache {
namespace {

class KernelImage : public testing::Test {
 protected:
  void SetUp() override {
    if (kernel_image().empty()) GTEST_SKIP() << "built without CUDA";
  }
};

TEST(KernelImageWithoutCuda, BothAreThereOrNone) {
  EXPECT_EQ(kernel_image().empty(), kernel_ptx().empty());
}

TEST_F(KernelImage, IsAnAlignedFatBinaryWithEveryKernel) {
  std::uint32_t magic = 0;
  std::memcpy(&magic, kernel_image().data(), sizeof(magic));
  EXPECT_EQ(magic, 0xba55ed50);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(kernel_image().data()) % 16, 0u);
  std::string_view const bytes{reinterpret_cast<char const*>(kernel_image().data()),
                               kernel_image().size()};
  for (HostKernel const& kernel : host_kernels()) {
    EXPECT_NE(bytes.find(".text." + std::string{kernel.name}), bytes.npos) << kernel.name;
  }
}

TEST_F(KernelImage, PtxIsOfCuda12AndHasEveryKernel) {
  std::string_view const ptx = kernel_ptx();
  EXPECT_NE(ptx.find("\n.version 8.0\n"), ptx.npos);
  EXPECT_EQ(ptx.find(".version", ptx.find(".version") + 1), ptx.npos);
  EXPECT_NE(ptx.find("\n.target sm_75\n"), ptx.npos);
  EXPECT_EQ(std::strlen(ptx.data()), ptx.size());  // the NUL is behind it, and only there
  for (HostKernel const& kernel : host_kernels()) {
    EXPECT_NE(ptx.find(".entry " + std::string{kernel.name} + "("), ptx.npos) << kernel.name;
  }
}

}  // namespace
}  // namespace lmcache
