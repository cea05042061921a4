// SPDX-License-Identifier: Apache-2.0
// One function per file of bindings; module.cpp calls them in an order in which every type is known
// before it is used in a signature.
#pragma once

#include <pybind11/pybind11.h>

namespace lmcache::bindings {

void bind_geometry(pybind11::module_& module);
void bind_prompt(pybind11::module_& module);
void bind_engine(pybind11::module_& module);
void bind_disk(pybind11::module_& module);
void bind_remote_calls(pybind11::module_& module);
void bind_remote(pybind11::module_& module);
void bind_segments(pybind11::module_& module);
void bind_explain(pybind11::module_& module);
void bind_gpu(pybind11::module_& module);

}  // namespace lmcache::bindings
