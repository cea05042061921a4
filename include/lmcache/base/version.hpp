// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace lmcache {

// Version of the loaded library, "major.minor.patch"; it may differ from the headers' when the
// library was replaced. Thread-safe.
[[nodiscard]] std::string_view version() noexcept;

}  // namespace lmcache
