# SPDX-License-Identifier: Apache-2.0
# Sets LMCACHE_WITH_URING and the target lmcache_uring. AUTO takes io_uring when a liburing of 2.3 or later is there.
# The static library is preferred: with it, the shared library of ours needs none at run time.
set(LMCACHE_WITH_URING OFF)
if(NOT LMCACHE_URING MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "LMCACHE_URING is '${LMCACHE_URING}': use AUTO, ON or OFF")
endif()

# Links a shared library from it, as ours is one: a static liburing must be position independent for that.
function(lmcache_try_uring library works)
  include(CheckCXXSourceCompiles)
  set(CMAKE_REQUIRED_FLAGS -fPIC)
  set(CMAKE_REQUIRED_LINK_OPTIONS -shared -Wl,-z,defs)
  set(CMAKE_REQUIRED_INCLUDES ${LMCACHE_URING_INCLUDE_DIR})
  set(CMAKE_REQUIRED_LIBRARIES ${library})
  check_cxx_source_compiles("
    #include <liburing.h>
    int probe(io_uring* ring) {
      return io_uring_submit_and_get_events(ring) + io_uring_register_buffers_sparse(ring, 1) +
        int(IORING_SETUP_DEFER_TASKRUN);
    }" ${works})
endfunction()

if(NOT LMCACHE_URING STREQUAL "OFF")
  find_path(LMCACHE_URING_INCLUDE_DIR liburing.h)
  find_library(LMCACHE_URING_STATIC NAMES liburing.a)
  find_library(LMCACHE_URING_SHARED NAMES uring)
  mark_as_advanced(LMCACHE_URING_INCLUDE_DIR LMCACHE_URING_STATIC LMCACHE_URING_SHARED)
  foreach(kind STATIC SHARED)
    if(LMCACHE_URING_INCLUDE_DIR AND LMCACHE_URING_${kind} AND NOT LMCACHE_WITH_URING)
      lmcache_try_uring(${LMCACHE_URING_${kind}} LMCACHE_URING_${kind}_WORKS)
      if(LMCACHE_URING_${kind}_WORKS)
        set(LMCACHE_WITH_URING ON)
        add_library(lmcache_uring INTERFACE)
        target_include_directories(lmcache_uring SYSTEM INTERFACE ${LMCACHE_URING_INCLUDE_DIR})
        # Its symbols stay inside: a process may hold another liburing.
        target_link_libraries(lmcache_uring INTERFACE ${LMCACHE_URING_${kind}} -Wl,--exclude-libs,liburing.a)
      endif()
    endif()
  endforeach()
  if(LMCACHE_URING STREQUAL "ON" AND NOT LMCACHE_WITH_URING)
    message(FATAL_ERROR "LMCACHE_URING=ON, but no liburing of 2.3 or later was found (Debian: liburing-dev)")
  endif()
endif()
message(STATUS "lmcache: io_uring ${LMCACHE_WITH_URING}")
