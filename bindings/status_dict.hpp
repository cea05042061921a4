// SPDX-License-Identifier: Apache-2.0
// Statistics as plain dictionaries.
#pragma once

#include <pybind11/pybind11.h>

#include <lmcache/engine/segment_status.hpp>

namespace lmcache::bindings {

[[nodiscard]] pybind11::dict to_dict(CountersSnapshot const& counters);
[[nodiscard]] pybind11::dict to_dict(SegmentStatus const& status);

}  // namespace lmcache::bindings
