// SPDX-License-Identifier: Apache-2.0
#include "cuda/host_kernels.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "cuda/copy_kernel.hpp"
#include "cuda/group_codes.hpp"

namespace lmcache {
namespace {

HostKernel find(std::string_view name) {
  for (HostKernel const& kernel : host_kernels()) {
    if (kernel.name == name) return kernel;
  }
  return {};
}

TEST(HostKernels, EachHasANameAndABody) {
  std::set<std::string> names;
  for (HostKernel const& kernel : host_kernels()) {
    EXPECT_NE(kernel.run, nullptr);
    EXPECT_TRUE(names.insert(kernel.name).second) << kernel.name;
  }
  EXPECT_EQ(names,
            (std::set<std::string>{kCopyKernelName, kQuantiseKernelName, kDequantiseKernelName}));
}

TEST(HostKernels, TakeTheirParametersAsADriverDoes) {
  std::array<std::uint8_t, 100> const from{1, 2, 3};
  std::array<std::uint8_t, 100> to{};
  CopyEntry const entry{.to = reinterpret_cast<std::uintptr_t>(to.data()),
                        .from = reinterpret_cast<std::uintptr_t>(from.data()),
                        .bytes = 100};
  std::uint64_t entries = reinterpret_cast<std::uintptr_t>(&entry);  // a CUdeviceptr
  std::uint32_t count = 1;
  void* args[] = {&entries, &count};
  find(kCopyKernelName).run(2, 64, args);
  EXPECT_EQ(to, from);
}

TEST(HostKernels, QuantiseAndBack) {
  alignas(16) std::array<float, 32> values{};
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) * 4.0f;
  values[31] = 127.0f;
  alignas(16) std::array<std::uint8_t, 32> codes{};
  alignas(16) std::array<float, 32> back{};
  float scale = 0;
  GroupShape shape{.elements = 32,
                   .group_elements = 32,
                   .element = ElementType::kFloat32,
                   .code = CodeType::kInt8};
  void *from = values.data(), *coded = codes.data(), *scales = &scale, *to = back.data();
  void* quantise[] = {&from, &coded, &scales, &shape};
  find(kQuantiseKernelName).run(1, 32, quantise);
  EXPECT_EQ(scale, 1.0f);
  EXPECT_EQ(codes[30], 120);
  void* dequantise[] = {&coded, &scales, &to, &shape};
  find(kDequantiseKernelName).run(1, 32, dequantise);
  EXPECT_EQ(back, values);
}

}  // namespace
}  // namespace lmcache
