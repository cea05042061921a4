// SPDX-License-Identifier: Apache-2.0
// A NamespaceSpec as Python has it: the geometry itself instead of its hash.
#pragma once

#include <lmcache/key/namespace_spec.hpp>
#include <lmcache/layout/kv_geometry.hpp>

namespace lmcache::bindings {

struct NamespaceRequest {
  NamespaceSpec spec;
  KvGeometry geometry;
};

}  // namespace lmcache::bindings
