// SPDX-License-Identifier: Apache-2.0
// The other end of a connection: a listening socket on loopback or in a folder, and what it
// accepts. Its calls block, and give up after kPatience so that a failed test does not hang.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <lmcache/base/unique_fd.hpp>
#include <lmcache/net/stream.hpp>

namespace lmcache::test {

using Bytes = std::vector<std::byte>;
inline constexpr std::chrono::seconds kPatience{60};
inline constexpr std::size_t kPayloadBytes = std::size_t{8} * 1024 * 1024;

// Long enough that it only passes when something hangs.
inline Deadline far_away() { return Deadline::clock::now() + kPatience; }
inline Deadline soon() { return Deadline::clock::now() + std::chrono::milliseconds{50}; }

inline Bytes random_bytes(std::size_t size_bytes, std::uint64_t seed) {
  std::mt19937_64 random{seed};
  Bytes bytes(size_bytes);
  for (auto& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

class Listener {
 public:
  struct Options {
    int backlog = 8;
    int buffer_bytes = 0;  // of both directions of what is accepted; 0: as the system has it
    std::string unix_path{};
    bool ipv6 = false;
  };
  Listener() : Listener{Options{}} {}
  explicit Listener(Options const& options) {
    sockaddr_storage address{};
    socklen_t const length = fill(address, options);
    fd_.reset(::socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (options.buffer_bytes != 0) {
      for (int const option : {SO_SNDBUF, SO_RCVBUF}) {
        ::setsockopt(fd_.get(), SOL_SOCKET, option, &options.buffer_bytes, sizeof(int));
      }
    }
    up_ = ::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), length) == 0 &&
          (options.backlog < 0 || ::listen(fd_.get(), options.backlog) == 0);
    EXPECT_TRUE(up_ || options.ipv6) << std::strerror(errno);
    socklen_t named = sizeof address;
    ::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &named);
    // The port lies at the same place in both families.
    port_ = ntohs(reinterpret_cast<sockaddr_in*>(&address)->sin_port);
  }

  [[nodiscard]] bool up() const { return up_; }
  [[nodiscard]] std::uint16_t port() const { return port_; }

  // No descriptor where nobody came.
  [[nodiscard]] UniqueFd accept() const {
    pollfd waited{.fd = fd_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&waited, 1, std::chrono::milliseconds{kPatience}.count()) != 1) return UniqueFd{};
    UniqueFd fd{::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC)};
    timeval const patience{.tv_sec = kPatience.count(), .tv_usec = 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    return fd;
  }

 private:
  static socklen_t fill(sockaddr_storage& address, Options const& options) {
    if (!options.unix_path.empty()) {
      auto& at = *reinterpret_cast<sockaddr_un*>(&address);
      at.sun_family = AF_UNIX;
      options.unix_path.copy(at.sun_path, sizeof at.sun_path - 1);
      return sizeof at;
    }
    if (options.ipv6) {
      auto& at = *reinterpret_cast<sockaddr_in6*>(&address);
      at.sin6_family = AF_INET6;
      at.sin6_addr = in6addr_loopback;
      return sizeof at;
    }
    auto& at = *reinterpret_cast<sockaddr_in*>(&address);
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return sizeof at;
  }

  UniqueFd fd_;
  bool up_ = false;
  std::uint16_t port_ = 0;
};

// Up to size_bytes; fewer where the connection ended.
inline Bytes receive(int fd, std::size_t size_bytes) {
  Bytes bytes(size_bytes);
  std::size_t used = 0;
  while (used < size_bytes) {
    auto const got = ::recv(fd, bytes.data() + used, size_bytes - used, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    used += static_cast<std::size_t>(got);
  }
  bytes.resize(used);
  return bytes;
}

inline void send_all(int fd, std::span<std::byte const> bytes) {
  while (!bytes.empty()) {
    auto const sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return;
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
}

// So that close() resets the connection.
inline void reset_on_close(int fd) {
  linger const now{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

// What read_some() gives until size_bytes are there.
inline Result<Bytes> read_all(Stream& stream, std::size_t size_bytes, std::size_t at_most) {
  Bytes bytes(size_bytes);
  std::size_t used = 0;
  while (used < size_bytes) {
    auto const room = std::span{bytes}.subspan(used);
    LMC_TRY_ASSIGN(auto const got,
                   stream.read_some(room.first(std::min(at_most, room.size())), far_away()));
    EXPECT_GT(got, 0U);
    used += got;
  }
  return bytes;
}

inline Result<void> write(Stream& stream, std::span<std::byte const> bytes, Deadline deadline) {
  return stream.write_all(std::span{&bytes, 1}, deadline);
}

// False when it did not come to be in a long time.
inline bool becomes_readable(Stream& stream) {
  for (auto const end = far_away(); Deadline::clock::now() < end;) {
    if (stream.readable()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  return false;
}

// Cuts of many sizes, none among them, that together are the bytes.
inline std::vector<std::span<std::byte const>> cut(std::span<std::byte const> bytes) {
  std::vector<std::span<std::byte const>> pieces;
  for (std::size_t const size : {0U, 1U, 3U, 0U, 5000U, 100000U, 4095U, 4096U, 16384U}) {
    pieces.push_back(bytes.first(size));
    bytes = bytes.subspan(size);
  }
  for (int i = 0; i < 300; ++i) {  // more than a call of the kernel takes
    pieces.push_back(bytes.first(100));
    bytes = bytes.subspan(100);
  }
  pieces.push_back(bytes);
  pieces.push_back(bytes.last(0));
  return pieces;
}

}  // namespace lmcache::test
