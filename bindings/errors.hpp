// SPDX-License-Identifier: Apache-2.0
// Errors of the library as exceptions of lmcache.errors.
#pragma once

#include <utility>

#include <lmcache/base/result.hpp>

namespace lmcache::bindings {

// The only throw of the code base. The GIL is held.
[[noreturn]] void raise(Error const& error);

template <class T>
T unwrap(Result<T> result) {
  if (!result) raise(result.error());
  return std::move(result).value();
}

inline void unwrap(Result<void> const& result) {
  if (!result) raise(result.error());
}

}  // namespace lmcache::bindings
