// SPDX-License-Identifier: Apache-2.0
// What plain and TLS streams share: a connected, non-blocking socket and its deadlines.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <utility>

#include <lmcache/base/result.hpp>
#include <lmcache/base/unique_fd.hpp>
#include <lmcache/net/stream.hpp>

namespace lmcache::detail {

// kUnavailable for what says that the peer is not there or gone, kIo for the rest.
[[nodiscard]] Error socket_error(std::string const& what, int error);

// "host:port", with the brackets of IPv6.
[[nodiscard]] std::string address_text(std::string const& host, std::uint16_t port);

// Externally synchronised, but for shut().
class SocketFd {
 public:
  // peer is for messages.
  SocketFd(UniqueFd fd, std::string peer) noexcept : fd_{std::move(fd)}, peer_{std::move(peer)} {}

  [[nodiscard]] int get() const noexcept { return fd_.get(); }
  [[nodiscard]] std::string const& peer() const noexcept { return peer_; }
  [[nodiscard]] bool is_shut() const noexcept { return shut_.load(); }
  void shut() noexcept;

  // For POLLIN or POLLOUT, or an end of the connection, which the next call will report.
  [[nodiscard]] Result<void> wait(short events, Deadline deadline, char const* doing) const;
  [[nodiscard]] bool readable() const noexcept;

  // What to say after `error`, or after an end of file where it is 0.
  [[nodiscard]] Error failure(char const* doing, int error) const;

 private:
  UniqueFd fd_;
  std::string peer_;
  // The kernel still hands out bytes that came before shutdown(); this stops them.
  std::atomic<bool> shut_ = false;
};

// kTimeout or nothing, as poll() sees it; works on any descriptor.
[[nodiscard]] Result<void> wait_for(int fd, short events, Deadline deadline,
                                    std::string const& doing);

[[nodiscard]] Result<UniqueFd> dial_tcp(std::string const& host, std::uint16_t port,
                                        Deadline deadline);
[[nodiscard]] Result<UniqueFd> dial_unix(std::string const& path, Deadline deadline);

}  // namespace lmcache::detail
