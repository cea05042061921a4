// SPDX-License-Identifier: Apache-2.0
#include <lmcache/index/chunk_record.hpp>

#include <algorithm>
#include <cstring>
#include <string>

#include <lmcache/base/checksum.hpp>

namespace lmcache {
namespace {

Error corrupted(std::string what) { return {ErrorCode::kCorrupted, std::move(what)}; }

}  // namespace

std::uint32_t header_crc(ChunkHeader const& header) noexcept {
  ChunkHeader copy = header;
  copy.header_crc = 0;
  return crc32c(std::as_bytes(std::span{&copy, 1}));
}

void seal_record(std::span<std::byte> record, std::uint64_t generation) noexcept {
  ChunkHeader header;
  std::memcpy(&header, record.data(), sizeof header);
  header.magic = kChunkMagic;
  header.format_version = kChunkFormatVersion;
  header.generation = generation;
  header.checksum = checksum64(record.subspan(sizeof header));
  header.header_crc = header_crc(header);
  std::memcpy(record.data(), &header, sizeof header);
}

ChunkHeader sealed_copy(std::span<std::byte const> record, std::uint64_t generation) noexcept {
  ChunkHeader header{};
  auto* const to = reinterpret_cast<std::byte*>(&header);
  auto const copy = [&](std::size_t begin, std::size_t end) {
    std::memcpy(to + begin, record.data() + begin, end - begin);
  };
  copy(0, offsetof(ChunkHeader, header_crc));
  copy(offsetof(ChunkHeader, key), offsetof(ChunkHeader, checksum));
  copy(offsetof(ChunkHeader, valid_tokens), sizeof header);
  header.generation = generation;
  header.checksum = checksum64(record.subspan(sizeof header));
  header.header_crc = header_crc(header);
  return header;
}

Result<ChunkHeader> parse_header(std::span<std::byte const> record, std::uint64_t room_bytes) {
  if (record.size() < sizeof(ChunkHeader)) return corrupted("the record is shorter than a header");
  ChunkHeader header;
  std::memcpy(&header, record.data(), sizeof header);
  if (header.magic != kChunkMagic) return corrupted("no chunk record lies here");
  if (header.format_version != kChunkFormatVersion) {
    return corrupted("record format " + std::to_string(header.format_version) + ", known is " +
                     std::to_string(kChunkFormatVersion));
  }
  if (header.header_crc != header_crc(header)) return corrupted("the record's header is damaged");
  // Each by itself first, so that the sum cannot overflow.
  if (header.payload_bytes > room_bytes || header.valid_tokens > room_bytes ||
      record_bytes(header.payload_bytes, header.valid_tokens) > room_bytes) {
    return corrupted("the record claims to be longer than its place");
  }
  return header;
}

Result<ChunkHeader> check_header(std::span<std::byte const> header, std::uint64_t room_bytes,
                                 ExpectedRecord const& expected) {
  LMC_TRY_ASSIGN(auto const parsed, parse_header(header, room_bytes));
  if (parsed.key != expected.key) return corrupted("the record of another chunk lies here");
  if (parsed.generation != expected.generation) return corrupted("an older record lies here");
  return parsed;
}

Result<ChunkHeader> check_record(std::span<std::byte const> record,
                                 ExpectedRecord const& expected) {
  LMC_TRY_ASSIGN(auto const header, check_header(record, record.size(), expected));
  auto const whole = record_bytes(header.payload_bytes, header.valid_tokens);
  auto const body = record.subspan(sizeof header, whole - sizeof header);
  if (header.checksum != checksum64(body)) return corrupted("the record's checksum is wrong");
  return header;
}

}  // namespace lmcache
