// SPDX-License-Identifier: Apache-2.0
// One reply of a Redis server, of RESP2 or RESP3.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lmcache {

struct RespValue {
  enum class Kind : std::uint8_t {
    kNull,
    kSimple,
    kError,    // a bulk error as well
    kInteger,  // in `integer`
    kBulk,
    kVerbatim,   // in `text`, without its format ("txt:")
    kArray,      // in `items`
    kMap,        // in `items`: key, value, key, value
    kSet,        // in `items`
    kBoolean,    // in `integer`, 0 or 1
    kDouble,     // in `text`, checked but not converted: it is exact there
    kBigNumber,  // in `text`
  };
  Kind kind = Kind::kNull;
  std::int64_t integer = 0;
  std::string text{};
  std::vector<RespValue> items{};

  [[nodiscard]] bool is_error() const noexcept { return kind == Kind::kError; }
  bool operator==(RespValue const&) const = default;
};

}  // namespace lmcache
