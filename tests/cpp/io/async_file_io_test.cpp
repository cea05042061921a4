// SPDX-License-Identifier: Apache-2.0
#include <lmcache/io/async_file_io.hpp>
