// SPDX-License-Identifier: Apache-2.0
#include <lmcache/io/raw_transfer.hpp>

#include <cstring>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "support/must.hpp"
#include "support/temp_directory.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint64_t kChunkBytes = 64u << 10;

struct Free {
  void operator()(std::byte* memory) const noexcept { std::free(memory); }
};
using Memory = std::unique_ptr<std::byte, Free>;

Memory pages(std::uint64_t size_bytes) {
  Memory out{static_cast<std::byte*>(std::aligned_alloc(4096, size_bytes))};
  std::memset(out.get(), 0, size_bytes);
  return out;
}

class RawTransferBy : public testing::TestWithParam<IoKind> {};

TEST_P(RawTransferBy, MovesEachChunkToItsPlace) {
  if (GetParam() == IoKind::kUring && !uring_refusal().empty()) GTEST_SKIP() << uring_refusal();
  TempDirectory const folder;
  std::vector<std::uint32_t> const order{3, 0, 2, 1};
  auto const out = pages(order.size() * kChunkBytes);
  auto const in = pages(order.size() * kChunkBytes);
  for (std::size_t i = 0; i < order.size(); ++i) {
    std::memset(out.get() + i * kChunkBytes, static_cast<int>(i + 1), kChunkBytes);
  }
  RawTransfer transfer{.path = folder / "raw",
                       .op = IoOp::kWrite,
                       .chunk_bytes = kChunkBytes,
                       .order = order,
                       .data = out.get(),
                       .io = {.kind = GetParam()}};
  EXPECT_GT(must(raw_transfer(transfer)), 0.0);
  std::vector<std::uint32_t> const straight{0, 1, 2, 3};
  transfer.op = IoOp::kRead;
  transfer.order = straight;
  transfer.data = in.get();
  EXPECT_GT(must(raw_transfer(transfer)), 0.0);
  for (std::size_t i = 0; i < order.size(); ++i) {
    EXPECT_EQ(
        std::memcmp(in.get() + order[i] * kChunkBytes, out.get() + i * kChunkBytes, kChunkBytes), 0)
        << i;
  }
}

TEST_P(RawTransferBy, TellsWhatFailed) {
  auto const memory = pages(kChunkBytes);
  std::vector<std::uint32_t> const order{0};
  auto const result = raw_transfer({.path = "/proc/no/such/file",
                                    .chunk_bytes = kChunkBytes,
                                    .order = order,
                                    .data = memory.get(),
                                    .io = {.kind = GetParam()}});
  ASSERT_FALSE(result.has_value());
  EXPECT_NE(result.error().message().find("/proc/no/such/file"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Engines, RawTransferBy, testing::Values(IoKind::kUring, IoKind::kThreads),
                         [](auto const& kind) {
                           return kind.param == IoKind::kUring ? "Uring" : "Threads";
                         });

}  // namespace
}  // namespace lmcache::test
