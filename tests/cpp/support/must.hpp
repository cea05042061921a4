// SPDX-License-Identifier: Apache-2.0
// For steps without which a test makes no sense.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <utility>

#include <lmcache/base/result.hpp>

namespace lmcache::test {

// The value, or the end of the test program with the error's message.
template <class T>
[[nodiscard]] T must(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "a step that must succeed failed: %s\n", result.error().message().c_str());
    std::abort();
  }
  return std::move(result).value();
}

inline void must(Result<void> result) {
  if (result) return;
  std::fprintf(stderr, "a step that must succeed failed: %s\n", result.error().message().c_str());
  std::abort();
}

}  // namespace lmcache::test
