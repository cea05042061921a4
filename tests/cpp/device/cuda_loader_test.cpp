// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/cuda_loader.hpp>

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

namespace lmcache::test {
namespace {

// A driver of which a test says what it has and answers.
struct FakeDriver {
  static inline int version = 0;
  static inline CudaStatus start = CudaStatus::kSuccess;
  static inline int devices = 1;

  static CudaStatus tell_version(int* out) {
    *out = version;
    return CudaStatus::kSuccess;
  }
  static CudaStatus init(unsigned) { return start; }
  static CudaStatus count(int* out) {
    *out = devices;
    return CudaStatus::kSuccess;
  }
  static CudaStatus error_name(CudaStatus status, char const** out) {
    if (status != CudaStatus::kSystemNotReady) return CudaStatus::kInvalidValue;
    *out = "CUDA_ERROR_SYSTEM_NOT_READY";
    return CudaStatus::kSuccess;
  }
  static CudaStatus any() { return CudaStatus::kSuccess; }

  FakeDriver() {
    version = 13000;
    start = CudaStatus::kSuccess;
    devices = 1;
  }

  void* find(std::string const& name, int since) {
    asked[name] = since;
    if (missing.contains(name)) return nullptr;
    if (name == "cuDriverGetVersion") return reinterpret_cast<void*>(tell_version);
    // As cuGetProcAddress: what came with a later CUDA than the driver's is not there.
    if (since > version) return nullptr;
    if (name == "cuInit") return reinterpret_cast<void*>(init);
    if (name == "cuDeviceGetCount") return reinterpret_cast<void*>(count);
    if (name == "cuGetErrorName") return reinterpret_cast<void*>(error_name);
    return reinterpret_cast<void*>(any);
  }
  Result<CudaApi> fill() {
    return fill_cuda_api([this](char const* name, int since) { return find(name, since); });
  }
  void expect_refused(std::string const& reason) {
    auto const api = fill();
    ASSERT_FALSE(api);
    EXPECT_EQ(api.error().code(), ErrorCode::kUnavailable);
    EXPECT_NE(api.error().message().find(reason), std::string::npos) << api.error().message();
  }

  std::map<std::string, int> asked;
  std::set<std::string> missing;
};

TEST(CudaLoaderTest, BindsEveryCall) {
  FakeDriver driver;
  auto const api = driver.fill();
  ASSERT_TRUE(api) << api.error().message();
  EXPECT_EQ(api.value().driver_version, 13000);
  EXPECT_NE(api.value().memcpy_batch_13, nullptr);
  EXPECT_EQ(api.value().memcpy_batch_12, nullptr);
  // Each call that is not asked for would be a null pointer in the table: 13 of the device, 8 and
  // the batch copy of memory, 10 of streams, the version and the start.
  EXPECT_EQ(driver.asked.size(), 13U + 9U + 10U + 2U);
}

TEST(CudaLoaderTest, TakesTheBatchCopyThatTheDriverHas) {
  FakeDriver driver;
  FakeDriver::version = 12080;
  auto const newer = driver.fill();
  ASSERT_TRUE(newer);
  EXPECT_EQ(newer.value().memcpy_batch_13, nullptr);
  EXPECT_NE(newer.value().memcpy_batch_12, nullptr);

  FakeDriver::version = 12040;
  auto const older = driver.fill();
  ASSERT_TRUE(older);
  EXPECT_EQ(older.value().memcpy_batch_13, nullptr);
  EXPECT_EQ(older.value().memcpy_batch_12, nullptr);
}

TEST(CudaLoaderTest, SaysWhyNot) {
  {
    FakeDriver driver;
    FakeDriver::version = 11080;
    driver.expect_refused("too old: it supports CUDA 11.8, needed is 12.0");
  }
  {
    FakeDriver driver;
    FakeDriver::start = CudaStatus::kNoDevice;
    driver.expect_refused("no CUDA device");
  }
  {
    FakeDriver driver;
    FakeDriver::devices = 0;
    driver.expect_refused("no CUDA device");
  }
  {
    FakeDriver driver;
    FakeDriver::start = CudaStatus::kSystemNotReady;
    driver.expect_refused("CUDA_ERROR_SYSTEM_NOT_READY (802)");
  }
  {
    FakeDriver driver;
    driver.missing = {"cuMemHostRegister"};
    driver.expect_refused("lacks cuMemHostRegister");
  }
  {
    FakeDriver driver;
    driver.missing = {"cuDriverGetVersion"};
    driver.expect_refused("version");
  }
}

TEST(CudaLoaderTest, NoDriverIsNoError) {
  auto const api = load_cuda("libcuda-that-nobody-has.so.1");
  ASSERT_FALSE(api);
  EXPECT_EQ(api.error().code(), ErrorCode::kUnavailable);
  EXPECT_NE(api.error().message().find("no CUDA driver"), std::string::npos);
  // Some library, but none of CUDA's.
  auto const other = load_cuda("libc.so.6");
  ASSERT_FALSE(other);
  EXPECT_NE(other.error().message().find("too old"), std::string::npos);
}

}  // namespace
}  // namespace lmcache::test
