// SPDX-License-Identifier: Apache-2.0
// Strings as JSON, for the one-line descriptions that the segment keeps of its namespaces.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace lmcache {

// Quoted and escaped. Whatever is not UTF-8 becomes U+FFFD. The quoted text takes at most
// `max_bytes` (at least 5 are needed); what does not fit is cut between characters, and the cut
// shows as "...".
[[nodiscard]] std::string json_string(std::string_view text,
                                      std::size_t max_bytes = std::string::npos);

}  // namespace lmcache
