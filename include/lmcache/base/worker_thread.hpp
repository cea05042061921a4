// SPDX-License-Identifier: Apache-2.0
// Starts a thread of ours inside a serving engine: it never takes a signal meant for the engine,
// never stays on the core the engine pinned its own thread to, and yields to the engine if asked
// to.
#pragma once

#include <functional>
#include <string>
#include <thread>

#include <lmcache/base/result.hpp>

namespace lmcache {

struct WorkerThreadTraits {
  std::string name;  // as `top -H` shows it; cut to the kernel's 15 characters
  int nice = 0;      // added to the process's; 0..19
};

// kUnavailable: the system has no thread to give.
[[nodiscard]] Result<std::thread> start_worker_thread(WorkerThreadTraits traits,
                                                      std::function<void()> body);

}  // namespace lmcache
