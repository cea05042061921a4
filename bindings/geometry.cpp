// SPDX-License-Identifier: Apache-2.0
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <lmcache/key/namespace_spec.hpp>
#include <lmcache/layout/kv_geometry.hpp>

#include "errors.hpp"
#include "module.hpp"
#include "namespace_request.hpp"

namespace lmcache::bindings {

namespace py = pybind11;
using namespace py::literals;

ChunkKey root_of(NamespaceRequest const& request) {
  NamespaceSpec spec = request.spec;
  spec.geometry_hash.bytes = unwrap(geometry_hash(request.geometry));
  return unwrap(namespace_root(spec));
}

void bind_geometry(py::module_& module) {
  py::class_<KvGroup>(module, "KvGroup", "Layers that share a block table.")
      .def(py::init([](std::uint32_t block_tokens, std::vector<std::uint64_t> plane_bytes,
                       std::uint32_t window_tokens, std::vector<std::string> layer_names) {
             return KvGroup{.block_tokens = block_tokens,
                            .window_tokens = window_tokens,
                            .plane_bytes = std::move(plane_bytes),
                            .layer_names = std::move(layer_names)};
           }),
           "block_tokens"_a, "plane_bytes"_a, "window_tokens"_a = 0,
           "layer_names"_a = std::vector<std::string>{},
           "plane_bytes: bytes of one block's page, per plane; window_tokens: 0 = full attention.")
      .def_readonly("block_tokens", &KvGroup::block_tokens)
      .def_readonly("window_tokens", &KvGroup::window_tokens)
      .def_readonly("plane_bytes", &KvGroup::plane_bytes)
      .def_readonly("layer_names", &KvGroup::layer_names);

  py::class_<KvGeometry>(module, "KvGeometry",
                         "What a KV cache is made of: declared, never guessed.")
      .def(py::init([](std::string dtype, std::string layout, std::vector<KvGroup> groups,
                       std::string details) {
             KvGeometry geometry{.dtype = std::move(dtype),
                                 .layout = std::move(layout),
                                 .groups = std::move(groups),
                                 .details = std::move(details)};
             unwrap(validate(geometry));
             return geometry;
           }),
           "dtype"_a, "layout"_a, "groups"_a, "details"_a = "")
      .def_readonly("dtype", &KvGeometry::dtype)
      .def_readonly("layout", &KvGeometry::layout)
      .def_readonly("groups", &KvGeometry::groups)
      .def_readonly("details", &KvGeometry::details)
      .def("describe", [](KvGeometry const& geometry) { return describe(geometry); });

  py::class_<NamespaceRequest>(
      module, "NamespaceSpec",
      "What makes KV interchangeable or not; see lmcache/key/namespace_spec.hpp.")
      .def(py::init([](std::string model, std::string revision, KvGeometry geometry,
                       std::uint32_t chunk_tokens, std::uint32_t world_size, std::string lora,
                       std::string salt, std::string extra) {
             NamespaceRequest request{.spec = {.model = std::move(model),
                                               .revision = std::move(revision),
                                               .geometry_hash = {},
                                               .geometry_text = {},
                                               .chunk_tokens = chunk_tokens,
                                               .world_size = world_size,
                                               .lora = std::move(lora),
                                               .salt = std::move(salt),
                                               .extra = std::move(extra)},
                                      .geometry = std::move(geometry)};
             static_cast<void>(root_of(request));  // validates
             return request;
           }),
           "model"_a, "revision"_a, "geometry"_a, "chunk_tokens"_a, "world_size"_a = 1,
           "lora"_a = "", "salt"_a = "", "extra"_a = "")
      .def(
          "root",
          [](NamespaceRequest const& request) {
            auto const root = root_of(request);
            return py::bytes{reinterpret_cast<char const*>(root.bytes.data()), root.bytes.size()};
          },
          "32 bytes: what every chain of keys of the namespace begins with.");
}

}  // namespace lmcache::bindings
