// SPDX-License-Identifier: Apache-2.0
#include "io/uring_ring.hpp"

#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <cerrno>
#include <thread>

#include <lmcache/io/io_engine.hpp>

#include "support/refused_calls.hpp"

namespace lmcache::detail {
namespace {

TEST(UringRing, IsMadeWhereTheKernelAllows) {
  if (auto const why = uring_refusal(); !why.empty()) GTEST_SKIP() << why;
  auto ring = UringRing::create(8);
  ASSERT_TRUE(ring) << ring.error().message();
  ring.value().enter(UringRing::Wait::kNo);  // nothing to do, and no harm
  EXPECT_EQ(ring.value().entries(), 8U);
}

TEST(UringRing, ShortOfMemoryItIsSmaller) {
  if (auto const why = uring_refusal(); !why.empty()) GTEST_SKIP() << why;
  std::thread{[] {
    ASSERT_TRUE(test::refuse({.number = SYS_io_uring_setup,
                              .argument = 0,
                              .condition = test::RefusedCall::If::kAbove,
                              .value = 32,
                              .error = ENOMEM}));
    auto const ring = UringRing::create(128);
    ASSERT_TRUE(ring) << ring.error().message();
    EXPECT_EQ(ring.value().entries(), 32U);
  }}.join();
}

// Older kernels know fewer flags: it is tried again with fewer, down to none. The flags lie in
// memory, where a filter cannot see them, so all that can be refused is everything.
TEST(UringRing, GivesUpWhenNoFlagsHelp) {
  for (int const os_error : {EINVAL, EPERM, ENOSYS, ENOMEM}) {
    std::thread{[&] {
      ASSERT_TRUE(test::refuse({.number = SYS_io_uring_setup,
                                .argument = 0,
                                .condition = test::RefusedCall::If::kAbove,
                                .value = 0,
                                .error = os_error}));
      auto const ring = UringRing::create(8);
      ASSERT_FALSE(ring);
      EXPECT_EQ(ring.error().code(), ErrorCode::kUnavailable);
      EXPECT_EQ(ring.error().os_error(), os_error);
      EXPECT_NE(ring.error().message().find("io_uring_setup"), std::string::npos);
    }}.join();
  }
}

// The probe of operations goes by io_uring_register: an answer that is an error is an old kernel.
TEST(UringRing, RefusesAKernelThatKnowsTooLittle) {
  if (auto const why = uring_refusal(); !why.empty()) GTEST_SKIP() << why;
  std::thread{[] {
    ASSERT_TRUE(test::refuse({.number = SYS_io_uring_register,
                              .argument = 1,
                              .condition = test::RefusedCall::If::kAnyBitOf,
                              .value = 8,  // IORING_REGISTER_PROBE
                              .error = EINVAL}));
    auto const ring = UringRing::create(8);
    ASSERT_FALSE(ring);
    EXPECT_EQ(ring.error().code(), ErrorCode::kUnavailable);
    EXPECT_NE(ring.error().message().find("5.6"), std::string::npos);
  }}.join();
}

TEST(UringRefusal, SaysWhoForbidsIt) {
  struct Case {
    int os_error;
    char const* setting;
    char const* part;
  };
  for (Case const& one :
       {Case{EPERM, "2\n", "kernel.io_uring_disabled = 2"}, Case{EPERM, "1\n", "io_uring_group"},
        Case{EPERM, "0\n", "seccomp"}, Case{EPERM, "", "seccomp"}, Case{ENOSYS, "", "no io_uring"},
        Case{EACCES, "0\n", "security module"}, Case{ENOMEM, "0\n", "RLIMIT_MEMLOCK"},
        Case{EMFILE, "0\n", "descriptor"}, Case{EIO, "0\n", "Input/output error"}}) {
    auto const text = uring_refusal_text(one.os_error, one.setting);
    EXPECT_NE(text.find(one.part), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace lmcache::detail
