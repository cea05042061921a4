// SPDX-License-Identifier: Apache-2.0
// The C++ step of a binding: conversions before and after it hold the GIL.
#pragma once

#include <pybind11/pybind11.h>

namespace lmcache::bindings {

template <class Call>
auto without_gil(Call&& call) {
  pybind11::gil_scoped_release const release;
  return call();
}

}  // namespace lmcache::bindings
