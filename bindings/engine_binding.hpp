// SPDX-License-Identifier: Apache-2.0
// How Python holds an engine: closed explicitly, or with the last object that refers to it.
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <utility>

#include <lmcache/engine/engine.hpp>

#include "log_queue.hpp"

namespace lmcache::bindings {

namespace py = pybind11;

// The last to let go of it may be a call that was under way when it was closed. Its threads may be
// waiting for those that serve its remote store, and they for the GIL.
inline std::shared_ptr<Engine> shared(std::unique_ptr<Engine> engine) {
  return {engine.release(), [](Engine* going) {
            if (PyGILState_Check() == 0) {
              delete going;
              return;
            }
            py::gil_scoped_release const release;
            delete going;
          }};
}

// A call that is under way in another thread keeps the engine until it returns, close() or not. In
// a child made by fork() the engine is closed: its threads are the parent's, and so are its leases.
class EngineHolder {
 public:
  // `client`: its remote store has a client in Python.
  EngineHolder(std::shared_ptr<Engine> engine, std::shared_ptr<LogQueue> log, bool client)
      : engine_{std::move(engine)}, log_{std::move(log)}, client_{client} {}
  ~EngineHolder() { close(); }
  EngineHolder(EngineHolder&&) = delete;

  // Raises lmcache.errors.ClosedError after close() or fork().
  [[nodiscard]] std::shared_ptr<Engine> get() const;
  [[nodiscard]] bool closed() const noexcept { return engine_ == nullptr || getpid() != process_; }
  void close();

 private:
  std::shared_ptr<Engine> engine_;
  std::shared_ptr<LogQueue> log_;
  bool client_;
  pid_t process_{getpid()};
};

// A hit keeps its engine's holder, so that a lease released after close() finds out that it is too
// late.
struct HitHolder {
  std::shared_ptr<EngineHolder> owner;
  Hit hit;

  void release() {
    if (!owner->closed()) hit.release();
  }
  HitHolder(std::shared_ptr<EngineHolder> held, Hit leased)
      : owner{std::move(held)}, hit{std::move(leased)} {}
  HitHolder(HitHolder&&) = default;
  ~HitHolder() {
    if (owner && owner->closed()) hit.forget();
  }
};

// Likewise.
struct FetchHolder {
  std::shared_ptr<EngineHolder> owner;
  Fetch fetch;

  void release() {
    if (!owner->closed()) fetch.release();
  }
  FetchHolder(std::shared_ptr<EngineHolder> held, Fetch started)
      : owner{std::move(held)}, fetch{std::move(started)} {}
  FetchHolder(FetchHolder&&) = default;
  ~FetchHolder() {
    if (owner && owner->closed()) fetch.forget();
  }
};

inline std::chrono::milliseconds milliseconds(std::int64_t timeout_ms) {
  return std::chrono::milliseconds{std::clamp<std::int64_t>(timeout_ms, 0, 86'400'000)};
}

void bind_transfers(py::class_<EngineHolder, std::shared_ptr<EngineHolder>>& engine);
void bind_tracing(py::class_<EngineHolder, std::shared_ptr<EngineHolder>>& engine);

}  // namespace lmcache::bindings
