// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include <lmcache/net/stream.hpp>

#include "net/socket_fd.hpp"

namespace lmcache {
namespace {

using detail::SocketFd;
using Pieces = std::span<std::span<std::byte const> const>;

// What is still to be sent of some pieces.
class Unsent {
 public:
  explicit Unsent(Pieces pieces) : pieces_{pieces} { skip_empty(); }

  [[nodiscard]] bool empty() const { return pieces_.empty(); }

  // As many pieces as one call takes. Valid until advance().
  [[nodiscard]] std::span<iovec> vector() {
    std::size_t count = 0;
    std::size_t from = offset_;
    for (auto const piece : pieces_) {
      if (count == vector_.size()) break;
      auto const rest = piece.subspan(from);
      from = 0;
      // sendmsg() only reads; iovec serves both directions and so knows no const.
      vector_[count++] = {.iov_base = const_cast<std::byte*>(rest.data()), .iov_len = rest.size()};
    }
    return std::span{vector_}.first(count);
  }

  void advance(std::size_t sent_bytes) {
    while (sent_bytes > 0) {
      auto const taken = std::min(sent_bytes, pieces_.front().size() - offset_);
      offset_ += taken;
      sent_bytes -= taken;
      skip_empty();
    }
  }

 private:
  void skip_empty() {
    while (!pieces_.empty() && offset_ == pieces_.front().size()) {
      pieces_ = pieces_.subspan(1);
      offset_ = 0;
    }
  }

  Pieces pieces_;
  std::size_t offset_ = 0;  // into the first
  std::array<iovec, 64> vector_;
};

// Calls try first and wait only when the kernel says so: mostly the bytes, or the room, are there.
class SocketStream final : public Stream {
 public:
  SocketStream(UniqueFd fd, std::string peer) : socket_{std::move(fd), std::move(peer)} {}

  Result<std::size_t> read_some(std::span<std::byte> into, Deadline deadline) override {
    constexpr auto kDoing = "read from";
    for (;;) {
      if (socket_.is_shut()) return socket_.failure(kDoing, 0);
      auto const got = ::recv(socket_.get(), into.data(), into.size(), 0);
      if (got > 0) return static_cast<std::size_t>(got);
      if (got == 0) return socket_.failure(kDoing, 0);
      LMC_TRY(after_failure(errno, POLLIN, deadline, kDoing));
    }
  }

  Result<void> write_all(Pieces pieces, Deadline deadline) override {
    constexpr auto kDoing = "write to";
    Unsent unsent{pieces};
    while (!unsent.empty()) {
      if (socket_.is_shut()) return socket_.failure(kDoing, 0);
      auto const vector = unsent.vector();
      msghdr message{};
      message.msg_iov = vector.data();
      message.msg_iovlen = vector.size();
      auto const sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
      if (sent >= 0) {
        unsent.advance(static_cast<std::size_t>(sent));
      } else {
        LMC_TRY(after_failure(errno, POLLOUT, deadline, kDoing));
      }
    }
    return {};
  }

  bool readable() override { return socket_.readable(); }
  void shut() noexcept override { socket_.shut(); }

 private:
  // Nothing when the call is to be tried again.
  Result<void> after_failure(int error, short events, Deadline deadline, char const* doing) {
    if (error == EINTR) return {};
    if (error == EAGAIN || error == EWOULDBLOCK) return socket_.wait(events, deadline, doing);
    return socket_.failure(doing, error);
  }

  SocketFd socket_;
};

}  // namespace

Result<std::unique_ptr<Stream>> connect_tcp(std::string const& host, std::uint16_t port,
                                            Deadline deadline) {
  LMC_TRY_ASSIGN(auto fd, detail::dial_tcp(host, port, deadline));
  return std::unique_ptr<Stream>{
      std::make_unique<SocketStream>(std::move(fd), detail::address_text(host, port))};
}

Result<std::unique_ptr<Stream>> connect_unix(std::string const& path, Deadline deadline) {
  LMC_TRY_ASSIGN(auto fd, detail::dial_unix(path, deadline));
  return std::unique_ptr<Stream>{std::make_unique<SocketStream>(std::move(fd), path)};
}

}  // namespace lmcache
