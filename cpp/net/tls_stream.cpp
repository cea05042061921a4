// SPDX-License-Identifier: Apache-2.0
// OpenSSL drives a non-blocking socket; it says whether it wants to read or to write next, and the
// waiting is ours. It knows the socket through a BIO of our own, since its socket BIO writes with
// write(), which raises SIGPIPE.
#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <lmcache/net/stream.hpp>

#include "net/socket_fd.hpp"

namespace lmcache {
namespace {

using detail::SocketFd;
using Pieces = std::span<std::span<std::byte const> const>;
using ContextPtr = std::unique_ptr<SSL_CTX, decltype([](SSL_CTX* at) { ::SSL_CTX_free(at); })>;
using SslPtr = std::unique_ptr<SSL, decltype([](SSL* at) { ::SSL_free(at); })>;
using MethodPtr =
    std::unique_ptr<BIO_METHOD, decltype([](BIO_METHOD* at) { ::BIO_meth_free(at); })>;

// A record's most. Smaller pieces are put together, so that each is not a record of its own (29
// bytes and a cipher call more); larger ones go to OpenSSL where they lie.
constexpr std::size_t kRecordBytes = 16 * 1024;
constexpr std::size_t kSmallBytes = 4 * 1024;

// The reason of the oldest error in this thread's queue: later ones only say who passed it on.
std::string queued_reason() {
  auto const code = ::ERR_peek_error();
  if (code == 0) return "no reason given";
  if (ERR_SYSTEM_ERROR(code)) return std::strerror(ERR_GET_REASON(code));
  char const* const reason = ::ERR_reason_error_string(code);
  return reason != nullptr ? reason : "OpenSSL error " + std::to_string(code);
}

Error no_memory(char const* what) {
  return Error{ErrorCode::kOutOfMemory, std::string{"OpenSSL could not make "} + what};
}

Error unusable(char const* what, std::string const& file) {
  return Error{ErrorCode::kInvalidArgument,
               "TLS: " + std::string{what} + " " + file + " cannot be used: " + queued_reason()};
}

Result<void> load_own_certificate(SSL_CTX* context, TlsOptions const& options) {
  if (options.cert_file.empty()) {
    if (options.key_file.empty()) return {};
    return Error{ErrorCode::kInvalidArgument,
                 "TLS: the key " + options.key_file + " needs a certificate"};
  }
  auto const& key_file = options.key_file.empty() ? options.cert_file : options.key_file;
  ::ERR_clear_error();
  if (::SSL_CTX_use_certificate_chain_file(context, options.cert_file.c_str()) != 1) {
    return unusable("the certificate", options.cert_file);
  }
  // Fails, too, when it is another certificate's.
  if (::SSL_CTX_use_PrivateKey_file(context, key_file.c_str(), SSL_FILETYPE_PEM) != 1) {
    return unusable("the key", key_file);
  }
  return {};
}

// One for each connection: there are few, and the files may have been renewed in between.
Result<ContextPtr> make_context(TlsOptions const& options) {
  ::ERR_clear_error();
  ContextPtr context{::SSL_CTX_new(::TLS_client_method())};
  if (!context) return no_memory("a TLS context");
  ::SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  // Otherwise OpenSSL asks the terminal for the password of an encrypted key.
  ::SSL_CTX_set_default_passwd_cb(context.get(), [](char*, int, int, void*) { return -1; });
  ::SSL_CTX_set_mode(context.get(),
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  ::SSL_CTX_set_verify(context.get(), options.verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
  if (!options.ca_file.empty()) {
    if (::SSL_CTX_load_verify_file(context.get(), options.ca_file.c_str()) != 1) {
      return unusable("the CA file", options.ca_file);
    }
  } else if (options.verify && ::SSL_CTX_set_default_verify_paths(context.get()) != 1) {
    return unusable("what the system trusts", "");
  }
  LMC_TRY(load_own_certificate(context.get(), options));
  return context;
}

bool is_ip(std::string const& host) {
  in6_addr room{};
  return ::inet_pton(AF_INET, host.c_str(), &room) == 1 ||
         ::inet_pton(AF_INET6, host.c_str(), &room) == 1;
}

// Whom the certificate must name; with a name, also what the server is asked for (SNI takes no
// addresses: RFC 6066, section 3).
bool set_name(SSL* ssl, std::string const& host) {
  auto const name = host.find(':') == std::string::npos ? host : host.substr(0, host.find('%'));
  if (is_ip(name)) {
    return ::X509_VERIFY_PARAM_set1_ip_asc(::SSL_get0_param(ssl), name.c_str()) == 1;
  }
  ::SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  return ::SSL_set1_host(ssl, name.c_str()) == 1 &&
         SSL_set_tlsext_host_name(ssl, name.c_str()) == 1;
}

// Externally synchronised, but for shut(), which touches the socket only: OpenSSL's state has no
// lock.
class TlsStream final : public Stream {
 public:
  TlsStream(UniqueFd fd, std::string peer) : socket_{std::move(fd), std::move(peer)} {}

  ~TlsStream() override {
    // Tells the peer that this is the end and no cut, if there is room to say so at once.
    if (complete_ && !socket_.is_shut()) ::SSL_shutdown(ssl_.get());
    ::ERR_clear_error();
  }

  Result<void> handshake(SSL_CTX* context, std::string const& host, Deadline deadline) {
    ssl_.reset(::SSL_new(context));
    method_ = make_method();
    BIO* const bio = method_ ? ::BIO_new(method_.get()) : nullptr;
    if (!ssl_ || bio == nullptr) {
      ::BIO_free(bio);
      return no_memory("a TLS connection");
    }
    ::BIO_set_data(bio, this);
    ::BIO_set_init(bio, 1);
    ::SSL_set_bio(ssl_.get(), bio, bio);
    if (!set_name(ssl_.get(), host)) {
      return Error{ErrorCode::kInvalidArgument,
                   "TLS: not a name that a certificate can have: " + host};
    }
    auto done = drive("TLS handshake with", deadline,
                      [this](std::size_t&) { return ::SSL_connect(ssl_.get()); });
    return done ? Result<void>{} : named_failure(std::move(done).error());
  }

  Result<std::size_t> read_some(std::span<std::byte> into, Deadline deadline) override {
    return drive("read from", deadline, [&](std::size_t& moved) {
      return ::SSL_read_ex(ssl_.get(), into.data(), into.size(), &moved);
    });
  }

  Result<void> write_all(Pieces pieces, Deadline deadline) override {
    std::array<std::byte, kRecordBytes> small;
    std::size_t used = 0;
    for (auto const piece : pieces) {
      bool const is_small = piece.size() < kSmallBytes;
      if (!is_small || used + piece.size() > small.size()) {
        LMC_TRY(write(std::span{small}.first(used), deadline));
        used = 0;
      }
      if (!is_small) {
        LMC_TRY(write(piece, deadline));
      } else if (!piece.empty()) {
        std::memcpy(small.data() + used, piece.data(), piece.size());
        used += piece.size();
      }
    }
    return write(std::span{small}.first(used), deadline);
  }

  // Looks into OpenSSL, not at the socket: what lies there may be half a record or a session
  // ticket, and what lies in OpenSSL the socket no longer has.
  bool readable() override {
    if (failed_ || socket_.is_shut()) return true;
    ::ERR_clear_error();
    std::byte peeked{};
    std::size_t got = 0;
    int const done = ::SSL_peek_ex(ssl_.get(), &peeked, 1, &got);
    if (done == 1) return true;
    int const why = ::SSL_get_error(ssl_.get(), done);
    return why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE;
  }

  void shut() noexcept override { socket_.shut(); }

 private:
  static MethodPtr make_method() {
    MethodPtr method{::BIO_meth_new(BIO_TYPE_SOURCE_SINK, "lmcache socket")};
    if (!method) return method;
    ::BIO_meth_set_write(method.get(), [](BIO* bio, char const* from, int length) {
      return self(bio).transferred(bio, BIO_FLAGS_WRITE, [&](int fd) {
        return ::send(fd, from, static_cast<std::size_t>(length), MSG_NOSIGNAL);
      });
    });
    ::BIO_meth_set_read(method.get(), [](BIO* bio, char* into, int length) {
      return self(bio).transferred(bio, BIO_FLAGS_READ, [&](int fd) {
        return ::recv(fd, into, static_cast<std::size_t>(length), 0);
      });
    });
    ::BIO_meth_set_ctrl(method.get(), [](BIO* bio, int command, long, void*) -> long {
      if (command == BIO_CTRL_EOF) return self(bio).end_of_file_ ? 1 : 0;
      return command == BIO_CTRL_FLUSH ? 1 : 0;  // nothing is held back
    });
    return method;
  }

  static TlsStream& self(BIO* bio) { return *static_cast<TlsStream*>(::BIO_get_data(bio)); }

  template <class Transfer>
  int transferred(BIO* bio, int direction, Transfer transfer) {
    ::BIO_clear_retry_flags(bio);
    ssize_t moved = 0;
    do {
      moved = transfer(socket_.get());
    } while (moved < 0 && errno == EINTR);
    if (moved == 0 && direction == BIO_FLAGS_READ) end_of_file_ = true;
    if (moved < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      ::BIO_set_flags(bio, direction | BIO_FLAGS_SHOULD_RETRY);
    } else if (moved < 0) {
      socket_errno_ = errno;
    }
    return static_cast<int>(moved);
  }

  // Calls `call` until it is done; it returns 1 then, and says how much it moved.
  template <class Call>
  Result<std::size_t> drive(char const* doing, Deadline deadline, Call call) {
    for (;;) {
      if (socket_.is_shut() || failed_) return socket_.failure(doing, 0);
      ::ERR_clear_error();  // SSL_get_error() looks at the queue of the thread
      std::size_t moved = 0;
      int const done = call(moved);
      complete_ = done == 1;
      if (complete_) return moved;
      switch (int const why = ::SSL_get_error(ssl_.get(), done)) {
        case SSL_ERROR_WANT_READ:
          LMC_TRY(socket_.wait(POLLIN, deadline, doing));
          break;
        case SSL_ERROR_WANT_WRITE:
          LMC_TRY(socket_.wait(POLLOUT, deadline, doing));
          break;
        default:
          return ended(doing, why);
      }
    }
  }

  Error ended(char const* doing, int why) {
    failed_ = true;
    bool const closed = why == SSL_ERROR_ZERO_RETURN || end_of_file_;
    if (closed || socket_errno_ != 0 || socket_.is_shut()) {
      return socket_.failure(doing, socket_errno_);
    }
    return Error{ErrorCode::kUnavailable,
                 doing + (" " + socket_.peer()) + ": TLS: " + queued_reason()};
  }

  // The queue only has "certificate verify failed".
  Error named_failure(Error error) {
    long const verified = ::SSL_get_verify_result(ssl_.get());
    if (verified == X509_V_OK || error.code() != ErrorCode::kUnavailable ||
        ::SSL_get_verify_mode(ssl_.get()) == SSL_VERIFY_NONE) {
      return error;
    }
    return Error{ErrorCode::kUnavailable, "TLS handshake with " + socket_.peer() +
                                              ": its certificate is not trusted: " +
                                              ::X509_verify_cert_error_string(verified)};
  }

  Result<void> write(std::span<std::byte const> bytes, Deadline deadline) {
    while (!bytes.empty()) {
      LMC_TRY_ASSIGN(auto const sent, drive("write to", deadline, [&](std::size_t& moved) {
                       return ::SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &moved);
                     }));
      bytes = bytes.subspan(sent);
    }
    return {};
  }

  SocketFd socket_;
  MethodPtr method_;  // outlives the BIO in ssl_
  SslPtr ssl_;
  int socket_errno_ = 0;
  bool end_of_file_ = false;
  bool complete_ = false;  // the last call did what it had to
  bool failed_ = false;    // OpenSSL forbids further calls
};

}  // namespace

Result<std::unique_ptr<Stream>> connect_tls(std::string const& host, std::uint16_t port,
                                            TlsOptions const& options, Deadline deadline) {
  LMC_TRY_ASSIGN(auto const context, make_context(options));
  LMC_TRY_ASSIGN(auto fd, detail::dial_tcp(host, port, deadline));
  auto stream = std::make_unique<TlsStream>(std::move(fd), detail::address_text(host, port));
  LMC_TRY(stream->handshake(context.get(), host, deadline));
  return std::unique_ptr<Stream>{std::move(stream)};
}

}  // namespace lmcache
