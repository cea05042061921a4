// SPDX-License-Identifier: Apache-2.0
// What tells one process from another that is given the same pid later.
#pragma once

#include <cstdint>
#include <optional>

namespace lmcache {

// Start time in clock ticks since boot, or nothing when there is no such process or it is a zombie.
[[nodiscard]] std::optional<std::uint64_t> running_since(std::int32_t pid) noexcept;

// Inode of the pid namespace of the calling process; 0 when /proc does not say.
[[nodiscard]] std::uint64_t own_pid_namespace() noexcept;

}  // namespace lmcache
