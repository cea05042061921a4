// SPDX-License-Identifier: Apache-2.0
// Token ids out of Python.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <vector>

namespace lmcache::bindings {

// A list (or any sequence) of int, or a one-dimensional array of an integer type, by the buffer
// protocol. Raises ValueError for ids that are negative or over 2^31 - 1, naming the position;
// TypeError for anything else.
[[nodiscard]] std::vector<std::uint32_t> tokens_of(pybind11::handle source);

}  // namespace lmcache::bindings
