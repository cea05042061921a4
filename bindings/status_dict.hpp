// SPDX-License-Identifier: Apache-2.0
// Statistics as plain dictionaries.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/typing.h>

#include <lmcache/engine/segment_status.hpp>

namespace lmcache::bindings {

using Counts = pybind11::typing::Dict<pybind11::str, pybind11::int_>;
using StatusDict = pybind11::typing::Dict<pybind11::str, pybind11::object>;

[[nodiscard]] Counts to_dict(CountersSnapshot const& counters);
[[nodiscard]] StatusDict to_dict(SegmentStatus const& status);

}  // namespace lmcache::bindings
