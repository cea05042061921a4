// SPDX-License-Identifier: Apache-2.0
// parse_frame() on any bytes: what it accepts is what write_frame() writes.
#include <lmcache/tier/remote/remote_framing.hpp>

#include <array>
#include <cstring>

#include "fuzzing.hpp"

namespace {

using namespace lmcache;

void check_input(std::span<std::byte const> input) {
  for (auto const serde : {RemoteSerde::kMsgpack, RemoteSerde::kNaive}) {
    auto const own = frame_bytes(serde);
    // The claim of a length that fits is the interesting one.
    std::uint64_t const value_bytes = input.size() + (input.size() % 2 == 0 ? 0 : 1'000'000);
    auto const frame = parse_frame(serde, input, value_bytes);
    if (!frame) continue;
    fuzz::require(input.size() >= own, "a frame is never read beyond its end");
    fuzz::require(record_part(frame.value().record_bytes, 0).size_bytes == value_bytes - own,
                  "the length is that of the value");
    std::array<std::byte, kLongestFrameBytes> again;
    write_frame(serde, frame.value(), again);
    fuzz::require(std::memcmp(again.data(), input.data(), own) == 0, "it is what we write");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  check_input(fuzz::bytes_of(data, size));
  return 0;
}

// A frame that is right, of a value of this very length, with one byte that may be anything.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned choice) {
  using namespace lmcache;
  size = LLVMFuzzerMutate(data, size, max_size);
  if (choice % 2 == 0) return size;
  auto const serde = choice % 4 == 1 ? RemoteSerde::kMsgpack : RemoteSerde::kNaive;
  auto const own = frame_bytes(serde);
  if (max_size < own + 2) return size;
  if (size < own) size = own + size % 2;
  std::uint64_t const value_bytes = size + (size % 2 == 0 ? 0 : 1'000'000);
  write_frame(serde, {.geometry_hash = {}, .record_bytes = value_bytes - own, .checksum = choice},
              std::as_writable_bytes(std::span{data, size}));
  if (choice % 8 >= 4) data[choice / 8 % own] ^= static_cast<std::uint8_t>(1u << (choice % 7));
  return size;
}
