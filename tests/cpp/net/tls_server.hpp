// SPDX-License-Identifier: Apache-2.0
// Accepts one TLS connection, in a thread.
#pragma once

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <csignal>
#include <functional>
#include <memory>
#include <thread>

#include "loopback_peer.hpp"
#include "tls_identity.hpp"

namespace lmcache::test {

class TlsServer {
 public:
  struct Options {
    TlsIdentity const& identity;
    TlsIdentity const* client_ca = nullptr;  // then a client must have a certificate of it
    int only_version = 0;                    // 0: any
  };
  // Runs when hands are shaken; the connection is closed after it, without notice.
  using Body = std::function<void(SSL*)>;

  TlsServer(Options const& options, Body body) : context_{SSL_CTX_new(TLS_server_method())} {
    auto* const context = context_.get();
    EXPECT_EQ(SSL_CTX_use_certificate(context, options.identity.cert()), 1);
    EXPECT_EQ(SSL_CTX_use_PrivateKey(context, options.identity.key()), 1);
    if (options.only_version != 0) {
      SSL_CTX_set_min_proto_version(context, options.only_version);
      SSL_CTX_set_max_proto_version(context, options.only_version);
    }
    if (options.client_ca != nullptr) {
      EXPECT_EQ(X509_STORE_add_cert(SSL_CTX_get_cert_store(context), options.client_ca->cert()), 1);
      SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    }
    thread_ = std::jthread{[this, body = std::move(body)] { serve(body); }};
  }

  [[nodiscard]] std::uint16_t port() const { return listener_.port(); }

 private:
  void serve(Body const& body) {
    // OpenSSL writes with write(). The client's thread must do without: it is what is tested.
    sigset_t pipe{};
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
    auto const fd = listener_.accept();
    std::unique_ptr<SSL, FreedBy<SSL_free>> const ssl{SSL_new(context_.get())};
    SSL_set_fd(ssl.get(), fd.get());
    if (SSL_accept(ssl.get()) == 1) body(ssl.get());
    ERR_clear_error();
  }

  Listener listener_;
  std::unique_ptr<SSL_CTX, FreedBy<SSL_CTX_free>> context_;
  std::jthread thread_;
};

inline Bytes receive(SSL* ssl, std::size_t size_bytes) {
  Bytes bytes(size_bytes);
  std::size_t used = 0;
  std::size_t got = 0;
  while (used < size_bytes && SSL_read_ex(ssl, bytes.data() + used, size_bytes - used, &got) == 1) {
    used += got;
  }
  bytes.resize(used);
  return bytes;
}

inline void send_all(SSL* ssl, Bytes const& bytes) {
  std::size_t sent = 0;
  (void)SSL_write_ex(ssl, bytes.data(), bytes.size(), &sent);
}

}  // namespace lmcache::test
