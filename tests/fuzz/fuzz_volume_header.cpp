// SPDX-License-Identifier: Apache-2.0
// parse_volume_header() on any bytes: what it accepts is in range and is sealed to the same bytes.
#include <lmcache/tier/disk/disk_format.hpp>

#include "fuzzing.hpp"

namespace {

using namespace lmcache;

void check_input(std::span<std::byte const> input) {
  auto const header = parse_volume_header(input);
  if (!header) return;
  fuzz::require(input.size() >= sizeof(VolumeHeader), "a header is complete");
  fuzz::require(header.value().folder < kMaxFolders && header.value().folders <= kMaxFolders,
                "folders are in range");
  fuzz::require(header.value().host.back() == 0, "a text has an end");
  VolumeHeader again;
  std::memcpy(&again, input.data(), sizeof again);
  seal(again);
  fuzz::require(std::memcmp(&again, input.data(), sizeof again) == 0, "it is sealed already");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  check_input(fuzz::bytes_of(data, size));
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned choice) {
  return fuzz::mutate_sealed<VolumeHeader>(data, size, max_size, choice, [&](VolumeHeader& header) {
    if (choice % 4 == 1) header.folder %= kMaxFolders;
    if (choice % 4 == 1) header.folders %= kMaxFolders + 1;
    seal(header);
  });
}
