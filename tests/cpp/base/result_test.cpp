// SPDX-License-Identifier: Apache-2.0
#include <lmcache/base/result.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <string>
#include <string_view>

namespace lmcache {
namespace {

Result<int> half(int number) {
  if (number % 2 != 0) return Error{ErrorCode::kInvalidArgument, "odd"};
  return number / 2;
}

Result<void> write_all(bool fails) {
  if (fails) return Error{ErrorCode::kIo, "pwrite", ENOSPC};
  return {};
}

Result<int> quarter(int number) {
  LMC_TRY_ASSIGN(int const first, half(number));
  LMC_TRY_ASSIGN(int const second, half(first));
  return second;
}

Result<int> half_after_write(bool fails) {
  LMC_TRY(write_all(fails));
  return half(4);
}

TEST(Result, HoldsAValue) {
  auto result = half(6);
  ASSERT_TRUE(result);
  EXPECT_TRUE(result.has_value());
  EXPECT_EQ(result.value(), 3);
  result.value() = 4;
  EXPECT_EQ(std::as_const(result).value(), 4);
}

TEST(Result, HoldsAnErrorWithCodeMessageAndPlace) {
  auto const result = half(7);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(result.error().message(), "odd");
  EXPECT_EQ(result.error().os_error(), 0);
  EXPECT_NE(std::string_view{result.error().where().file_name()}.find("result_test"),
            std::string_view::npos);
}

TEST(Result, VoidIsOkByDefaultAndKeepsTheOsError) {
  EXPECT_TRUE(write_all(false).has_value());
  auto const failed = write_all(true);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code(), ErrorCode::kIo);
  EXPECT_EQ(failed.error().os_error(), ENOSPC);
}

TEST(Result, MovesAValueThatCannotBeCopied) {
  Result<std::unique_ptr<int>> result{std::make_unique<int>(5)};
  std::unique_ptr<int> const owned = std::move(result).value();
  EXPECT_EQ(*owned, 5);
}

TEST(Error, ContextIsPutInFront) {
  Error const error = Error{ErrorCode::kCorrupted, "checksum"}.with_context("disk tier");
  EXPECT_EQ(error.message(), "disk tier: checksum");
  EXPECT_EQ(error.code(), ErrorCode::kCorrupted);
}

TEST(Error, ContextNestsOutwards) {
  auto error = Error{ErrorCode::kTimeout, "recv"}.with_context("peer").with_context("load");
  EXPECT_EQ(error.message(), "load: peer: recv");
}

TEST(Try, BindsValuesAndReturnsTheFirstError) {
  EXPECT_EQ(quarter(12).value(), 3);
  EXPECT_EQ(quarter(6).error().message(), "odd");
}

TEST(Try, StopsAtAFailedStatement) {
  EXPECT_EQ(half_after_write(false).value(), 2);
  EXPECT_EQ(half_after_write(true).error().code(), ErrorCode::kIo);
}

}  // namespace
}  // namespace lmcache
