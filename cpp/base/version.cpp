// SPDX-License-Identifier: Apache-2.0
#include <lmcache/base/version.hpp>

namespace lmcache {

std::string_view version() noexcept { return LMC_VERSION; }

}  // namespace lmcache
