// SPDX-License-Identifier: Apache-2.0
#include <pybind11/pybind11.h>

#include <algorithm>
#include <string>
#include <string_view>

#include <lmcache/key/key_chain.hpp>

#include "errors.hpp"
#include "module.hpp"
#include "tokens.hpp"
#include "without_gil.hpp"

namespace lmcache::bindings {

namespace py = pybind11;
using namespace py::literals;

namespace {

ChunkKey key_of(py::bytes const& bytes, char const* what) {
  auto const view = static_cast<std::string_view>(bytes);
  ChunkKey key;
  if (view.size() != key.bytes.size()) {
    throw py::value_error(std::string{what} + " has " + std::to_string(view.size()) +
                          " bytes: 32 are needed");
  }
  std::copy(view.begin(), view.end(), key.bytes.begin());
  return key;
}

}  // namespace

void bind_prompt(py::module_& module) {
  py::class_<KeyChain>(
      module, "Prompt",
      "Token ids of one request and the keys of their chunks, each token hashed once.")
      .def(py::init([](py::bytes const& root, std::uint32_t chunk_tokens) {
             return unwrap(KeyChain::create(key_of(root, "root"), chunk_tokens));
           }),
           "root"_a, "chunk_tokens"_a)
      .def(
          "append",
          [](KeyChain& chain, py::object const& tokens) {
            TokenIds const source{tokens};
            if (auto const ids = source.in_place()) {
              auto result = without_gil([&] { return chain.append(*ids); });
              if (!result) source.check_in_place();  // in the caller's terms
              unwrap(result);
              return;
            }
            auto const room = unwrap(chain.extend(source.count()));
            try {
              source.copy_to(room);
            } catch (...) {
              chain.abandon();
              throw;
            }
            unwrap(without_gil([&] { return chain.accept(); }));
          },
          "tokens"_a, "Appends ids: a sequence of int or a 1-D integer array.")
      .def(
          "add_item",
          [](KeyChain& chain, std::uint32_t offset, std::uint32_t length,
             py::bytes const& item_hash) {
            unwrap(chain.add_item({.first_token = offset,
                                   .tokens = length,
                                   .item_hash = key_of(item_hash, "item_hash")}));
          },
          "offset"_a, "length"_a, "item_hash"_a,
          "A multimodal item over tokens [offset, offset + length), before these are appended.")
      .def_property_readonly("token_count", &KeyChain::token_count)
      .def_property_readonly("chunk_count", &KeyChain::chunk_count)
      .def_property_readonly("chunk_tokens", &KeyChain::chunk_tokens)
      .def(
          "key",
          [](KeyChain const& chain, std::uint32_t chunk) {
            if (chunk >= chain.chunk_count())
              throw py::index_error("chunk " + std::to_string(chunk));
            auto const& key = chain.keys()[chunk];
            return py::bytes{reinterpret_cast<char const*>(key.bytes.data()), key.bytes.size()};
          },
          "chunk"_a)
      .def(
          "tail_key",
          [](KeyChain const& chain, std::uint32_t chunk, std::uint32_t end_token) {
            auto const key = unwrap(chain.tail_key(chunk, end_token));
            return py::bytes{reinterpret_cast<char const*>(key.bytes.data()), key.bytes.size()};
          },
          "chunk"_a, "end_token"_a);
}

}  // namespace lmcache::bindings
