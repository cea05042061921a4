// SPDX-License-Identifier: Apache-2.0
// What tells one process from another that is given the same pid later.
#pragma once

#include <cstdint>
#include <optional>

#include <lmcache/base/result.hpp>

namespace lmcache {

// Start time in clock ticks since boot; nothing when there is no such process or it is a zombie (a
// process whose main thread has ended is none as long as others run). Errors: kUnavailable when
// /proc cannot be read, say for want of file descriptors: then nothing is known about the process.
[[nodiscard]] Result<std::optional<std::uint64_t>> running_since(std::int32_t pid);

// Inode of the pid namespace of the calling process; 0 when /proc is not there or shows the pids of
// another namespace.
[[nodiscard]] std::uint64_t own_pid_namespace() noexcept;

}  // namespace lmcache
