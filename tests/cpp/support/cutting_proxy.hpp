// SPDX-License-Identifier: Apache-2.0
// Stands between a client and a server on a Unix socket, and cuts every connection after so many
// bytes in one direction. For short exchanges: what it passes on fits socket buffers.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <lmcache/base/unique_fd.hpp>

namespace lmcache::test {

// Thread-safe.
class CuttingProxy {
 public:
  enum class Direction : std::uint8_t { kToServer, kToClient };
  static constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

  explicit CuttingProxy(std::string server_path) : server_path_{std::move(server_path)} {
    listener_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    wake_.reset(::eventfd(0, EFD_CLOEXEC));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(::bind(listener_.get(), any, size), 0) << std::strerror(errno);
    EXPECT_EQ(::listen(listener_.get(), 64), 0) << std::strerror(errno);
    EXPECT_EQ(::getsockname(listener_.get(), any, &size), 0) << std::strerror(errno);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread{[this] { run(); }};
  }
  CuttingProxy(CuttingProxy const&) = delete;
  CuttingProxy& operator=(CuttingProxy const&) = delete;
  ~CuttingProxy() {
    std::uint64_t const one = 1;
    (void)!::write(wake_.get(), &one, sizeof one);
    thread_.join();
  }

  [[nodiscard]] std::string url() const { return "redis://127.0.0.1:" + std::to_string(port_); }
  // Of connections that are made from now on.
  void cut_after(Direction direction, std::uint64_t bytes) {
    limits_[0] = direction == Direction::kToServer ? bytes : kNever;
    limits_[1] = direction == Direction::kToClient ? bytes : kNever;
  }
  // Of the connection that passed the most on.
  [[nodiscard]] std::uint64_t longest_bytes(Direction direction) const {
    return longest_[direction == Direction::kToServer ? 0 : 1];
  }

 private:
  struct Pair {
    std::array<UniqueFd, 2> ends;  // the client's, the server's
    std::array<std::uint64_t, 2> passed{};
    std::array<std::uint64_t, 2> limits{};
  };

  void run() {
    std::vector<Pair> pairs;
    for (;;) {
      std::vector<pollfd> waited{{.fd = wake_.get(), .events = POLLIN, .revents = 0},
                                 {.fd = listener_.get(), .events = POLLIN, .revents = 0}};
      for (auto const& pair : pairs) {
        for (auto const& end : pair.ends) {
          waited.push_back({.fd = end.get(), .events = POLLIN, .revents = 0});
        }
      }
      if (::poll(waited.data(), waited.size(), -1) < 0) continue;
      if (waited[0].revents != 0) return;
      std::vector<Pair> kept;
      for (std::size_t i = 0; i < pairs.size(); ++i) {
        bool open = true;
        for (std::size_t from = 0; from < 2 && open; ++from) {
          if (waited[2 + 2 * i + from].revents != 0) open = pass_on(pairs[i], from);
        }
        if (open) kept.push_back(std::move(pairs[i]));
      }
      pairs = std::move(kept);
      if (waited[1].revents != 0) take(pairs);
    }
  }

  void take(std::vector<Pair>& pairs) {
    Pair pair;
    pair.ends[0].reset(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    pair.ends[1].reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    pair.limits = {limits_[0].load(), limits_[1].load()};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    server_path_.copy(address.sun_path, sizeof address.sun_path - 1);
    bool const connected =
        ::connect(pair.ends[1].get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    if (connected && pair.limits[0] != 0 && pair.limits[1] != 0) pairs.push_back(std::move(pair));
  }

  // False: the connection ends here.
  bool pass_on(Pair& pair, std::size_t from) {
    std::array<char, 16384> buffer;
    auto const got = ::recv(pair.ends[from].get(), buffer.data(), buffer.size(), 0);
    if (got <= 0) return false;
    auto const part = std::min<std::uint64_t>(static_cast<std::uint64_t>(got),
                                              pair.limits[from] - pair.passed[from]);
    // Counted before they go out: who has received them may look.
    pair.passed[from] += part;
    longest_[from] = std::max(longest_[from].load(), pair.passed[from]);
    for (std::size_t at = 0; at < part;) {
      auto const sent =
          ::send(pair.ends[1 - from].get(), buffer.data() + at, part - at, MSG_NOSIGNAL);
      if (sent <= 0) return false;
      at += static_cast<std::size_t>(sent);
    }
    return pair.passed[from] < pair.limits[from];
  }

  std::string const server_path_;
  UniqueFd listener_;
  UniqueFd wake_;
  std::uint16_t port_ = 0;
  std::array<std::atomic<std::uint64_t>, 2> limits_{kNever, kNever};
  std::array<std::atomic<std::uint64_t>, 2> longest_{0, 0};
  std::thread thread_;
};

}  // namespace lmcache::test
