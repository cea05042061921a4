# SPDX-License-Identifier: Apache-2.0
# Private to our own targets, so that those who embed the library never see them.
add_library(lmcache_warnings INTERFACE)
target_compile_options(lmcache_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wimplicit-fallthrough
  $<$<BOOL:${LMCACHE_WERROR}>:-Werror>)
