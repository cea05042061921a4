// SPDX-License-Identifier: Apache-2.0
#include <lmcache/memory/pinned_cuda.hpp>

#include <gtest/gtest.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cuda_sim/cuda_sim.hpp"
#include "support/must.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint64_t kPiece = 64 * 1024;

struct PinnedMemoryTest : ::testing::Test {
  void start(CudaSimOptions options = {}) {
    sim = std::make_unique<CudaSim>(std::move(options));
    CudaDevice const device = 0;
    ASSERT_EQ(sim->api().primary_context_retain(&context, device), CudaStatus::kSuccess);
    pinned =
        must(PinnedMemory::create(sim->api(), context, [this](LogLevel, std::string_view text) {
          std::lock_guard const lock{mutex};
          lines.emplace_back(text);
        }));
    pinned->offer(memory, kPiece);
  }
  void ask_for(std::size_t piece) {
    (void)pinned->find(memory.data() + piece * kPiece + 5);
    pinned->settle();
  }

  std::vector<std::byte> memory = std::vector<std::byte>(3 * kPiece + 100);
  std::unique_ptr<CudaSim> sim;
  CudaContext context = nullptr;
  std::mutex mutex;
  std::vector<std::string> lines;
  std::unique_ptr<PinnedMemory> pinned;
};

TEST_F(PinnedMemoryTest, APieceIsPinnedOnceItIsAskedFor) {
  start();
  pinned->settle();
  EXPECT_EQ(sim->pinned_bytes(), 0U);
  EXPECT_FALSE(pinned->find(memory.data() + kPiece + 5));
  pinned->settle();
  auto const found = pinned->find(memory.data() + kPiece + 5);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->begin, memory.data() + kPiece);
  EXPECT_TRUE(found->holds(memory.data() + kPiece, kPiece));
  EXPECT_FALSE(found->holds(memory.data() + kPiece, kPiece + 1));
  EXPECT_FALSE(found->holds(memory.data() + kPiece - 1, 1));
  EXPECT_FALSE(found->holds(memory.data() + 2 * kPiece, 1));
  EXPECT_EQ(found->address(memory.data() + kPiece + 7), found->device + 7);
  EXPECT_EQ(pinned->pinned_bytes(), kPiece);
  EXPECT_EQ(sim->pinned_bytes(), kPiece);
  ask_for(1);
  EXPECT_EQ(sim->calls("cuMemHostRegister"), 1U);
}

TEST_F(PinnedMemoryTest, TheLastPieceIsShorterAndTheRestIsNotOurs) {
  start();
  ask_for(3);
  auto const last = pinned->find(memory.data() + 3 * kPiece + 99);
  ASSERT_TRUE(last);
  EXPECT_EQ(last->size_bytes, 100U);
  std::byte elsewhere{};
  EXPECT_FALSE(pinned->find(&elsewhere));
  EXPECT_FALSE(pinned->find(memory.data() + memory.size()));
  EXPECT_FALSE(pinned->find(nullptr));
}

TEST_F(PinnedMemoryTest, EverythingIsGivenBack) {
  start();
  for (std::size_t piece = 0; piece < 4; ++piece) ask_for(piece);
  EXPECT_EQ(sim->pinned_bytes(), memory.size());
  pinned.reset();
  EXPECT_EQ(sim->pinned_bytes(), 0U);
  EXPECT_TRUE(sim->violations().empty());
}

TEST_F(PinnedMemoryTest, ARefusalIsSaidOnceAndFinal) {
  start({.pinned_limit_bytes = 2 * kPiece});
  for (std::size_t piece = 0; piece < 4; ++piece) ask_for(piece);
  EXPECT_TRUE(pinned->refused());
  EXPECT_EQ(pinned->pinned_bytes(), 2 * kPiece);
  EXPECT_TRUE(pinned->find(memory.data()));
  EXPECT_FALSE(pinned->find(memory.data() + 2 * kPiece));
  EXPECT_EQ(sim->calls("cuMemHostRegister"), 3U);
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_NE(lines[0].find("buffers"), std::string::npos);
}

TEST_F(PinnedMemoryTest, WhatSomebodyElsePinnedIsUsedButNotGivenBack) {
  start();
  CudaContext current = nullptr;
  (void)sim->api().context_push(context);
  ASSERT_EQ(sim->api().host_register(memory.data(), kPiece, 3), CudaStatus::kSuccess);
  (void)sim->api().context_pop(&current);
  ask_for(0);
  EXPECT_TRUE(pinned->find(memory.data()));
  pinned->adopt({.begin = memory.data() + kPiece, .size_bytes = kPiece, .device = 42});
  EXPECT_EQ(pinned->find(memory.data() + kPiece + 1)->device, 42U);
  pinned.reset();
  EXPECT_EQ(sim->pinned_bytes(), kPiece);
}

TEST_F(PinnedMemoryTest, ARuntimeThatUnloadsIsNoTrouble) {
  start();
  ask_for(0);
  sim->unload();
  ask_for(1);
  EXPECT_TRUE(pinned->refused());
  pinned.reset();
  EXPECT_EQ(lines.size(), 1U);
}

TEST_F(PinnedMemoryTest, AnyCallMayFail) {
  for (std::uint64_t n = 1; n < 6; ++n) {
    pinned.reset();
    sim.reset();
    lines.clear();
    start();
    sim->fail_call(n, CudaStatus::kOutOfMemory);
    ask_for(0);
    EXPECT_EQ(pinned->find(memory.data()).has_value(), n > 3) << n;
    EXPECT_EQ(lines.size(), n > 3 ? 0U : 1U) << n;
  }
}

}  // namespace
}  // namespace lmcache::test
