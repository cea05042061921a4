// SPDX-License-Identifier: Apache-2.0
// Which engine does the file I/O: decided once, at the start.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <lmcache/base/log.hpp>
#include <lmcache/base/result.hpp>
#include <lmcache/io/async_file_io.hpp>

namespace lmcache {

enum class IoKind : std::uint8_t {
  kAuto,     // io_uring, or threads where it is refused
  kUring,    // io_uring, or an error
  kThreads,  // threads
};

// "auto", "io_uring" (or "uring"), "threads". kInvalidArgument otherwise.
[[nodiscard]] Result<IoKind> parse_io(std::string_view text);

struct IoOptions {
  IoKind kind = IoKind::kAuto;
  std::uint64_t depth_bytes = 32ULL << 20;  // in flight at most
  std::uint32_t threads = 8;                // of the kind kThreads
};

// Logs what kAuto fell back from, and why. kUnavailable: kUring is refused, or the system has no
// thread to give.
[[nodiscard]] Result<std::unique_ptr<AsyncFileIo>> make_io(IoOptions options, LogHook const& log);

// Why io_uring cannot be used here; empty if it can. Tries it.
[[nodiscard]] std::string uring_refusal();

}  // namespace lmcache
