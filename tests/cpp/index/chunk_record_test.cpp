// SPDX-License-Identifier: Apache-2.0
#include <lmcache/index/chunk_record.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace lmcache {
namespace {

constexpr std::uint64_t kPayloadBytes = 1001;  // padded to 1004
constexpr std::uint32_t kTokens = 7;
constexpr std::uint64_t kGeneration = 12;

ChunkKey key_of(std::uint8_t first) { return {{first}}; }

// A sealed record, and some room behind it.
std::vector<std::byte> sealed_record() {
  std::vector<std::byte> slot(2048);
  std::mt19937 random{1};
  for (auto& byte : slot) byte = static_cast<std::byte>(random());
  ChunkHeader header{};
  header.key = key_of(1);
  header.parent = key_of(2);
  header.payload_bytes = kPayloadBytes;
  header.valid_tokens = kTokens;
  header.lane = 3;
  std::memcpy(slot.data(), &header, sizeof header);
  seal_record(std::span{slot}.first(record_bytes(kPayloadBytes, kTokens)), kGeneration);
  return slot;
}

std::string refusal(std::span<std::byte const> slot, ExpectedRecord const& expected) {
  auto const header = check_record(slot, expected);
  if (header) return {};
  EXPECT_EQ(header.error().code(), ErrorCode::kCorrupted);
  return header.error().message();
}

TEST(ChunkRecord, IsAHeaderThePaddedPayloadAndTheTokens) {
  EXPECT_EQ(record_bytes(0, 0), 256u);
  EXPECT_EQ(record_bytes(1, 0), 260u);
  EXPECT_EQ(record_bytes(4, 0), 260u);
  EXPECT_EQ(record_bytes(kPayloadBytes, kTokens), 256u + 1004 + 28);
}

TEST(ChunkRecord, IsReadAsItWasSealed) {
  auto const slot = sealed_record();
  auto const header = check_record(slot, {.key = key_of(1), .generation = kGeneration});
  ASSERT_TRUE(header);
  EXPECT_EQ(header.value().parent, key_of(2));
  EXPECT_EQ(header.value().payload_bytes, kPayloadBytes);
  EXPECT_EQ(header.value().valid_tokens, kTokens);
  EXPECT_EQ(header.value().lane, 3);
  EXPECT_EQ(peek_header(slot).generation, kGeneration);
}

TEST(ChunkRecord, OfAnotherKeyOrGenerationIsRefused) {
  auto const slot = sealed_record();
  EXPECT_NE(refusal(slot, {.key = key_of(9), .generation = kGeneration}).find("another chunk"),
            std::string::npos);
  EXPECT_NE(refusal(slot, {.key = key_of(1), .generation = kGeneration - 1}).find("older"),
            std::string::npos);
}

TEST(ChunkRecord, WithAnyOneBitWrongIsRefused) {
  auto slot = sealed_record();
  ExpectedRecord const expected{.key = key_of(1), .generation = kGeneration};
  auto const whole = record_bytes(kPayloadBytes, kTokens);
  for (std::uint64_t bit = 0; bit < 8 * whole; ++bit) {
    auto const mask = static_cast<std::byte>(1 << bit % 8);
    slot[bit / 8] ^= mask;
    ASSERT_FALSE(check_record(slot, expected)) << "bit " << bit;
    slot[bit / 8] ^= mask;
  }
  EXPECT_TRUE(check_record(slot, expected));
  slot[whole] ^= std::byte{1};  // behind it
  EXPECT_TRUE(check_record(slot, expected));
}

TEST(ChunkRecord, CutAnywhereIsRefused) {
  auto const slot = sealed_record();
  ExpectedRecord const expected{.key = key_of(1), .generation = kGeneration};
  auto const whole = record_bytes(kPayloadBytes, kTokens);
  for (std::uint64_t size = 0; size < whole; ++size) {
    ASSERT_FALSE(check_record(std::span{slot}.first(size), expected)) << size;
  }
  EXPECT_TRUE(check_record(std::span{slot}.first(whole), expected));
}

// Lengths whose sum would overflow, with a check that is right.
TEST(ChunkRecord, LengthsThatCannotBeAreRefused) {
  for (std::uint64_t const payload :
       {~std::uint64_t{0}, ~std::uint64_t{0} - 255, std::uint64_t{1} << 63, std::uint64_t{2048}}) {
    auto slot = sealed_record();
    auto header = peek_header(slot);
    header.payload_bytes = payload;
    header.header_crc = header_crc(header);
    std::memcpy(slot.data(), &header, sizeof header);
    auto const parsed = parse_header(slot, slot.size());
    ASSERT_FALSE(parsed) << payload;
    EXPECT_NE(parsed.error().message().find("longer than its place"), std::string::npos);
  }
}

TEST(ChunkRecord, NamesWhatIsWrongWithItsHeader) {
  auto slot = sealed_record();
  auto const good = peek_header(slot);
  auto const message = [&](ChunkHeader header) {
    std::memcpy(slot.data(), &header, sizeof header);
    return parse_header(slot, slot.size()).error().message();
  };
  auto other = good;
  other.magic = 0;
  EXPECT_NE(message(other).find("no chunk record"), std::string::npos);
  other = good;
  other.format_version = 77;
  EXPECT_NE(message(other).find("format 77"), std::string::npos);
  other = good;
  other.lane ^= 1;
  EXPECT_NE(message(other).find("header is damaged"), std::string::npos);
}

}  // namespace
}  // namespace lmcache
