// SPDX-License-Identifier: Apache-2.0
// The simulation is as strict as it says.
#include "cuda_sim/cuda_sim.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <set>
#include <vector>

#include "cuda_sim/sim_kernels.hpp"

namespace lmcache::test {
namespace {

constexpr auto kOk = CudaStatus::kSuccess;

struct CudaSimTest : ::testing::Test {
  void start(CudaSimOptions options = {}) {
    sim = std::make_unique<CudaSim>(std::move(options));
    ASSERT_EQ(api().primary_context_retain(&context, 0), kOk);
    ASSERT_EQ(api().context_push(context), kOk);
    ASSERT_EQ(api().stream_create(&stream, cuda::kStreamNonBlocking, -5), kOk);
    ASSERT_EQ(api().event_create(&event, cuda::kEventDisableTiming), kOk);
    ASSERT_EQ(api().host_alloc(reinterpret_cast<void**>(&host), kBytes, 3), kOk);
    std::memset(host, 0, kBytes);
    device = sim->allocate_device(kBytes);
    engine = sim->make_engine_stream();
  }
  void TearDown() override {
    CudaContext popped = nullptr;
    if (sim) (void)api().context_pop(&popped);
  }
  CudaApi const& api() { return sim->api(); }
  CudaAddress host_address() { return reinterpret_cast<CudaAddress>(host); }
  std::byte device_byte() { return sim->read_device(device, 1)[0]; }
  // The engine writes `value` to the device, at some time.
  void compute(std::byte value) {
    auto* const at = reinterpret_cast<std::byte*>(device);
    sim->compute(engine, [at, value] { *at = value; });
  }

  static constexpr std::size_t kBytes = 4096;
  std::unique_ptr<CudaSim> sim;
  CudaContext context = nullptr;
  CudaStream stream = nullptr;
  CudaStream engine = nullptr;
  CudaEvent event = nullptr;
  CudaAddress device = 0;
  std::byte* host = nullptr;
};

TEST_F(CudaSimTest, AStreamWithoutAnEventWaitsForNobody) {
  start();
  sim->hold(engine);
  compute(std::byte{7});
  ASSERT_EQ(api().memcpy_async(host_address(), device, 1, stream), kOk);
  ASSERT_EQ(api().event_record(event, stream), kOk);
  sim->settle();
  EXPECT_EQ(api().event_query(event), kOk);
  EXPECT_EQ(host[0], std::byte{0});
  sim->release(engine);
  sim->settle();
  EXPECT_EQ(device_byte(), std::byte{7});
}

TEST_F(CudaSimTest, AnEventOrdersTwoStreams) {
  start();
  sim->hold(engine);
  compute(std::byte{7});
  ASSERT_EQ(api().event_record(event, engine), kOk);
  ASSERT_EQ(api().stream_wait_event(stream, event, 0), kOk);
  ASSERT_EQ(api().memcpy_async(host_address(), device, 1, stream), kOk);
  sim->settle();
  EXPECT_EQ(api().event_query(event), CudaStatus::kNotReady);
  sim->release(engine);
  sim->settle();
  EXPECT_EQ(host[0], std::byte{7});
}

TEST_F(CudaSimTest, AnEventThatIsRecordedAgainKeepsThoseWhoWait) {
  start();
  CudaStream const other = sim->make_engine_stream();
  sim->hold(engine);
  compute(std::byte{7});
  ASSERT_EQ(api().event_record(event, engine), kOk);
  ASSERT_EQ(api().stream_wait_event(stream, event, 0), kOk);
  ASSERT_EQ(api().memcpy_async(host_address(), device, 1, stream), kOk);
  ASSERT_EQ(api().event_record(event, other), kOk);
  sim->settle();
  EXPECT_EQ(api().event_query(event), kOk);  // of its last record
  sim->release(engine);
  sim->settle();
  EXPECT_EQ(host[0], std::byte{7});
  EXPECT_EQ(api().event_query(event), kOk);
}

TEST_F(CudaSimTest, AWaitForAnEventThatWasNeverRecordedIsNone) {
  start();
  ASSERT_EQ(api().stream_wait_event(stream, event, 0), kOk);
  ASSERT_EQ(api().memcpy_async(host_address(), device, 1, stream), kOk);
  EXPECT_EQ(api().stream_synchronize(stream), kOk);
}

TEST_F(CudaSimTest, PageableMemoryAndFreedMemoryAreViolations) {
  start();
  std::vector<std::byte> pageable(16);
  auto const at = reinterpret_cast<CudaAddress>(pageable.data());
  EXPECT_EQ(api().memcpy_async(at, device, 16, stream), CudaStatus::kInvalidValue);
  EXPECT_EQ(api().memcpy_async(host_address(), device + kBytes, 1, stream),
            CudaStatus::kInvalidValue);
  EXPECT_EQ(api().memcpy_async(host_address(), device, 1, nullptr), CudaStatus::kInvalidValue);
  EXPECT_EQ(sim->violations().size(), 3U);
  sim->hold(stream);
  ASSERT_EQ(api().memcpy_async(host_address(), device, 1, stream), kOk);
  ASSERT_EQ(api().mem_free(device), kOk);
  sim->release(stream);
  EXPECT_EQ(api().stream_synchronize(stream), CudaStatus::kIllegalAddress);
  EXPECT_EQ(api().event_query(event), CudaStatus::kIllegalAddress);
  EXPECT_EQ(sim->violations().size(), 4U);
}

TEST_F(CudaSimTest, HostCodeCannotTouchDeviceMemory) {
  start();
  sim->settle();
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_DEATH({ *reinterpret_cast<volatile char*>(device) = 1; }, "");
}

TEST_F(CudaSimTest, ABatchWhoseSourcesHaveNoOrderIsReadAtOnce) {
  for (int const version : {12, 13}) {
    for (int const order : {cuda::kSourceOrderStream, cuda::kSourceOrderAny}) {
      TearDown();
      sim.reset();
      start({.batch_version = version});
      sim->hold(engine);
      compute(std::byte{9});
      ASSERT_EQ(api().event_record(event, engine), kOk);
      ASSERT_EQ(api().stream_wait_event(stream, event, 0), kOk);
      CudaAddress to = host_address();
      CudaAddress from = device;
      std::size_t bytes = 1;
      std::size_t begin = 0;
      std::size_t failed = 0;
      CudaMemcpyAttributes attributes{.source_order = order};
      auto const status = version == 12 ? api().memcpy_batch_12(&to, &from, &bytes, 1, &attributes,
                                                                &begin, 1, &failed, stream)
                                        : api().memcpy_batch_13(&to, &from, &bytes, 1, &attributes,
                                                                &begin, 1, stream);
      ASSERT_EQ(status, kOk);
      sim->release(engine);
      ASSERT_EQ(api().stream_synchronize(stream), kOk);
      EXPECT_EQ(host[0], order == cuda::kSourceOrderStream ? std::byte{9} : std::byte{0});
    }
  }
}

TEST_F(CudaSimTest, TheNthCallFails) {
  start();
  sim->fail_call(2, CudaStatus::kOutOfMemory, "cuEventRecord");
  EXPECT_EQ(api().event_record(event, stream), kOk);
  EXPECT_EQ(api().event_record(event, stream), CudaStatus::kOutOfMemory);
  EXPECT_EQ(api().event_record(event, stream), kOk);
  sim->fail_call(1, CudaStatus::kIllegalAddress);
  EXPECT_EQ(api().event_query(event), CudaStatus::kIllegalAddress);
  EXPECT_EQ(api().event_query(event), CudaStatus::kIllegalAddress);
  EXPECT_EQ(api().stream_synchronize(stream), CudaStatus::kIllegalAddress);
}

TEST_F(CudaSimTest, ACallWithoutAContextIsAViolation) {
  start();
  CudaContext popped = nullptr;
  ASSERT_EQ(api().context_pop(&popped), kOk);
  EXPECT_EQ(api().event_record(event, stream), CudaStatus::kInvalidContext);
  EXPECT_EQ(sim->violations().size(), 1U);
  ASSERT_EQ(api().context_push(context), kOk);
}

TEST_F(CudaSimTest, AKernelKeepsItsParameters) {
  start({.kernels = sim_kernels()});
  CudaModule module = nullptr;
  CudaFunction function = nullptr;
  char const image[] = "image";
  ASSERT_EQ(api().module_load(&module, image), kOk);
  EXPECT_EQ(api().module_function(&function, module, "another"), CudaStatus::kNotFound);
  ASSERT_EQ(api().module_function(&function, module, kCopyKernelName), kOk);
  sim->write_device(device, std::vector<std::byte>(100, std::byte{3}));
  auto* const entry = reinterpret_cast<CopyEntry*>(host);
  *entry = {.to = host_address() + 512, .from = device, .bytes = 100};
  sim->hold(stream);
  {
    CopyEntry* entries = entry;
    std::uint32_t count = 1;
    void* parameters[] = {&entries, &count};
    ASSERT_EQ(api().launch_kernel(function, 2, 1, 1, 32, 1, 1, 0, stream, parameters, nullptr),
              kOk);
    entries = nullptr;
    count = 77;
  }
  sim->release(stream);
  ASSERT_EQ(api().stream_synchronize(stream), kOk);
  EXPECT_EQ(host[512 + 99], std::byte{3});
  EXPECT_EQ(host[512 + 100], std::byte{0});
  EXPECT_TRUE(sim->violations().empty());
}

TEST_F(CudaSimTest, OtherOrdersComeWithOtherSeeds) {
  // Two streams race for one byte: over a few seeds, both win.
  std::set<std::byte> winners;
  for (std::uint64_t seed = 1; seed <= 64 && winners.size() < 2; ++seed) {
    TearDown();
    sim.reset();
    start({.seed = seed, .most_delay_us = 300});
    auto* const at = reinterpret_cast<std::byte*>(device);
    CudaStream const other = sim->make_engine_stream();
    sim->compute(engine, [at] { std::atomic_ref{*at}.store(std::byte{1}); });
    sim->compute(other, [at] { std::atomic_ref{*at}.store(std::byte{2}); });
    sim->settle();
    winners.insert(device_byte());
  }
  EXPECT_EQ(winners.size(), 2U);
}

TEST_F(CudaSimTest, WhatIsNotGivenBackIsCounted) {
  start();
  // A context, two streams, an event, pinned and device memory.
  EXPECT_EQ(sim->alive(), 6U);
  ASSERT_EQ(api().event_destroy(event), kOk);
  ASSERT_EQ(api().stream_destroy(stream), kOk);
  ASSERT_EQ(api().stream_destroy(engine), kOk);
  ASSERT_EQ(api().host_free(host), kOk);
  ASSERT_EQ(api().mem_free(device), kOk);
  ASSERT_EQ(api().primary_context_release(0), kOk);
  EXPECT_EQ(sim->alive(), 0U);
  EXPECT_EQ(api().event_destroy(event), CudaStatus::kInvalidHandle);
}

}  // namespace
}  // namespace lmcache::test
