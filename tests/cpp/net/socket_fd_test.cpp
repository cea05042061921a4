// SPDX-License-Identifier: Apache-2.0
#include "net/socket_fd.hpp"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "loopback_peer.hpp"
#include "support/must.hpp"
#include "support/temp_directory.hpp"

namespace lmcache::test {
namespace {

using detail::address_text;
using detail::dial_tcp;
using detail::dial_unix;
using detail::socket_error;
using detail::wait_for;

int option_of(UniqueFd const& fd, int level, int option) {
  int value = 0;
  socklen_t length = sizeof value;
  EXPECT_EQ(::getsockopt(fd.get(), level, option, &value, &length), 0);
  return value;
}

TEST(SocketFd, DialledSocketHasItsOptions) {
  Listener const listener;
  auto const fd = must(dial_tcp("127.0.0.1", listener.port(), far_away()));
  EXPECT_NE(option_of(fd, IPPROTO_TCP, TCP_NODELAY), 0);
  EXPECT_NE(option_of(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
  EXPECT_NE(::fcntl(fd.get(), F_GETFL) & O_NONBLOCK, 0);
  EXPECT_EQ(::fcntl(fd.get(), F_GETFD), FD_CLOEXEC);
}

TEST(SocketFd, EveryAddressOfAHostIsTried) {
  Listener const listener;  // not on ::1, which localhost often is first
  (void)must(dial_tcp("localhost", listener.port(), far_away()));
}

TEST(SocketFd, Ipv6) {
  Listener const listener{{.ipv6 = true}};
  if (!listener.up()) GTEST_SKIP() << "no IPv6 here";
  (void)must(dial_tcp("::1", listener.port(), far_away()));
}

TEST(SocketFd, RefusedSaysWhere) {
  Listener const listener{{.backlog = -1}};  // holds the port, but does not listen
  auto const fd = dial_tcp("127.0.0.1", listener.port(), far_away());
  ASSERT_FALSE(fd);
  EXPECT_EQ(fd.error().code(), ErrorCode::kUnavailable);
  EXPECT_EQ(fd.error().os_error(), ECONNREFUSED);
  EXPECT_NE(fd.error().message().find("127.0.0.1:" + std::to_string(listener.port())),
            std::string::npos);
}

TEST(SocketFd, UnknownHostIsUnavailable) {
  // Longer than a name may be, so no server is asked.
  auto const fd = dial_tcp(std::string(300, 'a'), 1, far_away());
  ASSERT_FALSE(fd);
  EXPECT_EQ(fd.error().code(), ErrorCode::kUnavailable);
  EXPECT_NE(fd.error().message().find("resolve"), std::string::npos);
}

TEST(SocketFd, NoHostOrPortIsACallersError) {
  EXPECT_EQ(dial_tcp("", 1, far_away()).error().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(dial_tcp("127.0.0.1", 0, far_away()).error().code(), ErrorCode::kInvalidArgument);
}

// The kernel drops what comes when the queue of connections is full.
TEST(SocketFd, ConnectHasADeadline) {
  Listener const listener{{.backlog = 0}};
  std::vector<UniqueFd> queued;
  for (int i = 0; i < 16; ++i) {
    auto fd = dial_tcp("127.0.0.1", listener.port(),
                       Deadline::clock::now() + std::chrono::milliseconds{300});
    if (!fd) {
      EXPECT_EQ(fd.error().code(), ErrorCode::kTimeout);
      return;
    }
    queued.push_back(std::move(fd).value());
  }
  ADD_FAILURE() << "a queue of 0 took 16 connections";
}

TEST(SocketFd, UnixConnectHasADeadline) {
  TempDirectory const folder;
  Listener const listener{{.backlog = 0, .unix_path = folder / "s"}};
  auto const first = must(dial_unix(folder / "s", far_away()));
  auto const second = dial_unix(folder / "s", soon());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), ErrorCode::kTimeout);
}

TEST(SocketFd, UnixConnectWaitsForRoom) {
  TempDirectory const folder;
  Listener const listener{{.backlog = 0, .unix_path = folder / "s"}};
  auto const first = must(dial_unix(folder / "s", far_away()));
  std::jthread const server{[&] {
    for (int i = 0; i < 2; ++i) EXPECT_TRUE(listener.accept());
  }};
  (void)must(dial_unix(folder / "s", far_away()));
}

TEST(SocketFd, UnixPaths) {
  TempDirectory const folder;
  auto const missing = dial_unix(folder / "none", far_away());
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), ErrorCode::kUnavailable);
  EXPECT_NE(missing.error().message().find(folder / "none"), std::string::npos);
  for (std::size_t const length : {std::size_t{0}, sizeof(sockaddr_un::sun_path)}) {
    auto const refused = dial_unix(std::string(length, 'a'), far_away());
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(refused.error().message().find("107"), std::string::npos);
  }
}

TEST(SocketFd, ErrorsNameTheReaction) {
  for (int const gone : {ECONNREFUSED, ECONNRESET, EPIPE, ETIMEDOUT, EHOSTUNREACH, ENOENT}) {
    EXPECT_EQ(socket_error("x", gone).code(), ErrorCode::kUnavailable);
    EXPECT_EQ(socket_error("x", gone).os_error(), gone);
  }
  for (int const other : {EMFILE, EACCES, EBADF}) {
    EXPECT_EQ(socket_error("x", other).code(), ErrorCode::kIo);
    EXPECT_EQ(socket_error("x", other).os_error(), other);
  }
}

TEST(SocketFd, AddressText) {
  EXPECT_EQ(address_text("h", 1), "h:1");
  EXPECT_EQ(address_text("::1", 65535), "[::1]:65535");
}

TEST(SocketFd, WaitsUpToAnyDeadline) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  UniqueFd const out{ends[0]};
  UniqueFd const in{ends[1]};
  for (auto const passed : {Deadline::min(), Deadline::clock::now(), soon()}) {
    auto const waited = wait_for(out.get(), POLLIN, passed, "x");
    ASSERT_FALSE(waited);
    EXPECT_EQ(waited.error().code(), ErrorCode::kTimeout);
  }
  ASSERT_EQ(::write(in.get(), "a", 1), 1);
  EXPECT_TRUE(wait_for(out.get(), POLLIN, Deadline::max(), "x"));
  EXPECT_EQ(wait_for(out.get(), POLLIN, Deadline::min(), "x").error().code(), ErrorCode::kTimeout);
}

}  // namespace
}  // namespace lmcache::test
