// SPDX-License-Identifier: Apache-2.0
// Whether this machine's CPUs are all wanted, for work that can wait until one is idle.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace lmcache {

// Threads that run or wait for a CPU, the caller among them, out of a text like that of
// /proc/loadavg (man 5 proc_loadavg, the fourth field). Nothing: it does not say.
[[nodiscard]] std::optional<std::uint32_t> runnable_threads(std::string_view loadavg) noexcept;

// Whether other threads than the caller want as many CPUs as there are. A moment's answer, that of
// the whole machine: what a container may use of it is not asked. False where the system does not
// tell. About 10 us.
[[nodiscard]] bool cpus_are_wanted() noexcept;

}  // namespace lmcache
