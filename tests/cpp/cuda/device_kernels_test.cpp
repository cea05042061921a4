// SPDX-License-Identifier: Apache-2.0
// The kernels on a device give the bytes that their twins on the host give.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cuda/kernel_device.hpp"

namespace lmcache::test {
namespace {

class DeviceKernels : public testing::TestWithParam<KernelCode> {
 protected:
  void SetUp() override {
    device = std::make_unique<KernelDevice>(GetParam());
    if (!device->usable()) GTEST_SKIP() << device->reason();
  }

  std::unique_ptr<KernelDevice> device;
};

void run_on_host(char const* name, std::vector<void*> parameters) {
  for (HostKernel const& kernel : host_kernels()) {
    if (std::strcmp(kernel.name, name) == 0) kernel.run(1, 32, parameters.data());
  }
}

// Host to device, within the device and back, by entries of every alignment.
TEST_P(DeviceKernels, CopyEveryAlignmentThroughTheDevice) {
  constexpr std::size_t kBytes = 1 << 20;
  constexpr std::uint32_t kMost = 4096;
  PinnedBuffer from{device->api(), kBytes}, to{device->api(), kBytes};
  PinnedBuffer entries{device->api(), kMost * 3 * sizeof(CopyEntry)};
  CudaAddress const first = device->allocate(kBytes), second = device->allocate(kBytes);
  std::mt19937 random{5};
  for (std::size_t i = 0; i < kBytes; ++i) {
    from.data()[i] = static_cast<std::byte>(random() % 251);
  }
  std::vector<CopyEntry> in, across, out;
  std::vector<std::byte> expected = to.bytes();
  for (std::size_t at = 0; at + 40000 < kBytes && in.size() < kMost;) {
    std::size_t const bytes = random() % (random() % 8 == 0 ? 40000 : 400);
    std::size_t const apart = random() % 2 == 0 ? 0 : random() % 20;
    in.push_back({.to = first + at + apart, .from = from.device() + at, .bytes = bytes});
    across.push_back({.to = second + at, .from = first + at + apart, .bytes = bytes});
    out.push_back({.to = to.device() + at, .from = second + at, .bytes = bytes});
    std::memcpy(expected.data() + at, from.data() + at, bytes);
    at += bytes + 32;
  }
  auto count = static_cast<std::uint32_t>(in.size());
  std::size_t offset = 0;
  for (std::vector<CopyEntry> const* list : {&in, &across, &out}) {
    std::memcpy(entries.data() + offset, list->data(), count * sizeof(CopyEntry));
    CudaAddress address = entries.device() + offset;
    device->launch(kCopyKernelName, 16, 512, {&address, &count});
    offset += count * sizeof(CopyEntry);
  }
  EXPECT_EQ(to.bytes(), expected);
  device->free(first);
  device->free(second);
}

TEST_P(DeviceKernels, QuantiseToTheSameBitsAsTheHost) {
  constexpr std::uint64_t kElements = 20'011;
  PinnedBuffer elements{device->api(), kElements * 4}, back{device->api(), kElements * 4};
  PinnedBuffer codes{device->api(), kElements}, scales{device->api(), (kElements / 32 + 1) * 4};
  std::mt19937 random{9};
  for (std::size_t i = 0; i < kElements; ++i) {  // any bits: NaN, Inf and subnormals among them
    auto const bits = static_cast<std::uint32_t>(random());
    std::memcpy(elements.data() + i * 4, &bits, 4);
  }
  for (ElementType element :
       {ElementType::kBfloat16, ElementType::kFloat16, ElementType::kFloat32}) {
    for (CodeType code : {CodeType::kFp8E4m3, CodeType::kInt8}) {
      for (std::uint32_t group : {32u, 64u, 128u}) {
        GroupShape shape{
            .elements = kElements, .group_elements = group, .element = element, .code = code};
        std::vector<std::uint64_t> device_at{elements.device(), codes.device(), scales.device(),
                                             back.device()};
        device->launch(kQuantiseKernelName, 4, 128,
                       {&device_at[0], &device_at[1], &device_at[2], &shape});
        device->launch(kDequantiseKernelName, 4, 128,
                       {&device_at[1], &device_at[2], &device_at[3], &shape});
        std::vector<std::byte> const found[] = {codes.bytes(), scales.bytes(), back.bytes()};
        void* host_at[] = {elements.data(), codes.data(), scales.data(), back.data()};
        run_on_host(kQuantiseKernelName, {&host_at[0], &host_at[1], &host_at[2], &shape});
        run_on_host(kDequantiseKernelName, {&host_at[1], &host_at[2], &host_at[3], &shape});
        EXPECT_EQ(found[0], codes.bytes());
        EXPECT_EQ(found[1], scales.bytes());
        EXPECT_EQ(found[2], back.bytes());
      }
    }
  }
}

std::string code_name(testing::TestParamInfo<KernelCode> const& of) {
  char const* const names[] = {"Simulated", "RealMachineCode", "RealPtx"};
  return names[static_cast<int>(of.param)];
}

INSTANTIATE_TEST_SUITE_P(All, DeviceKernels,
                         testing::Values(KernelCode::kSimulated, KernelCode::kMachineCode,
                                         KernelCode::kPtx),
                         code_name);

}  // namespace
}  // namespace lmcache::test
