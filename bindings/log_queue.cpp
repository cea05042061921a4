// SPDX-License-Identifier: Apache-2.0
#include "log_queue.hpp"

#include <string_view>

namespace lmcache::bindings {

namespace py = pybind11;

namespace {

// Lines that an interpreter which never gets to them would pile up.
constexpr std::size_t kMostLines = 1000;

}  // namespace

LogQueue::~LogQueue() {
  if (Py_IsInitialized() == 0) {
    static_cast<void>(write_.release());
    return;
  }
  py::gil_scoped_acquire const acquire;
  write_ = py::function{};
}

LogHook LogQueue::hook() {
  return [self = shared_from_this()](LogLevel level, std::string_view text) {
    self->put(level, text);
  };
}

void LogQueue::put(LogLevel level, std::string_view text) {
  std::lock_guard const lock{mutex_};
  if (lines_.size() >= kMostLines) return;
  lines_.emplace_back(static_cast<int>(level), text);
  if (called_) return;
  auto* const call = new std::weak_ptr<LogQueue>{weak_from_this()};
  auto const fetch = [](void* argument) {
    std::unique_ptr<std::weak_ptr<LogQueue>> const queue{
        static_cast<std::weak_ptr<LogQueue>*>(argument)};
    if (auto const alive = queue->lock()) alive->drain();
    return 0;
  };
  called_ = Py_AddPendingCall(fetch, call) == 0;
  if (!called_) delete call;  // the next line, or close(), tries again
}

void LogQueue::drain() {
  std::vector<std::pair<int, std::string>> lines;
  {
    std::lock_guard const lock{mutex_};
    lines.swap(lines_);
    called_ = false;
  }
  for (auto const& [level, text] : lines) {
    try {
      write_(level, text);
    } catch (py::error_already_set& error) {
      error.discard_as_unraisable("lmcache log hook");
    }
  }
}

}  // namespace lmcache::bindings
