// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <optional>

#include <lmcache/tier/remote/transport_queue.hpp>

namespace lmcache::bindings {

// A view of it, which keeps it; nothing for null.
[[nodiscard]] std::optional<pybind11::memoryview> lent_memory(std::shared_ptr<LentMemory> memory);

}  // namespace lmcache::bindings
