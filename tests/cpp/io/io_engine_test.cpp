// SPDX-License-Identifier: Apache-2.0
#include <lmcache/io/io_engine.hpp>

#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <cerrno>
#include <thread>

#include "support/log_lines.hpp"
#include "support/must.hpp"
#include "support/refused_calls.hpp"

namespace lmcache::test {
namespace {

TEST(ParseIo, KnowsTheKinds) {
  EXPECT_EQ(must(parse_io("auto")), IoKind::kAuto);
  EXPECT_EQ(must(parse_io("io_uring")), IoKind::kUring);
  EXPECT_EQ(must(parse_io("uring")), IoKind::kUring);
  EXPECT_EQ(must(parse_io("threads")), IoKind::kThreads);
  for (auto const* text : {"", "Auto", "aio", "threads "}) {
    auto const parsed = parse_io(text);
    ASSERT_FALSE(parsed);
    EXPECT_EQ(parsed.error().code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(parsed.error().message().find(text), std::string::npos);
  }
}

TEST(MakeIo, ThreadsAreThreads) {
  LogLines log;
  auto const io = must(make_io({.kind = IoKind::kThreads, .depth_bytes = 1 << 20}, log.hook()));
  EXPECT_EQ(io->traits().name, "threads");
  EXPECT_EQ(io->traits().depth_bytes, 1U << 20);
  EXPECT_TRUE(log.lines().empty());
}

TEST(MakeIo, TakesIoUringWhereItCan) {
  LogLines log;
  auto const why = uring_refusal();
  auto const io = must(make_io({}, log.hook()));
  EXPECT_EQ(io->traits().name, why.empty() ? "io_uring" : "threads");
  EXPECT_EQ(log.lines().size(), why.empty() ? 0U : 1U);
  EXPECT_EQ(make_io({.kind = IoKind::kUring}, {}).has_value(), why.empty());
}

// In a thread of its own, which alone, with those it starts, may not have io_uring.
template <class Body>
void without_uring(int os_error, Body body) {
  std::thread{[&] {
    ASSERT_TRUE(refuse({.number = SYS_io_uring_setup,
                        .argument = 0,
                        .condition = RefusedCall::If::kAbove,
                        .value = 0,
                        .error = os_error}));
    body();
  }}.join();
}

TEST(MakeIo, FallsBackToThreadsAndSaysWhyOnce) {
  for (int const os_error : {EPERM, ENOSYS}) {
    without_uring(os_error, [] {
      LogLines log;
      auto const io = must(make_io({}, log.hook()));
      EXPECT_EQ(io->traits().name, "threads");
      ASSERT_EQ(log.lines().size(), 1U);
      EXPECT_EQ(log.count(uring_refusal()), 1U);
      EXPECT_FALSE(uring_refusal().empty());
    });
  }
}

TEST(MakeIo, WhoWantsIoUringOnlyGetsNothingElse) {
  without_uring(EPERM, [] {
    LogLines log;
    auto const io = make_io({.kind = IoKind::kUring}, log.hook());
    ASSERT_FALSE(io);
    EXPECT_EQ(io.error().code(), ErrorCode::kUnavailable);
    EXPECT_TRUE(log.lines().empty());  // who handles the error logs it
  });
}

TEST(MakeIo, SenselessOptionsAreNoReasonToFallBack) {
  if (auto const why = uring_refusal(); !why.empty()) GTEST_SKIP() << why;
  EXPECT_EQ(make_io({.depth_bytes = 0}, {}).error().code(), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace lmcache::test
