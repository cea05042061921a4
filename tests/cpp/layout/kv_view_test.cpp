// SPDX-License-Identifier: Apache-2.0
#include <lmcache/layout/kv_view.hpp>

#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <string>

namespace lmcache {
namespace {

std::array<std::byte, 64> memory;

KvView example() {
  return {.planes = {{.base = memory.data(), .block_stride_bytes = 16, .page_bytes = 8},
                     {.base = memory.data() + 8, .block_stride_bytes = 16, .page_bytes = 8}},
          .num_blocks = 4,
          .block_tokens = 16};
}

void expect_refused(KvView const& view, std::string const& part) {
  auto const result = validate(view);
  ASSERT_FALSE(result) << part;
  EXPECT_EQ(result.error().code(), ErrorCode::kInvalidArgument);
  EXPECT_NE(result.error().message().find(part), std::string::npos) << result.error().message();
}

TEST(KvView, AcceptsInterleavedAndDensePlanes) {
  EXPECT_TRUE(validate(example()));
  KvView dense = example();
  dense.planes[0].block_stride_bytes = 8;
  EXPECT_TRUE(validate(dense));
}

TEST(KvView, StrideOfASingleBlockIsNotLookedAt) {
  KvView view = example();
  view.num_blocks = 1;
  for (std::int64_t const stride : {std::int64_t{0}, std::int64_t{-5}, std::int64_t{1}}) {
    view.planes[0].block_stride_bytes = stride;
    EXPECT_TRUE(validate(view)) << stride;
  }
}

TEST(KvView, Refuses) {
  KvView view = example();
  view.planes.clear();
  expect_refused(view, "no planes");
  view = example();
  view.num_blocks = 0;
  expect_refused(view, "num_blocks is 0");
  view = example();
  view.block_tokens = 0;
  expect_refused(view, "block_tokens is 0");
  view = example();
  view.planes[1].base = nullptr;
  expect_refused(view, "planes[1].base is null");
  view = example();
  view.planes[1].page_bytes = 0;
  expect_refused(view, "planes[1].page_bytes is 0");
  for (std::int64_t const stride : {7L, 0L, -16L}) {
    view = example();
    view.planes[1].block_stride_bytes = stride;
    expect_refused(view, "planes[1].block_stride_bytes is " + std::to_string(stride) +
                             ", allowed: at least page_bytes, 8");
  }
}

TEST(KvView, TakesDevicesFromZeroOn) {
  auto view = example();
  view.device = {.kind = KvDeviceKind::kCuda, .ordinal = 0};
  EXPECT_TRUE(validate(view));
  view.device.ordinal = -1;
  expect_refused(view, "device.ordinal is -1, allowed: at least 0");
}

TEST(KvView, RefusesWhatPassesTheEndOfTheAddressSpace) {
  KvView view = example();
  view.planes[0].block_stride_bytes = std::numeric_limits<std::int64_t>::max();
  expect_refused(view, "planes[0] reaches past the end");
  view.num_blocks = 1;
  view.planes[0].page_bytes = std::numeric_limits<std::uint64_t>::max();
  expect_refused(view, "planes[0] reaches past the end");
}

}  // namespace
}  // namespace lmcache
