// SPDX-License-Identifier: Apache-2.0
// check_record() on any bytes: it never reads past them, and what it accepts is sealed again to the
// same bytes.
#include <algorithm>
#include <vector>

#include <lmcache/index/chunk_record.hpp>

#include "fuzzing.hpp"

namespace {

using namespace lmcache;

void check_input(std::span<std::byte const> input) {
  // A copy of just that size: a read past it is seen.
  std::vector<std::byte> slot(input.begin(), input.end());
  auto const header = parse_header(slot, slot.size());
  if (!header) return;
  auto const whole = record_bytes(header.value().payload_bytes, header.value().valid_tokens);
  fuzz::require(whole <= slot.size(), "an accepted record fits its place");
  ExpectedRecord const expected{.key = header.value().key, .generation = header.value().generation};
  bool const sound{check_record(slot, expected)};
  auto sealed = slot;
  seal_record(std::span{sealed}.first(whole), expected.generation);
  fuzz::require(check_record(sealed, expected).has_value(), "a sealed record is accepted");
  fuzz::require(!sound || sealed == slot, "a sound record is sealed already");
  auto other = expected;
  other.key.bytes[0] ^= 1;
  fuzz::require(!check_record(sealed, other), "another key is refused");
  other = expected;
  ++other.generation;
  fuzz::require(!check_record(sealed, other), "another generation is refused");
  if (whole > sizeof(ChunkHeader)) {
    sealed[whole - 1] ^= std::byte{1};
    fuzz::require(!check_record(sealed, expected), "a flipped bit is refused");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  check_input(fuzz::bytes_of(data, size));
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned choice) {
  return fuzz::mutate_sealed<ChunkHeader>(data, size, max_size, choice, [&](ChunkHeader& header) {
    header.magic = kChunkMagic;
    header.format_version = kChunkFormatVersion;
    if (choice % 4 == 1) {  // lengths that can be
      header.payload_bytes %= 1024;
      header.valid_tokens %= 64;
    }
    header.header_crc = header_crc(header);
  });
}
