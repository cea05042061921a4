// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/remote/remote_framing.hpp>

#include <algorithm>
#include <cstring>
#include <string>

#include <lmcache/base/bytes.hpp>
#include <lmcache/base/checksum.hpp>

namespace lmcache {
namespace {

constexpr std::uint64_t kNaiveMagic = 0x6b6e'7568'436d'4c52;  // "RLmChunk"

struct NaiveFrame {
  std::uint64_t magic;
  std::uint32_t format_version;
  std::uint32_t crc;  // CRC-32C of the frame with 0 here
  std::uint64_t record_bytes;
  std::uint64_t checksum;
  std::array<std::uint8_t, 16> geometry;
  std::uint8_t codec;
  std::uint8_t reserved[15];
};
static_assert(sizeof(NaiveFrame) == 64);

std::uint32_t naive_crc(NaiveFrame frame) noexcept {
  frame.crc = 0;
  return crc32c(std::as_bytes(std::span{&frame, 1}));
}

// Everything between the numbers never changes, so a map is written and read by its places.
// Specification: github.com/msgpack/msgpack, spec.md; numbers are big-endian.
constexpr std::string_view kMapHead = "\x86\xa7lmcache\xce";  // map of 6; then u32
constexpr std::string_view kCodec =
    "\xa5"
    "codec\xcc";  // then u8
constexpr std::string_view kGeometry =
    "\xa8"
    "geometry\xc4\x20";
constexpr std::string_view kLength =
    "\xa6"
    "length\xcf";  // then u64
constexpr std::string_view kChecksum =
    "\xa8"
    "checksum\xcf";
constexpr std::string_view kData =
    "\xa4"
    "data\xc6";  // then u32, then the record
constexpr std::size_t kMapBytes = kMapHead.size() + 4 + kCodec.size() + 1 + kGeometry.size() + 32 +
                                  kLength.size() + 8 + kChecksum.size() + 8 + kData.size() + 4;
static_assert(kMapBytes <= kLongestFrameBytes);

class Writer {
 public:
  explicit Writer(std::span<std::byte> out) noexcept : at_{out.data()} {}
  void text(std::string_view text) noexcept { raw(std::as_bytes(std::span{text})); }
  void raw(std::span<std::byte const> bytes) noexcept {
    std::memcpy(at_, bytes.data(), bytes.size());
    at_ += bytes.size();
  }
  void number(std::uint64_t value, int bytes) noexcept {
    for (int i = bytes - 1; i >= 0; --i) *at_++ = static_cast<std::byte>(value >> (8 * i));
  }

 private:
  std::byte* at_;
};

class Reader {
 public:
  explicit Reader(std::span<std::byte const> in) noexcept : in_{in} {}
  bool text(std::string_view expected) noexcept {
    auto const got = take(expected.size());
    return std::memcmp(got.data(), expected.data(), expected.size()) == 0;
  }
  std::span<std::byte const> take(std::size_t bytes) noexcept {
    auto const out = in_.first(bytes);
    in_ = in_.subspan(bytes);
    return out;
  }
  std::uint64_t number(int bytes) noexcept {
    std::uint64_t out = 0;
    for (auto const byte : take(static_cast<std::size_t>(bytes))) {
      out = out << 8 | static_cast<std::uint64_t>(byte);
    }
    return out;
  }

 private:
  std::span<std::byte const> in_;
};

Error corrupted(std::string const& what) {
  return Error{ErrorCode::kCorrupted, "the value in the remote store " + what};
}

void write_map(RemoteFrame const& frame, std::span<std::byte> out) noexcept {
  Writer to{out};
  to.text(kMapHead);
  to.number(kRemoteFormatVersion, 4);
  to.text(kCodec);
  to.number(frame.codec, 1);
  to.text(kGeometry);
  to.raw(std::as_bytes(std::span{frame.geometry_hash.bytes}));
  to.text(kLength);
  to.number(frame.record_bytes, 8);
  to.text(kChecksum);
  to.number(frame.checksum, 8);
  to.text(kData);
  to.number(record_part(frame.record_bytes, 0).size_bytes, 4);
}

Result<RemoteFrame> parse_map(std::span<std::byte const> head) {
  Reader from{head};
  RemoteFrame frame;
  if (!from.text(kMapHead)) return corrupted("is no chunk in the form msgpack");
  if (auto const version = from.number(4); version != kRemoteFormatVersion) {
    return corrupted("has format version " + std::to_string(version) + ", not 1");
  }
  bool good = from.text(kCodec);
  frame.codec = static_cast<std::uint8_t>(from.number(1));
  good = from.text(kGeometry) && good;
  std::memcpy(frame.geometry_hash.bytes.data(), from.take(32).data(), 32);
  good = from.text(kLength) && good;
  frame.record_bytes = from.number(8);
  good = from.text(kChecksum) && good;
  frame.checksum = from.number(8);
  good = from.text(kData) && good;
  if (!good || from.number(4) != record_part(frame.record_bytes, 0).size_bytes) {
    return corrupted("has a damaged map");
  }
  return frame;
}

void write_naive(RemoteFrame const& frame, std::span<std::byte> out) noexcept {
  NaiveFrame naive{};
  naive.magic = kNaiveMagic;
  naive.format_version = kRemoteFormatVersion;
  naive.record_bytes = frame.record_bytes;
  naive.checksum = frame.checksum;
  naive.codec = frame.codec;
  std::memcpy(naive.geometry.data(), frame.geometry_hash.bytes.data(), naive.geometry.size());
  naive.crc = naive_crc(naive);
  std::memcpy(out.data(), &naive, sizeof naive);
}

Result<RemoteFrame> parse_naive(std::span<std::byte const> head) {
  NaiveFrame naive;
  std::memcpy(&naive, head.data(), sizeof naive);
  if (naive.magic != kNaiveMagic) return corrupted("is no chunk in the form naive");
  bool const reserved =
      std::ranges::any_of(naive.reserved, [](std::uint8_t byte) { return byte != 0; });
  if (naive.crc != naive_crc(naive) || reserved) return corrupted("has a damaged header");
  if (naive.format_version != kRemoteFormatVersion) {
    return corrupted("has format version " + std::to_string(naive.format_version) + ", not 1");
  }
  RemoteFrame frame{.geometry_hash = {},
                    .record_bytes = naive.record_bytes,
                    .checksum = naive.checksum,
                    .codec = naive.codec};
  std::memcpy(frame.geometry_hash.bytes.data(), naive.geometry.data(), naive.geometry.size());
  return frame;
}

}  // namespace

Result<RemoteSerde> parse_remote_serde(std::string_view text) {
  if (text == "msgpack") return RemoteSerde::kMsgpack;
  if (text == "naive") return RemoteSerde::kNaive;
  return Error{ErrorCode::kInvalidArgument,
               "remote_serde = " + std::string{text} + ": use msgpack or naive"};
}

std::uint32_t part_count(std::uint64_t record_bytes) noexcept {
  constexpr std::uint64_t kFirst = sizeof(ChunkHeader) + kRemotePartBytes;
  if (record_bytes <= kFirst) return 1;
  return static_cast<std::uint32_t>(1 + (record_bytes - kFirst + kRemotePartBytes - 1) /
                                            kRemotePartBytes);
}

RecordPart record_part(std::uint64_t record_bytes, std::uint32_t part) noexcept {
  constexpr std::uint64_t kHeader = sizeof(ChunkHeader);
  std::uint64_t const first = part == 0 ? 0 : kHeader + part * kRemotePartBytes;
  std::uint64_t const end = std::min(record_bytes, kHeader + (part + 1) * kRemotePartBytes);
  return {.first_byte = first, .size_bytes = end > first ? end - first : 0};
}

std::size_t frame_bytes(RemoteSerde serde) noexcept {
  return serde == RemoteSerde::kMsgpack ? kMapBytes : sizeof(NaiveFrame);
}

void write_frame(RemoteSerde serde, RemoteFrame const& frame, std::span<std::byte> out) noexcept {
  serde == RemoteSerde::kMsgpack ? write_map(frame, out) : write_naive(frame, out);
}

Result<RemoteFrame> parse_frame(RemoteSerde serde, std::span<std::byte const> head,
                                std::uint64_t value_bytes) {
  auto const own = frame_bytes(serde);
  if (head.size() < own || (value_bytes != 0 && value_bytes < own)) {
    return corrupted("is too short");
  }
  LMC_TRY_ASSIGN(auto const frame,
                 serde == RemoteSerde::kMsgpack ? parse_map(head) : parse_naive(head));
  auto const expected = record_part(frame.record_bytes, 0).size_bytes;
  if (value_bytes != 0 && expected != value_bytes - own) {
    return corrupted("has " + std::to_string(value_bytes - own) + " bytes after its header, not " +
                     std::to_string(expected));
  }
  if (frame.codec != 0) return corrupted("has an unknown codec");
  return frame;
}

}  // namespace lmcache
