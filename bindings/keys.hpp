// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <lmcache/key/chunk_key.hpp>

namespace lmcache::bindings {

// 32 bytes each, one after the other.
inline std::vector<ChunkKey> keys_in(pybind11::bytes const& bytes) {
  auto const text = std::string_view{bytes};
  if (text.size() % sizeof(ChunkKey) != 0) {
    throw pybind11::value_error("keys are 32 bytes each, " + std::to_string(text.size()) +
                                " were given");
  }
  std::vector<ChunkKey> out(text.size() / sizeof(ChunkKey));
  std::memcpy(out.data(), text.data(), text.size());
  return out;
}

}  // namespace lmcache::bindings
