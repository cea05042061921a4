// SPDX-License-Identifier: Apache-2.0
#include "module.hpp"

#include <lmcache/base/version.hpp>

PYBIND11_MODULE(_native, module) {
  module.doc() = "The native library of lmcache. Use the classes of the package lmcache instead.";
  module.attr("__version__") = lmcache::version();
  lmcache::bindings::bind_geometry(module);
  lmcache::bindings::bind_prompt(module);
  lmcache::bindings::bind_remote_calls(module);
  lmcache::bindings::bind_engine(module);
  lmcache::bindings::bind_segments(module);
  lmcache::bindings::bind_explain(module);
  lmcache::bindings::bind_disk(module);
  lmcache::bindings::bind_remote(module);
  lmcache::bindings::bind_gpu(module);
}
