// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <set>
#include <string_view>
#include <vector>

#include <lmcache/base/checksum.hpp>

namespace lmcache {
namespace {

std::vector<std::byte> pattern(std::size_t size) {
  std::vector<std::byte> out(size);
  for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<std::byte>((i * 131 + 7) & 0xFF);
  return out;
}

std::span<std::byte const> as_bytes(std::string_view text) {
  return {reinterpret_cast<std::byte const*>(text.data()), text.size()};
}

// One bit at a time, straight from the definition of the polynomial: register in, register out.
std::uint32_t bitwise(std::uint32_t crc, std::span<std::byte const> bytes) {
  for (std::byte const byte : bytes) {
    crc ^= std::to_integer<std::uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78U : 0U);
  }
  return crc;
}

// checksum64 as its header defines it.
std::uint64_t reference64(std::span<std::byte const> bytes) {
  std::uint32_t crc[3] = {0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF};
  std::size_t const words = bytes.size() / 8;
  for (std::size_t i = 0; i < words; ++i) {
    crc[i % 3] = bitwise(crc[i % 3], bytes.subspan(8 * i, 8));
  }
  if (bytes.size() % 8 != 0) {
    std::byte padded[8] = {};
    std::memcpy(padded, bytes.data() + 8 * words, bytes.size() % 8);
    crc[0] = bitwise(crc[0], padded);
  }
  constexpr std::uint64_t kK1 = 0x9E3779B185EBCA87;
  std::uint64_t h = (crc[0] | std::uint64_t{crc[1]} << 32) * kK1 + crc[2] * 0xC2B2AE3D27D4EB4F;
  h ^= bytes.size() * 0x165667B19E3779F9;
  h ^= h >> 32;
  h *= kK1;
  return h ^ (h >> 29);
}

TEST(Checksum, Crc32cVectors) {
  EXPECT_EQ(crc32c({}), 0U);
  EXPECT_EQ(crc32c(as_bytes("123456789")), 0xE3069283U);
  std::vector<std::byte> const zeros(32);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(zeros), 0x8A9136AAU);
  std::vector<std::byte> const ones(32, std::byte{0xFF});
  EXPECT_EQ(crc32c(ones), 0x62A8AB43U);
}

TEST(Checksum, Crc32cContinues) {
  auto const bytes = pattern(100);
  auto const all = std::span<std::byte const>{bytes};
  for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
    EXPECT_EQ(crc32c(all.subspan(cut), crc32c(all.first(cut))), crc32c(bytes));
  }
}

TEST(Checksum, Vectors64) {
  // Of bytes (i * 131 + 7) mod 256; these values lie on disks, so they never change.
  EXPECT_EQ(checksum64({}), 0xAB60B3E428D8550DU);
  EXPECT_EQ(checksum64(pattern(1)), 0xFFADF449351B98DDU);
  EXPECT_EQ(checksum64(pattern(24)), 0x29CE154499F52735U);
  EXPECT_EQ(checksum64(pattern(1000)), 0x467F2554A4FCD8F4U);
}

TEST(Checksum, AgreesWithItsDefinitionAtEveryLengthAndAlignment) {
  auto const bytes = pattern(400);
  auto const all = std::span<std::byte const>{bytes};
  for (std::size_t offset = 0; offset < 9; ++offset) {
    for (std::size_t size = 0; size + offset <= 200; ++size) {
      auto const part = all.subspan(offset, size);
      EXPECT_EQ(checksum64(part), reference64(part)) << offset << " " << size;
      EXPECT_EQ(detail::checksum64_table(part), reference64(part)) << offset << " " << size;
      EXPECT_EQ(detail::crc32c_table(part, 0), ~bitwise(0xFFFFFFFF, part));
    }
  }
}

TEST(Checksum, InstructionAndTablesAgree) {
  if (!detail::has_crc32c_instruction()) GTEST_SKIP() << "this CPU has no SSE4.2";
  std::mt19937_64 random{1};
  // From 49,152 bytes on, two blocks of 24 KiB are summed at once.
  for (std::size_t const size : {23UL, 24UL, 4096UL, 49'128UL, 49'151UL, 49'152UL, 49'153UL,
                                 73'728UL, 98'304UL, 100'003UL, 1'000'003UL}) {
    std::vector<std::byte> bytes(size);
    for (auto& byte : bytes) byte = static_cast<std::byte>(random());
    EXPECT_EQ(detail::checksum64_sse42(bytes), detail::checksum64_table(bytes));
    EXPECT_EQ(detail::crc32c_sse42(bytes, 5), detail::crc32c_table(bytes, 5));
  }
}

TEST(Checksum, EveryFlippedBitAndEveryLengthShows) {
  auto bytes = pattern(61);
  std::set<std::uint64_t> seen{checksum64(bytes)};
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    EXPECT_TRUE(seen.insert(checksum64(bytes)).second) << bit;
    bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
  }
  std::vector<std::byte> const zeros(64);
  for (std::size_t size = 0; size <= zeros.size(); ++size) {
    EXPECT_TRUE(seen.insert(checksum64(std::span{zeros}.first(size))).second) << size;
  }
}

TEST(Checksum, SwappedWordsShow) {
  auto const bytes = pattern(96);
  std::set<std::uint64_t> seen{checksum64(bytes)};
  for (std::size_t a = 0; a < 12; ++a) {
    for (std::size_t b = a + 1; b < 12; ++b) {
      auto swapped = bytes;
      std::swap_ranges(swapped.begin() + static_cast<std::ptrdiff_t>(8 * a),
                       swapped.begin() + static_cast<std::ptrdiff_t>(8 * a + 8),
                       swapped.begin() + static_cast<std::ptrdiff_t>(8 * b));
      EXPECT_TRUE(seen.insert(checksum64(swapped)).second) << a << " " << b;
    }
  }
}

TEST(Checksum64, OfPiecesIsThatOfTheWhole) {
  auto const bytes = pattern(250'000);
  for (std::size_t size = 0; size <= bytes.size();
       size += size < 200 ? 1 : (size < 5000 ? 137 : 24'513)) {
    std::span const whole{bytes.data(), size};
    for (std::size_t const piece : {24u, 48u, 240u, 4800u, 49'152u, 122'880u}) {
      Checksum64 sum;
      for (auto left = whole; !left.empty();) {
        auto const now = left.first(std::min(piece, left.size()));
        sum.add(now);
        left = left.subspan(now.size());
      }
      ASSERT_EQ(sum.value(), checksum64(whole)) << size << " bytes in pieces of " << piece;
    }
  }
}

}  // namespace
}  // namespace lmcache
