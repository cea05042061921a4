# SPDX-License-Identifier: Apache-2.0
# lmcache._native. It lies in the package folder and finds lib/liblmcache.so beside it, whatever the prefix.
file(GLOB lmcache_binding_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/bindings/*.cpp)
if(NOT lmcache_binding_sources)
  message(STATUS "lmcache: bindings/ is empty, no Python module")
  return()
endif()

find_package(Python 3.10 REQUIRED COMPONENTS Interpreter Development.Module)
if(NOT pybind11_DIR)
  execute_process(COMMAND ${Python_EXECUTABLE} -m pybind11 --cmakedir
    OUTPUT_VARIABLE lmcache_pybind11_dir OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
find_package(pybind11 2.13 CONFIG REQUIRED HINTS ${lmcache_pybind11_dir})

pybind11_add_module(_native NO_EXTRAS ${lmcache_binding_sources})
target_link_libraries(_native PRIVATE lmcache lmcache_warnings lmcache_sanitize)
set_target_properties(_native PROPERTIES
  CXX_VISIBILITY_PRESET hidden
  VISIBILITY_INLINES_HIDDEN ON
  INSTALL_RPATH "$ORIGIN/lib")
install(TARGETS _native LIBRARY DESTINATION .)
