// SPDX-License-Identifier: Apache-2.0
// Log lines on their way from threads of ours, which never wait for the GIL, to Python.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <lmcache/base/log.hpp>

namespace lmcache::bindings {

// A line may come from a thread that holds a lock other processes wait for, so taking it in must
// not wait for the interpreter: the interpreter fetches it between two of its own instructions.
// Thread-safe.
class LogQueue : public std::enable_shared_from_this<LogQueue> {
 public:
  // `write(level, text)`. The GIL is held.
  explicit LogQueue(pybind11::function write) : write_{std::move(write)} {}
  // From any thread, with or without the GIL.
  ~LogQueue();
  LogQueue(LogQueue&&) = delete;

  // The hook shares ownership of the queue.
  [[nodiscard]] LogHook hook();
  // Hands over what has come. The GIL is held.
  void drain();

 private:
  void put(LogLevel level, std::string_view text);

  pybind11::function write_;
  std::mutex mutex_;  // guards lines_ and called_
  std::vector<std::pair<int, std::string>> lines_;
  bool called_{false};  // the interpreter was told
};

}  // namespace lmcache::bindings
