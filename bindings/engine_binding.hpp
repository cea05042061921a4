// SPDX-License-Identifier: Apache-2.0
// How Python holds an engine: closed explicitly, or with the last object that refers to it.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <utility>

#include <lmcache/engine/engine.hpp>

namespace lmcache::bindings {

namespace py = pybind11;

struct EngineHolder {
  std::unique_ptr<Engine> engine;

  // Raises lmcache.errors.ClosedError after close().
  [[nodiscard]] Engine& get() const;
  void close();
};

// A hit keeps its engine's holder, so that a lease released after close() finds out that it is too late.
struct HitHolder {
  std::shared_ptr<EngineHolder> owner;
  Hit hit;

  void release() {
    if (owner->engine) hit.release();
  }
  HitHolder(std::shared_ptr<EngineHolder> held, Hit leased) : owner{std::move(held)}, hit{std::move(leased)} {}
  HitHolder(HitHolder&&) = default;
  ~HitHolder() {
    if (owner && !owner->engine) hit.forget();
  }
};

void bind_transfers(py::class_<EngineHolder, std::shared_ptr<EngineHolder>>& engine);

}  // namespace lmcache::bindings
