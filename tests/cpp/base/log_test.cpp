// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include <lmcache/base/log.hpp>

namespace lmcache {
namespace {

TEST(Log, HookReceivesLevelAndMessage) {
  std::vector<std::pair<LogLevel, std::string>> lines;
  LogHook const hook = [&](LogLevel level, std::string_view message) {
    lines.emplace_back(level, message);
  };
  log(hook, LogLevel::kWarning, "disk is full");
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0].first, LogLevel::kWarning);
  EXPECT_EQ(lines[0].second, "disk is full");
}

TEST(Log, EmptyHookIsSilence) { log(LogHook{}, LogLevel::kError, "nobody listens"); }

TEST(Log, LevelsAreThoseOfPythonLogging) {
  EXPECT_EQ(static_cast<int>(LogLevel::kDebug), 10);
  EXPECT_EQ(static_cast<int>(LogLevel::kInfo), 20);
  EXPECT_EQ(static_cast<int>(LogLevel::kWarning), 30);
  EXPECT_EQ(static_cast<int>(LogLevel::kError), 40);
}

}  // namespace
}  // namespace lmcache
