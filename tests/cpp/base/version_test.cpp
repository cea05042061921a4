// SPDX-License-Identifier: Apache-2.0
#include <lmcache/base/version.hpp>

#include <gtest/gtest.h>

namespace {

TEST(Version, IsTheProjectVersion) { EXPECT_EQ(lmcache::version(), LMC_VERSION); }

}  // namespace
