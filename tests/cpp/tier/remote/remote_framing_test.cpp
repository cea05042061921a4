// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/remote/remote_framing.hpp>

#include <array>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include <lmcache/base/checksum.hpp>

#include "support/remote_scene.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint64_t kRecordBytes = 70'001;

class RemoteFraming : public testing::TestWithParam<RemoteSerde> {
 protected:
  [[nodiscard]] static RemoteFrame usual() {
    RemoteFrame out{.geometry_hash = {},
                    .record_bytes = kRecordBytes,
                    .checksum = 0x8877'6655'4433'2211,
                    .codec = 0};
    for (std::size_t i = 0; i < 32; ++i) out.geometry_hash.bytes[i] = std::uint8_t(i + 1);
    return out;
  }
  [[nodiscard]] static RecordBytes written(RemoteFrame const& frame) {
    RecordBytes out(frame_bytes(GetParam()));
    write_frame(GetParam(), frame, out);
    return out;
  }
  [[nodiscard]] static Result<RemoteFrame> parse(std::span<std::byte const> head,
                                                 std::uint64_t record = kRecordBytes) {
    return parse_frame(GetParam(), head,
                       frame_bytes(GetParam()) + record_part(record, 0).size_bytes);
  }
  // As much of a frame as this form keeps.
  [[nodiscard]] static RemoteFrame kept(RemoteFrame frame) {
    if (GetParam() == RemoteSerde::kNaive) {
      std::fill(frame.geometry_hash.bytes.begin() + 16, frame.geometry_hash.bytes.end(), 0);
    }
    return frame;
  }
};

TEST_P(RemoteFraming, ComesBackAsItWas) {
  for (std::uint64_t const size : {std::uint64_t{1}, kRecordBytes, std::uint64_t{0xFFFF'FFFF}}) {
    auto frame = usual();
    frame.record_bytes = size;
    EXPECT_EQ(must(parse(written(frame), size)), kept(frame));
  }
}

TEST_P(RemoteFraming, WritesNothingBehindItself) {
  RecordBytes out(kLongestFrameBytes + 8, std::byte{0xEE});
  write_frame(GetParam(), usual(), out);
  ASSERT_LE(frame_bytes(GetParam()), kLongestFrameBytes);
  for (std::size_t i = frame_bytes(GetParam()); i < out.size(); ++i) {
    EXPECT_EQ(out[i], std::byte{0xEE}) << i;
  }
}

// What parse_frame cannot see (a map has no check of its own) is in the record as well.
TEST_P(RemoteFraming, AFlippedBitIsRefusedOrOneThatTheRecordRepeats) {
  auto const whole = written(usual());
  std::size_t accepted = 0;
  for (std::size_t bit = 0; bit < 8 * whole.size(); ++bit) {
    auto head = whole;
    head[bit / 8] ^= std::byte(1 << bit % 8);
    auto const frame = parse(head);
    if (!frame) {
      EXPECT_EQ(frame.error().code(), ErrorCode::kCorrupted);
      continue;
    }
    ++accepted;
    auto seen = frame.value();
    EXPECT_NE(seen, kept(usual())) << "bit " << bit << " says nothing";
    seen.geometry_hash = usual().geometry_hash;
    seen.checksum = usual().checksum;
    EXPECT_EQ(seen, usual()) << "bit " << bit;
  }
  EXPECT_EQ(accepted, GetParam() == RemoteSerde::kNaive ? 0u : 8 * (32u + 8u));
}

TEST_P(RemoteFraming, LengthsMustBeThoseOfTheValue) {
  auto const whole = written(usual());
  for (std::uint64_t const other :
       {std::uint64_t{0}, std::uint64_t{1}, kRecordBytes - 1, kRecordBytes + 1,
        kRecordBytes + kRemotePartBytes, std::uint64_t{1} << 32}) {
    EXPECT_EQ(parse(whole, other).error().code(), ErrorCode::kCorrupted) << other;
  }
}

TEST_P(RemoteFraming, AShortHeadIsRefused) {
  auto const whole = written(usual());
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(parse(std::span{whole}.first(size))) << size;
    // 0 says that nobody knows how long the value is.
    EXPECT_EQ(static_cast<bool>(parse_frame(GetParam(), whole, size)), size == 0) << size;
  }
}

TEST_P(RemoteFraming, TheOtherFormIsRefused) {
  auto const other =
      GetParam() == RemoteSerde::kNaive ? RemoteSerde::kMsgpack : RemoteSerde::kNaive;
  RecordBytes head(kLongestFrameBytes);
  write_frame(other, usual(), head);
  EXPECT_EQ(parse(head).error().code(), ErrorCode::kCorrupted);
}

TEST_P(RemoteFraming, AnUnknownCodecIsRefused) {
  auto frame = usual();
  frame.codec = 1;
  auto const parsed = parse(written(frame));
  ASSERT_FALSE(parsed);
  EXPECT_NE(parsed.error().message().find("codec"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(BothForms, RemoteFraming,
                         testing::Values(RemoteSerde::kMsgpack, RemoteSerde::kNaive),
                         [](auto const& it) {
                           return it.param == RemoteSerde::kNaive ? "Naive" : "Msgpack";
                         });

TEST(RemoteFramingMap, IsOneThatAnyMsgpackLibraryReads) {
  using namespace std::string_view_literals;
  RemoteFrame const frame{.geometry_hash = {{"0123456789abcdef0123456789ABCDE"}},
                          .record_bytes = 0x0001'0203,
                          .checksum = 0x1122'3344'5566'7788,
                          .codec = 0};
  // Pieces, as "\xceabc" would be one long escape.
  std::string const expected = std::string{"\x86"sv} + std::string{"\xa7lmcache"sv} +
                               std::string{"\xce\x00\x00\x00\x01"sv} + "\xa5" + "codec" +
                               std::string{"\xcc\x00"sv} + "\xa8" + "geometry" + "\xc4\x20" +
                               std::string{"0123456789abcdef0123456789ABCDE\0"sv} + "\xa6" +
                               "length" + std::string{"\xcf\0\0\0\0\x00\x01\x02\x03"sv} + "\xa8" +
                               "checksum" + std::string{"\xcf\x11\x22\x33\x44\x55\x66\x77\x88"sv} +
                               "\xa4" + "data" + std::string{"\xc6\x00\x01\x02\x03"sv};
  std::string head(frame_bytes(RemoteSerde::kMsgpack), '\0');
  write_frame(RemoteSerde::kMsgpack, frame, std::as_writable_bytes(std::span{head}));
  EXPECT_EQ(head, expected);
}

TEST(RemoteFramingParts, CoverARecordOnceAndInOrder) {
  constexpr std::uint64_t kFirst = sizeof(ChunkHeader) + kRemotePartBytes;
  for (std::uint64_t const size :
       {std::uint64_t{257}, kFirst - 1, kFirst, kFirst + 1, kFirst + kRemotePartBytes,
        kFirst + kRemotePartBytes + 1, 10 * kRemotePartBytes, std::uint64_t{1} << 40}) {
    std::uint64_t at = 0;
    for (std::uint32_t part = 0; part < part_count(size); ++part) {
      auto const [first, bytes] = record_part(size, part);
      ASSERT_EQ(first, at) << size;
      ASSERT_GT(bytes, 0u) << size;
      ASSERT_LE(bytes, kFirst) << size;
      at += bytes;
    }
    EXPECT_EQ(at, size);
    EXPECT_EQ(record_part(size, part_count(size)).size_bytes, 0u) << size;
  }
  EXPECT_EQ(part_count(kFirst), 1u);
  EXPECT_EQ(part_count(kFirst + 1), 2u);
}

TEST(RemoteFramingVersions, AnotherIsNamed) {
  RecordBytes map(frame_bytes(RemoteSerde::kMsgpack));
  write_frame(RemoteSerde::kMsgpack, {.geometry_hash = {}, .record_bytes = 5}, map);
  map[13] = std::byte{2};  // the last byte of a big-endian number
  auto const from_map = parse_frame(RemoteSerde::kMsgpack, map, map.size() + 5);
  ASSERT_FALSE(from_map);
  EXPECT_NE(from_map.error().message().find("version 2, not 1"), std::string::npos);

  RecordBytes naive(frame_bytes(RemoteSerde::kNaive));
  write_frame(RemoteSerde::kNaive, {.geometry_hash = {}, .record_bytes = 5}, naive);
  naive[8] = std::byte{3};
  std::memset(naive.data() + 12, 0, 4);
  auto const crc = crc32c(naive);
  std::memcpy(naive.data() + 12, &crc, sizeof crc);
  auto const from_naive = parse_frame(RemoteSerde::kNaive, naive, naive.size() + 5);
  ASSERT_FALSE(from_naive);
  EXPECT_NE(from_naive.error().message().find("version 3, not 1"), std::string::npos);
}

TEST(RemoteSerdeNames, AreTheTwo) {
  EXPECT_EQ(must(parse_remote_serde("msgpack")), RemoteSerde::kMsgpack);
  EXPECT_EQ(must(parse_remote_serde("naive")), RemoteSerde::kNaive);
  for (std::string_view const wrong : {"", "Naive", "pickle", "msgpack "}) {
    auto const parsed = parse_remote_serde(wrong);
    ASSERT_FALSE(parsed) << wrong;
    EXPECT_EQ(parsed.error().code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(parsed.error().message().find("msgpack or naive"), std::string::npos);
  }
}

}  // namespace
}  // namespace lmcache::test
