# SPDX-License-Identifier: Apache-2.0
# LMCACHE_SANITIZE=address (with undefined behaviour) or thread; -O1 -g keeps the stacks readable and the tests quick.
add_library(lmcache_sanitize INTERFACE)
if(LMCACHE_SANITIZE STREQUAL "address")
  set(lmcache_sanitize_flags -fsanitize=address,undefined -fno-sanitize-recover=all)
elseif(LMCACHE_SANITIZE STREQUAL "thread")
  set(lmcache_sanitize_flags -fsanitize=thread)
elseif(LMCACHE_SANITIZE)
  message(FATAL_ERROR "LMCACHE_SANITIZE is '${LMCACHE_SANITIZE}': use address, thread or nothing")
endif()
if(LMCACHE_SANITIZE)
  target_compile_options(lmcache_sanitize INTERFACE ${lmcache_sanitize_flags} -fno-omit-frame-pointer)
  target_link_options(lmcache_sanitize INTERFACE ${lmcache_sanitize_flags})
endif()
