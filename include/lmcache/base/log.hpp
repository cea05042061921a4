// SPDX-License-Identifier: Apache-2.0
// The way log lines leave the core. There is no global logger: whoever opens an engine hands in a
// hook.
#pragma once

#include <functional>
#include <string_view>

namespace lmcache {

// The numbers are those of Python's logging module.
enum class LogLevel : int { kDebug = 10, kInfo = 20, kWarning = 30, kError = 40 };

// Must be thread-safe, must not throw, must not call back into the engine. An empty hook is
// silence.
using LogHook = std::function<void(LogLevel, std::string_view)>;

inline void log(LogHook const& hook, LogLevel level, std::string_view message) {
  if (hook) hook(level, message);
}

}  // namespace lmcache
