// SPDX-License-Identifier: Apache-2.0
// Included before everything else: std::source_location for clang before 16, which lacks the
// built-in that libstdc++ makes it of.
#pragma once

#include <source_location>

#ifndef __cpp_lib_source_location
#include <cstdint>

namespace std {

class source_location {
 public:
  static constexpr source_location current(char const* file = __builtin_FILE(),
                                           char const* function = __builtin_FUNCTION(),
                                           unsigned line = __builtin_LINE()) noexcept {
    source_location out;
    out.file_ = file;
    out.function_ = function;
    out.line_ = line;
    return out;
  }
  constexpr char const* file_name() const noexcept { return file_; }
  constexpr char const* function_name() const noexcept { return function_; }
  constexpr uint_least32_t line() const noexcept { return line_; }
  constexpr uint_least32_t column() const noexcept { return 0; }

 private:
  char const* file_ = "";
  char const* function_ = "";
  uint_least32_t line_ = 0;
};

}  // namespace std
#endif
