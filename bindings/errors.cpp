// SPDX-License-Identifier: Apache-2.0
#include "errors.hpp"

#include <pybind11/pybind11.h>

namespace lmcache::bindings {

namespace py = pybind11;

void raise(Error const& error) {
  py::object const exception =
      py::module_::import("lmcache.errors")
          .attr("native_error")(static_cast<int>(error.code()), error.message(), error.os_error());
  PyErr_SetObject(py::type::of(exception).ptr(), exception.ptr());
  throw py::error_already_set();
}

}  // namespace lmcache::bindings
