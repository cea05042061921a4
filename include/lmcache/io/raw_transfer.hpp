// SPDX-License-Identifier: Apache-2.0
// What a device does without us: chunks of a file moved by the engine of I/O alone. What the disk
// tier is held against.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include <lmcache/base/result.hpp>
#include <lmcache/io/io_engine.hpp>

namespace lmcache {

struct RawTransfer {
  std::string path;  // made and allocated when it is not there; stays
  IoOp op = IoOp::kRead;
  std::uint64_t chunk_bytes = 0;           // a multiple of 4 KiB
  std::span<std::uint32_t const> order{};  // which chunk of the file goes to which of the memory
  std::byte* data = nullptr;               // aligned to 4 KiB; order.size() chunks
  IoOptions io{};
};

// Seconds from the first request to the last answer. Blocks. Errors: kIo, kOutOfMemory,
// kUnavailable.
[[nodiscard]] Result<double> raw_transfer(RawTransfer const& transfer);

}  // namespace lmcache
