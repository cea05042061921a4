# SPDX-License-Identifier: Apache-2.0
# Turns files into a C++ header of byte arrays; the same input gives the same output.
#   cmake -DOUTPUT=x.hpp -DFATBIN=a -DPTX=b -DPTX_VERSION=8.0 -P embed_bytes.cmake
# The .version line of the PTX is set to PTX_VERSION, and a NUL is put behind it.
file(READ ${PTX} ptx)
if(NOT ptx MATCHES "\n\\.version ([0-9.]+)\n")
  message(FATAL_ERROR "${PTX}: no .version line")
endif()
if(CMAKE_MATCH_1 VERSION_LESS PTX_VERSION)
  message(FATAL_ERROR "${PTX}: version ${CMAKE_MATCH_1} is older than ${PTX_VERSION}")
endif()
string(REGEX REPLACE "\n\\.version [0-9.]+\n" "\n.version ${PTX_VERSION}\n" ptx "${ptx}")
get_filename_component(folder ${OUTPUT} DIRECTORY)
file(WRITE ${folder}/kernels.low.ptx "${ptx}")

function(lmcache_hex result path)
  file(READ ${path} hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," hex "${hex}")
  set(${result} "${hex}" PARENT_SCOPE)
endfunction()
lmcache_hex(fatbin_hex ${FATBIN})
lmcache_hex(ptx_hex ${folder}/kernels.low.ptx)
file(WRITE ${OUTPUT} "// Generated.
#pragma once
namespace lmcache::detail {
alignas(16) inline constexpr unsigned char kFatbin[] = {${fatbin_hex}};
alignas(16) inline constexpr unsigned char kPtx[] = {${ptx_hex}0x00};
}
")
