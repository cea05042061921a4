// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <limits>
#include <utility>

#include <lmcache/base/mapped_region.hpp>
#include <lmcache/base/unique_fd.hpp>

namespace lmcache {
namespace {

constexpr std::uint64_t kPage = 4096;

UniqueFd make_file(std::uint64_t size_bytes) {
  UniqueFd fd{::memfd_create("mapped_region_test", MFD_CLOEXEC)};
  EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(size_bytes)), 0);
  return fd;
}

bool is_mapped(std::byte* address) {
  unsigned char resident = 0;
  return ::mincore(address, kPage, &resident) == 0;
}

TEST(MappedRegion, TwoMappingsOfAFileShareBytesAfterItsDescriptorIsClosed) {
  UniqueFd fd = make_file(2 * kPage);
  auto a = MappedRegion::map_file({.fd = fd.get(), .size_bytes = 2 * kPage});
  auto b = MappedRegion::map_file(
      {.fd = fd.get(), .offset_bytes = kPage, .size_bytes = kPage, .access = MapAccess::kRead});
  ASSERT_TRUE(a);
  ASSERT_TRUE(b);
  fd.reset();
  EXPECT_EQ(a.value().size_bytes(), 2 * kPage);
  EXPECT_EQ(a.value().bytes().size(), 2 * kPage);
  a.value().data()[kPage] = std::byte{42};
  EXPECT_EQ(b.value().data()[0], std::byte{42});
}

TEST(MappedRegion, AnonymousIsZeroed) {
  auto region = MappedRegion::map_anonymous(kPage);
  ASSERT_TRUE(region);
  for (std::byte const byte : region.value().bytes()) EXPECT_EQ(byte, std::byte{0});
}

TEST(MappedRegion, MoveKeepsTheAddressAndUnmapsOnce) {
  auto made = MappedRegion::map_anonymous(kPage);
  ASSERT_TRUE(made);
  std::byte* const address = made.value().data();
  {
    MappedRegion a{std::move(made).value()};
    MappedRegion b;
    EXPECT_FALSE(b);
    b = std::move(a);
    EXPECT_EQ(b.data(), address);
    EXPECT_TRUE(is_mapped(address));
  }
  EXPECT_FALSE(is_mapped(address));
}

TEST(MappedRegion, AssignmentUnmapsWhatWasThere) {
  auto first = MappedRegion::map_anonymous(kPage);
  auto second = MappedRegion::map_anonymous(kPage);
  std::byte* const old = first.value().data();
  first.value() = std::move(second).value();
  EXPECT_FALSE(is_mapped(old));
  EXPECT_TRUE(is_mapped(first.value().data()));
}

TEST(MappedRegion, RefusesWhatCannotBeMapped) {
  auto const empty = MappedRegion::map_anonymous(0);
  ASSERT_FALSE(empty);
  EXPECT_EQ(empty.error().code(), ErrorCode::kInvalidArgument);

  auto const no_file = MappedRegion::map_file({.fd = -1, .size_bytes = kPage});
  ASSERT_FALSE(no_file);
  EXPECT_EQ(no_file.error().code(), ErrorCode::kInvalidArgument);

  UniqueFd const fd = make_file(kPage);
  auto const unaligned =
      MappedRegion::map_file({.fd = fd.get(), .offset_bytes = 1, .size_bytes = kPage});
  ASSERT_FALSE(unaligned);
  EXPECT_EQ(unaligned.error().code(), ErrorCode::kIo);
  EXPECT_EQ(unaligned.error().os_error(), EINVAL);

  auto const too_large = MappedRegion::map_anonymous(std::uint64_t{1} << 62);
  ASSERT_FALSE(too_large);
  EXPECT_EQ(too_large.error().code(), ErrorCode::kOutOfMemory);
  EXPECT_NE(too_large.error().message().find("4 EiB"), std::string::npos);

  EXPECT_FALSE(MappedRegion::map_anonymous(std::numeric_limits<std::uint64_t>::max()));
}

}  // namespace
}  // namespace lmcache
