// SPDX-License-Identifier: Apache-2.0
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>

#include "net/socket_fd.hpp"

namespace lmcache::detail {
namespace {

using Clock = Deadline::clock;
using AddressList =
    std::unique_ptr<addrinfo, decltype([](addrinfo* list) { ::freeaddrinfo(list); })>;

// A server whose queue of connections is full says so at once on a Unix socket, and nothing tells
// when there is room again.
constexpr int kBacklogPauseMs = 1;

int poll_ms(Deadline now, Deadline deadline) {
  auto const left = std::chrono::ceil<std::chrono::milliseconds>(deadline - now);
  return static_cast<int>(std::min(left, std::chrono::milliseconds{std::chrono::hours{1}}).count());
}

Result<UniqueFd> new_socket(int family, int protocol) {
  UniqueFd fd{::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol)};
  if (!fd) return socket_error("socket", errno);
  return fd;
}

Result<void> connect_fd(int fd, sockaddr const* address, socklen_t length, Deadline deadline,
                        std::string const& doing) {
  if (::connect(fd, address, length) == 0) return {};
  // After a signal the kernel goes on connecting, as it does after EINPROGRESS.
  if (errno != EINPROGRESS && errno != EINTR) return socket_error(doing, errno);
  LMC_TRY(wait_for(fd, POLLOUT, deadline, doing));
  int error = 0;
  socklen_t error_length = sizeof error;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_length) != 0) error = errno;
  if (error != 0) return socket_error(doing, error);
  return {};
}

Result<UniqueFd> dial_address(addrinfo const& address, Deadline deadline,
                              std::string const& doing) {
  LMC_TRY_ASSIGN(auto fd, new_socket(address.ai_family, address.ai_protocol));
  int const on = 1;
  if (::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
      ::setsockopt(fd.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on) != 0) {
    return socket_error(doing + ": setsockopt", errno);
  }
  LMC_TRY(connect_fd(fd.get(), address.ai_addr, address.ai_addrlen, deadline, doing));
  return fd;
}

// getaddrinfo() has no deadline: it takes as long as the resolver's configuration allows
// (resolv.conf: 5 s a try). Numeric addresses are not resolved.
Result<AddressList> addresses_of(std::string const& host, std::uint16_t port,
                                 std::string const& doing) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* list = nullptr;
  int const failed = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
  if (failed == 0) return AddressList{list};
  int const error = failed == EAI_SYSTEM ? errno : 0;
  return Error{ErrorCode::kUnavailable,
               doing + ": cannot resolve the host name: " +
                   (error != 0 ? std::strerror(error) : ::gai_strerror(failed)),
               error};
}

}  // namespace

Error socket_error(std::string const& what, int error) {
  switch (error) {
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
    case ENOTCONN:
    case ESHUTDOWN:
    case ETIMEDOUT:  // of the kernel: keep-alive or retransmissions gave up
    case EHOSTUNREACH:
    case EHOSTDOWN:
    case ENETUNREACH:
    case ENETDOWN:
    case ENETRESET:
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:  // no IPv6 here, and only such addresses
    case ENOENT:        // of a Unix socket
      return Error{ErrorCode::kUnavailable, what + ": " + std::strerror(error), error};
    default:
      return Error{ErrorCode::kIo, what + ": " + std::strerror(error), error};
  }
}

std::string address_text(std::string const& host, std::uint16_t port) {
  bool const v6 = host.find(':') != std::string::npos;
  return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

Result<void> wait_for(int fd, short events, Deadline deadline, std::string const& doing) {
  for (;;) {
    // Before poll(), so that a peer that takes a byte now and then cannot hold us for ever.
    auto const now = Clock::now();
    if (deadline <= now) return Error{ErrorCode::kTimeout, doing + ": the deadline passed"};
    pollfd waited{.fd = fd, .events = events, .revents = 0};
    int const ready = ::poll(&waited, 1, poll_ms(now, deadline));
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return socket_error(doing + ": poll", errno);
  }
}

void SocketFd::shut() noexcept {
  shut_.store(true);
  ::shutdown(fd_.get(), SHUT_RDWR);  // wakes poll() in other threads
}

Result<void> SocketFd::wait(short events, Deadline deadline, char const* doing) const {
  return wait_for(fd_.get(), events, deadline, doing + (" " + peer_));
}

bool SocketFd::readable() const noexcept {
  if (is_shut()) return true;
  pollfd asked{.fd = fd_.get(), .events = POLLIN, .revents = 0};
  return ::poll(&asked, 1, 0) != 0;
}

Error SocketFd::failure(char const* doing, int error) const {
  std::string const what = doing + (" " + peer_);
  if (is_shut()) return Error{ErrorCode::kUnavailable, what + ": the connection was shut"};
  if (error != 0) return socket_error(what, error);
  return Error{ErrorCode::kUnavailable, what + ": the peer closed the connection"};
}

Result<UniqueFd> dial_tcp(std::string const& host, std::uint16_t port, Deadline deadline) {
  auto const doing = "connect to " + address_text(host, port);
  if (host.empty() || port == 0) {
    return Error{ErrorCode::kInvalidArgument, doing + ": a host and a port other than 0 needed"};
  }
  LMC_TRY_ASSIGN(auto const list, addresses_of(host, port, doing));
  int left = 0;
  for (auto const* at = list.get(); at != nullptr; at = at->ai_next) ++left;
  std::optional<Error> last;
  for (auto const* at = list.get(); at != nullptr; at = at->ai_next, --left) {
    // An address that swallows packets leaves the others their share of the time.
    auto const now = Clock::now();
    auto const until = deadline <= now ? deadline : now + (deadline - now) / left;
    auto fd = dial_address(*at, until, doing);
    if (fd) return fd;
    last = std::move(fd).error();
  }
  if (last) return std::move(*last);
  return Error{ErrorCode::kUnavailable, doing + ": the host has no address"};
}

Result<UniqueFd> dial_unix(std::string const& path, Deadline deadline) {
  auto const doing = "connect to " + path;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return Error{ErrorCode::kInvalidArgument, doing + ": a Unix socket's path has 1 to " +
                                                  std::to_string(sizeof address.sun_path - 1) +
                                                  " bytes, not " + std::to_string(path.size())};
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  LMC_TRY_ASSIGN(auto fd, new_socket(AF_UNIX, 0));
  for (;;) {
    auto connected = connect_fd(fd.get(), reinterpret_cast<sockaddr const*>(&address),
                                sizeof address, deadline, doing);
    if (connected) return fd;
    if (connected.error().os_error() != EAGAIN) return std::move(connected).error();
    if (Clock::now() >= deadline) {
      return Error{ErrorCode::kTimeout,
                   doing + ": the deadline passed, the server's queue is full"};
    }
    ::poll(nullptr, 0, kBacklogPauseMs);
  }
}

}  // namespace lmcache::detail
