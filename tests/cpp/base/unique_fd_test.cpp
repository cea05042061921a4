// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <type_traits>
#include <utility>

#include <lmcache/base/unique_fd.hpp>

namespace lmcache {
namespace {

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) != -1; }
int open_null() { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); }

static_assert(!std::is_copy_constructible_v<UniqueFd>);
static_assert(std::is_nothrow_move_constructible_v<UniqueFd>);

TEST(UniqueFd, ClosesOnDestruction) {
  int const raw = open_null();
  {
    UniqueFd const fd{raw};
    EXPECT_TRUE(fd);
    EXPECT_EQ(fd.get(), raw);
    EXPECT_TRUE(is_open(raw));
  }
  EXPECT_FALSE(is_open(raw));
}

TEST(UniqueFd, EmptyOwnsNothing) {
  UniqueFd fd;
  EXPECT_FALSE(fd);
  EXPECT_EQ(fd.get(), -1);
  fd.reset();
}

TEST(UniqueFd, MovePassesOwnershipAndClosesTheOldOne) {
  int const first = open_null();
  int const second = open_null();
  UniqueFd a{first};
  UniqueFd b{second};
  b = std::move(a);
  EXPECT_EQ(b.get(), first);
  EXPECT_FALSE(is_open(second));
  UniqueFd const c{std::move(b)};
  EXPECT_EQ(c.get(), first);
  EXPECT_TRUE(is_open(first));
}

TEST(UniqueFd, SelfMoveKeepsTheDescriptor) {
  UniqueFd fd{open_null()};
  UniqueFd& same = fd;
  fd = std::move(same);
  EXPECT_TRUE(is_open(fd.get()));
}

TEST(UniqueFd, ReleaseGivesUpWithoutClosing) {
  UniqueFd fd{open_null()};
  int const raw = fd.release();
  EXPECT_FALSE(fd);
  EXPECT_TRUE(is_open(raw));
  ::close(raw);
}

TEST(UniqueFd, ZeroIsADescriptor) {
  UniqueFd fd{0};
  EXPECT_TRUE(fd);
  EXPECT_EQ(fd.release(), 0);
}

}  // namespace
}  // namespace lmcache
