# SPDX-License-Identifier: Apache-2.0
# The shared library, and the install rules that make find_package(lmcache) work from any prefix: a plain
# `cmake --install` and the folder of the Python package (lmcache/lib, lmcache/include, lmcache/lib/cmake/lmcache).
include(CMakePackageConfigHelpers)
find_package(OpenSSL 3.0 REQUIRED COMPONENTS Crypto SSL)
find_package(Threads REQUIRED)

file(GLOB_RECURSE lmcache_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cpp/*.cpp)
# The CUDA copier is ordinary C++ over a table of calls, and always built. Only this file needs CUDA's headers.
if(LMCACHE_WITH_CUDA)
  find_package(CUDAToolkit QUIET)
endif()
if(CUDAToolkit_FOUND)
  list(TRANSFORM CUDAToolkit_INCLUDE_DIRS PREPEND "-isystem" OUTPUT_VARIABLE lmcache_cuda_includes)
  set_source_files_properties(${PROJECT_SOURCE_DIR}/cpp/device/cuda_abi_check.cpp
    PROPERTIES COMPILE_OPTIONS "${lmcache_cuda_includes}")
else()
  list(FILTER lmcache_sources EXCLUDE REGEX "/device/cuda_abi_check\\.cpp$")
endif()
if(NOT LMCACHE_WITH_URING)
  list(FILTER lmcache_sources EXCLUDE REGEX "/io/uring_[^/]*$")
endif()

set(lmcache_kernel_users ${lmcache_sources})
list(FILTER lmcache_kernel_users INCLUDE REGEX "/device/cuda_")
set_property(SOURCE ${lmcache_kernel_users} ${LMCACHE_KERNEL_SOURCES} APPEND PROPERTY INCLUDE_DIRECTORIES ${PROJECT_SOURCE_DIR})

add_library(lmcache SHARED ${lmcache_sources} ${LMCACHE_KERNEL_SOURCES})
add_dependencies(lmcache lmcache_kernels)
add_library(lmcache::lmcache ALIAS lmcache)
target_compile_features(lmcache PUBLIC cxx_std_20)
target_include_directories(lmcache
  PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>
  PRIVATE ${PROJECT_SOURCE_DIR}/cpp)
target_compile_definitions(lmcache PRIVATE LMC_VERSION="${PROJECT_VERSION}")
target_link_libraries(lmcache
  PRIVATE OpenSSL::SSL OpenSSL::Crypto Threads::Threads ${CMAKE_DL_LIBS}
          $<BUILD_INTERFACE:lmcache_warnings> $<BUILD_INTERFACE:lmcache_sanitize>)
if(LMCACHE_WITH_URING)
  target_compile_definitions(lmcache PRIVATE LMC_WITH_URING)
  target_link_libraries(lmcache PRIVATE $<BUILD_INTERFACE:lmcache_uring>)
endif()
if(NOT SKBUILD)  # a wheel cannot hold the symbolic links that a versioned name needs
  set_target_properties(lmcache PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})
endif()

if(SKBUILD)
  set(CMAKE_INSTALL_LIBDIR lib)  # the same in every wheel, whatever the distribution calls it
endif()
set(lmcache_cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/lmcache)
install(TARGETS lmcache EXPORT lmcacheTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/lmcache DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp" PATTERN "*.h")
install(EXPORT lmcacheTargets NAMESPACE lmcache:: DESTINATION ${lmcache_cmake_dir})
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/lmcacheConfig.cmake.in ${PROJECT_BINARY_DIR}/lmcacheConfig.cmake
  INSTALL_DESTINATION ${lmcache_cmake_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/lmcacheConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/lmcacheConfig.cmake ${PROJECT_BINARY_DIR}/lmcacheConfigVersion.cmake
  DESTINATION ${lmcache_cmake_dir})
