// SPDX-License-Identifier: Apache-2.0
// parse_order() on any bytes: never more stamps than there are bytes for, and what was encoded is
// read as it was.
#include <vector>

#include <lmcache/base/checksum.hpp>
#include <lmcache/tier/disk/disk_format.hpp>

#include "fuzzing.hpp"

namespace {

using namespace lmcache;

// Puts the check of a page right, which lies `at` bytes into it.
void seal_page(std::uint8_t* page, std::size_t at) {
  std::uint32_t crc = 0;
  std::memcpy(page + at, &crc, sizeof crc);
  crc = crc32c(fuzz::bytes_of(page, kDiskPageBytes));
  std::memcpy(page + at, &crc, sizeof crc);
}

void check_input(std::span<std::byte const> input) {
  auto const order = parse_order(input);
  fuzz::require(order.last_use.size() * sizeof(std::uint64_t) <= input.size(),
                "a stamp has its bytes");
  auto const bytes = encode_order(order);
  auto const again = parse_order(bytes);
  fuzz::require(again.now == order.now && again.last_use == order.last_use &&
                    again.read_bytes_per_s == order.read_bytes_per_s &&
                    again.write_bytes_per_s == order.write_bytes_per_s,
                "an order is read as it was written");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  check_input(fuzz::bytes_of(data, size));
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned choice) {
  if (size < kDiskPageBytes || choice % 16 == 0) {
    UseOrder order{.now = choice, .last_use = {}};
    order.last_use.resize(choice % 1100, choice);
    auto const bytes = encode_order(order);
    if (bytes.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
    std::memcpy(data, bytes.data(), bytes.size());
    return bytes.size();
  }
  size = LLVMFuzzerMutate(data, size, max_size);
  if (choice % 2 == 0) return size;
  constexpr std::size_t kHeaderCrc = 12;
  for (std::size_t at = 0; at + kDiskPageBytes <= size; at += kDiskPageBytes) {
    seal_page(data + at, at == 0 ? kHeaderCrc : 0);
  }
  return size;
}
