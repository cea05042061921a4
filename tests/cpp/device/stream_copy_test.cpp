// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/stream_copy.hpp>

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "copy_scene.hpp"

namespace lmcache::test {
namespace {

using Copy = void (*)(std::byte*, std::byte const*, std::size_t, std::byte const*) noexcept;

// Random sizes and alignments on both sides; the bytes around the target must stay.
void expect_exact(Copy copy, std::size_t largest) {
  std::mt19937_64 random{largest};
  Bytes const source = random_bytes(largest + 256, random);
  for (int round = 0; round < 300; ++round) {
    std::size_t const bytes = random() % (largest + 1);
    std::size_t const from = random() % 128;
    std::size_t const to = 64 + random() % 64;
    Bytes target(largest + 256, std::byte{0x5a});
    Bytes expected = target;
    std::copy_n(source.data() + from, bytes, expected.data() + to);
    // Reading goes on elsewhere, right behind, or nobody knows where.
    std::byte const* const next = round % 3 == 0   ? nullptr
                                  : round % 3 == 1 ? source.data() + from + bytes
                                                   : source.data();
    copy(target.data() + to, source.data() + from, bytes, next);
    copy_fence();
    ASSERT_EQ(target, expected) << bytes << " bytes from +" << from << " to +" << to;
  }
}

template <bool kIntel>
void copy_as(std::byte* to, std::byte const* from, std::size_t bytes,
             std::byte const* next_from) noexcept {
  detail::copy_avx2(to, from, bytes, next_from, kIntel);
}

TEST(StreamCopyTest, CopiesExactlyTheBytesAsked) {
  for (std::size_t const largest : {200U, 2000U, 9000U, 70000U}) expect_exact(copy_bytes, largest);
}

TEST(StreamCopyTest, Avx2CopiesExactlyTheBytesAsked) {
  if (!detail::has_avx2()) GTEST_SKIP() << "this processor has no AVX2";
  for (std::size_t const largest : {200U, 2000U, 9000U, 70000U}) {
    expect_exact(copy_as<false>, largest);
    expect_exact(copy_as<true>, largest);
  }
}

TEST(StreamCopyTest, NothingToCopy) {
  copy_bytes(nullptr, nullptr, 0);
  copy_fence();
}

TEST(StreamCopyTest, LookingUpPagesReadsNothing) {
  Bytes const some(20000);
  for (std::size_t const bytes : {0U, 1U, 4096U, 20000U}) look_up_pages(some.data(), bytes);
  look_up_pages(nullptr, 8192);
  look_up_pages(reinterpret_cast<std::byte const*>(0x7), std::size_t{1} << 40);
}

TEST(StreamCopyTest, KindFollowsTheProcessor) {
  if (!detail::has_avx2()) {
    EXPECT_EQ(stream_copy_kind(), StreamCopyKind::kMemcpy);
  }
  EXPECT_EQ(stream_copy_kind(), stream_copy_kind());
}

}  // namespace
}  // namespace lmcache::test
