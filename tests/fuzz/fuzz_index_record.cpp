// SPDX-License-Identifier: Apache-2.0
// parse_index_record() on any bytes: what it accepts can be there, in its own place only.
#include <lmcache/tier/disk/disk_format.hpp>

#include "fuzzing.hpp"

namespace {

using namespace lmcache;
constexpr std::uint32_t kNumber = 5;

void check_input(std::span<std::byte const> input) {
  std::uint64_t damaged = 0;
  auto const record = parse_index_record(input, kNumber, damaged);
  fuzz::require(damaged <= 1 && !(record && damaged != 0), "damage is counted once");
  if (!record) return;
  fuzz::require(record->slab < kMaxSlabs && record->slot_bytes != 0,
                "an accepted record names a slot");
  fuzz::require(record->offset % record->slot_bytes == 0,
                "a slot begins at a multiple of its size");
  fuzz::require(record->payload_bytes < record->slot_bytes, "a payload fits its slot");
  auto again = *record;
  seal(again, kNumber);
  fuzz::require(std::memcmp(&again, input.data(), sizeof again) == 0, "it is sealed already");
  fuzz::require(!parse_index_record(input, kNumber + 1, damaged), "another place is refused");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  check_input(fuzz::bytes_of(data, size));
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned choice) {
  return fuzz::mutate_sealed<IndexRecord>(data, size, max_size, choice, [&](IndexRecord& record) {
    if (choice % 4 == 1) {  // one that can be
      record.used = 1;
      record.slab %= kMaxSlabs;
      record.slot_bytes = (1 + record.slot_bytes % 64) * kDiskPageBytes;
      record.offset = record.offset % 1024 * record.slot_bytes;
      record.payload_bytes %= record.slot_bytes;
      record.valid_tokens %= 1024;
    }
    seal(record, kNumber);
  });
}
