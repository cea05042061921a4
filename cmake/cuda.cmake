# SPDX-License-Identifier: Apache-2.0
# Sets LMCACHE_WITH_CUDA and LMCACHE_KERNEL_SOURCES: the kernels for the host, and their image for the device, which is
# empty without CUDA. The target lmcache_kernels compiles that image (build/.../cuda/kernels.fatbin, kernels.low.ptx).
# AUTO takes CUDA when an nvcc is there that compiles for our GPUs. Only nvcc is used, not CMake's language CUDA: nothing is
# linked, neither a GPU nor libcuda is needed, and the driver is looked for when the program runs.
set(LMCACHE_WITH_CUDA OFF)
if(NOT LMCACHE_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "LMCACHE_CUDA is '${LMCACHE_CUDA}': use AUTO, ON or OFF")
endif()
set(LMCACHE_CUDA_PTX compute_75)      # the oldest that nvcc 13 knows
set(LMCACHE_CUDA_PTX_VERSION 8.0)     # of CUDA 12.0, see cuda/kernel_image.hpp
set(LMCACHE_CUDA_CODE
  -gencode=arch=compute_80,code=sm_80
  -gencode=arch=compute_90,code=sm_90)
# Host and device must give the same bits, so products are not fused with sums.
set(LMCACHE_NVCC_FLAGS -std=c++20 -O3 --fmad=false --expt-relaxed-constexpr -I${PROJECT_SOURCE_DIR})
if(LMCACHE_WERROR)
  list(APPEND LMCACHE_NVCC_FLAGS -Werror=all-warnings -Xcompiler=-Wall,-Wextra)
endif()

# Sets `reason` to why nvcc cannot be used; empty when it can.
function(lmcache_try_nvcc reason)
  set(probe ${PROJECT_BINARY_DIR}/cuda/probe)
  file(WRITE ${probe}.cu "#include <cstdint>\nextern \"C\" __global__ void probe(std::uint32_t* out) { *out = blockIdx.x; }\n")
  execute_process(COMMAND ${LMCACHE_NVCC} ${LMCACHE_NVCC_FLAGS} --fatbin ${LMCACHE_CUDA_CODE} ${probe}.cu -o ${probe}.fatbin
    RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(status EQUAL 0)
    set(${reason} "" PARENT_SCOPE)
  else()
    set(${reason} "${LMCACHE_NVCC} fails: ${output}" PARENT_SCOPE)
  endif()
endfunction()

if(NOT LMCACHE_CUDA STREQUAL "OFF")
  find_program(LMCACHE_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
  if(CMAKE_CUDA_COMPILER)
    set(LMCACHE_NVCC ${CMAKE_CUDA_COMPILER})
  elseif(DEFINED ENV{CUDACXX})
    set(LMCACHE_NVCC $ENV{CUDACXX})
  endif()
  mark_as_advanced(LMCACHE_NVCC)
  if(NOT LMCACHE_NVCC)
    set(lmcache_no_cuda "no nvcc was found (set CUDACXX or PATH)")
  elseif(LMCACHE_NVCC STREQUAL "${LMCACHE_NVCC_WORKS}")
    set(lmcache_no_cuda "")
  else()
    lmcache_try_nvcc(lmcache_no_cuda)
  endif()
  if(lmcache_no_cuda STREQUAL "")
    set(LMCACHE_WITH_CUDA ON)
    set(LMCACHE_NVCC_WORKS ${LMCACHE_NVCC} CACHE INTERNAL "The nvcc that was tried, and compiles")
  elseif(LMCACHE_CUDA STREQUAL "ON")
    message(FATAL_ERROR "LMCACHE_CUDA=ON, but ${lmcache_no_cuda}")
  else()
    message(STATUS "lmcache: no CUDA kernels: ${lmcache_no_cuda}")
  endif()
endif()
message(STATUS "lmcache: CUDA ${LMCACHE_WITH_CUDA}")

set(LMCACHE_KERNEL_SOURCES ${PROJECT_SOURCE_DIR}/cuda/host_kernels.cpp ${PROJECT_SOURCE_DIR}/cuda/kernel_image.cpp)
add_custom_target(lmcache_kernels)
if(LMCACHE_WITH_CUDA)
  set(lmcache_kernels ${PROJECT_BINARY_DIR}/cuda/kernels)
  set(lmcache_kernel_header ${PROJECT_BINARY_DIR}/cuda/kernel_bytes.hpp)
  set(lmcache_spills "")
  if(LMCACHE_WERROR)
    set(lmcache_spills -Xptxas=-warn-spills,-warn-lmem-usage)
  endif()
  add_custom_command(OUTPUT ${lmcache_kernels}.fatbin
    COMMAND ${LMCACHE_NVCC} ${LMCACHE_NVCC_FLAGS} ${lmcache_spills} --fatbin ${LMCACHE_CUDA_CODE}
      -MD -MF ${lmcache_kernels}.fatbin.d ${PROJECT_SOURCE_DIR}/cuda/kernels.cu -o ${lmcache_kernels}.fatbin
    DEPENDS ${PROJECT_SOURCE_DIR}/cuda/kernels.cu DEPFILE ${lmcache_kernels}.fatbin.d VERBATIM)
  add_custom_command(OUTPUT ${lmcache_kernels}.ptx
    COMMAND ${LMCACHE_NVCC} ${LMCACHE_NVCC_FLAGS} --ptx -arch=${LMCACHE_CUDA_PTX}
      -MD -MF ${lmcache_kernels}.ptx.d ${PROJECT_SOURCE_DIR}/cuda/kernels.cu -o ${lmcache_kernels}.ptx
    DEPENDS ${PROJECT_SOURCE_DIR}/cuda/kernels.cu DEPFILE ${lmcache_kernels}.ptx.d VERBATIM)
  add_custom_command(OUTPUT ${lmcache_kernel_header}
    COMMAND ${CMAKE_COMMAND} -DOUTPUT=${lmcache_kernel_header} -DFATBIN=${lmcache_kernels}.fatbin -DPTX=${lmcache_kernels}.ptx
      -DPTX_VERSION=${LMCACHE_CUDA_PTX_VERSION} -P ${PROJECT_SOURCE_DIR}/cmake/embed_bytes.cmake
    DEPENDS ${lmcache_kernels}.fatbin ${lmcache_kernels}.ptx ${PROJECT_SOURCE_DIR}/cmake/embed_bytes.cmake VERBATIM)
  add_custom_target(lmcache_kernel_bytes DEPENDS ${lmcache_kernel_header})
  add_dependencies(lmcache_kernels lmcache_kernel_bytes)
  set_source_files_properties(${PROJECT_SOURCE_DIR}/cuda/kernel_image.cpp PROPERTIES
    COMPILE_DEFINITIONS LMC_WITH_CUDA
    INCLUDE_DIRECTORIES ${PROJECT_BINARY_DIR}/cuda
    OBJECT_DEPENDS ${lmcache_kernel_header})
endif()
