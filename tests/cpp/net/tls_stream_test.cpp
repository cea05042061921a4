// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <fstream>
#include <future>
#include <memory>
#include <string>
#include <thread>

#include <lmcache/net/stream.hpp>

#include "support/must.hpp"
#include "support/temp_directory.hpp"
#include "tls_server.hpp"

namespace lmcache::test {
namespace {

// TlsOptions of which only some are named.
struct Given {
  std::string ca{};
  std::string cert{};
  std::string key{};
  bool verify = true;
  operator TlsOptions() const {  // NOLINT(google-explicit-constructor)
    return {.ca_file = ca, .cert_file = cert, .key_file = key, .verify = verify};
  }
};

class TlsStream : public testing::Test {
 protected:
  [[nodiscard]] TlsOptions trusting() const { return Given{.ca = ca_file_}; }
  [[nodiscard]] TlsServer::Options serving() const { return {.identity = server_}; }

  Result<std::unique_ptr<Stream>> connect(TlsServer const& server, TlsOptions const& options,
                                          std::string const& host = "localhost") {
    return connect_tls(host, server.port(), options, far_away());
  }

  // Fails to connect, for a reason that has these words.
  void refused(TlsServer::Options const& served, TlsOptions const& options,
               std::string const& words) {
    TlsServer const server{served, [](SSL* ssl) { (void)receive(ssl, 1); }};
    auto const stream = connect(server, options);
    ASSERT_FALSE(stream);
    EXPECT_EQ(stream.error().code(), ErrorCode::kUnavailable);
    EXPECT_NE(stream.error().message().find(words), std::string::npos) << stream.error().message();
    EXPECT_NE(stream.error().message().find("localhost:" + std::to_string(server.port())),
              std::string::npos);
  }

  TempDirectory const folder_;
  TlsIdentity const ca_{{.name = "a test's CA"}};
  TlsIdentity const other_ca_{{.name = "another CA"}};
  TlsIdentity const server_{
      {.name = "server", .alternatives = "DNS:localhost,IP:127.0.0.1", .issuer = &ca_}};
  TlsIdentity const client_{{.name = "client", .alternatives = "DNS:client", .issuer = &ca_}};
  std::string const ca_file_ = ca_.save_cert(folder_ / "ca.pem");
};

class TlsVersions : public TlsStream, public testing::WithParamInterface<int> {};

TEST_P(TlsVersions, LargePayloadsBothWays) {
  auto const sent = random_bytes(kPayloadBytes, 1);
  TlsServer const server{{.identity = server_, .only_version = GetParam()},
                         [](SSL* ssl) { send_all(ssl, receive(ssl, kPayloadBytes)); }};
  auto const stream = must(connect(server, trusting()));
  must(stream->write_all(cut(sent), far_away()));
  EXPECT_EQ(must(read_all(*stream, kPayloadBytes, 1000003)), sent);
}

INSTANTIATE_TEST_SUITE_P(Each, TlsVersions, testing::Values(TLS1_2_VERSION, TLS1_3_VERSION));

TEST_F(TlsStream, OlderVersionsAreRefused) {
  TlsServer::Options served = serving();
  served.only_version = TLS1_1_VERSION;
  refused(served, trusting(), "TLS");
}

TEST_F(TlsStream, ServerIsAskedForByName) {
  for (auto const& [host, asked] : {std::pair{"localhost", "localhost"}, {"127.0.0.1", "(none)"}}) {
    std::promise<std::string> named;
    auto future = named.get_future();
    TlsServer const server{serving(), [&](SSL* ssl) {
                             char const* const name =
                                 SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
                             named.set_value(name != nullptr ? name : "(none)");
                           }};
    auto const stream = must(connect(server, trusting(), host));
    ASSERT_EQ(future.wait_for(kPatience), std::future_status::ready);
    EXPECT_EQ(future.get(), asked);
  }
}

TEST_F(TlsStream, UnknownAuthorityIsRefused) {
  refused(serving(), Given{.ca = other_ca_.save_cert(folder_ / "other.pem")},
          "not trusted: unable to get local issuer certificate");
  refused(serving(), {}, "not trusted");  // nor is it one of the system's
}

TEST_F(TlsStream, AnotherNameIsRefused) {
  TlsIdentity const elsewhere{
      {.name = "localhost", .alternatives = "DNS:elsewhere,IP:127.0.0.2", .issuer = &ca_}};
  refused({.identity = elsewhere}, trusting(), "not trusted: hostname mismatch");
  TlsServer const server{{.identity = elsewhere}, [](SSL*) {}};
  auto const stream = connect(server, trusting(), "127.0.0.1");
  ASSERT_FALSE(stream);
  EXPECT_NE(stream.error().message().find("IP address mismatch"), std::string::npos)
      << stream.error().message();
}

TEST_F(TlsStream, NothingIsRefusedWithoutVerification) {
  TlsIdentity const stranger{
      {.name = "stranger", .alternatives = "DNS:elsewhere", .issuer = &other_ca_}};
  TlsServer const server{{.identity = stranger}, [](SSL* ssl) { send_all(ssl, receive(ssl, 3)); }};
  auto const stream = must(connect(server, Given{.verify = false}));
  auto const sent = random_bytes(3, 2);
  must(write(*stream, sent, far_away()));
  EXPECT_EQ(must(read_all(*stream, 3, 3)), sent);
}

TEST_F(TlsStream, ClientCertificate) {
  TlsServer::Options served = serving();
  served.client_ca = &ca_;
  TlsServer const server{served, [](SSL* ssl) { send_all(ssl, receive(ssl, 3)); }};
  TlsOptions options = trusting();
  options.cert_file = client_.save_cert(folder_ / "client.pem");
  options.key_file = client_.save_key(folder_ / "client.key");
  auto const stream = must(connect(server, options));
  auto const sent = random_bytes(3, 3);
  must(write(*stream, sent, far_away()));
  EXPECT_EQ(must(read_all(*stream, 3, 3)), sent);
}

// From TLS 1.3 on the client is done with its handshake before the server looks at it.
TEST_F(TlsStream, ClientWithoutCertificateIsTurnedAway) {
  TlsServer::Options served = serving();
  served.client_ca = &ca_;
  served.only_version = TLS1_2_VERSION;
  refused(served, trusting(), "handshake failure");
  served.only_version = TLS1_3_VERSION;
  TlsServer const server{served, [](SSL*) { ADD_FAILURE() << "let in"; }};
  auto const stream = must(connect(server, trusting()));
  Bytes into(1);
  auto const read = stream->read_some(into, far_away());
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code(), ErrorCode::kUnavailable);
  EXPECT_NE(read.error().message().find("certificate required"), std::string::npos)
      << read.error().message();
  EXPECT_TRUE(stream->readable());
  EXPECT_EQ(stream->read_some(into, far_away()).error().code(), ErrorCode::kUnavailable);
}

TEST_F(TlsStream, FilesThatCannotBeUsed) {
  auto const cert = client_.save_cert(folder_ / "client.pem");
  auto const key = client_.save_key(folder_ / "client.key");
  auto const locked = client_.save_key(folder_ / "locked.key", "secret");
  auto const others = server_.save_key(folder_ / "server.key");
  auto const none = folder_ / "none.pem";
  std::ofstream{folder_ / "text.pem"} << "no certificate";
  struct Case {
    Given options;
    std::string named;
  };
  for (auto const& [options, named] : std::vector<Case>{
           {{.ca = none}, none},
           {{.ca = folder_ / "text.pem"}, "text.pem"},
           {{.ca = none, .verify = false}, none},
           {{.cert = none, .key = key}, none},
           {{.cert = cert, .key = none}, none},
           {{.cert = cert, .key = locked}, "locked.key"},
           {{.cert = cert, .key = others}, "server.key"},
           {{.cert = cert}, "client.pem"},
           {{.key = key}, "client.key"},
       }) {
    SCOPED_TRACE(named);
    auto const stream = connect_tls("127.0.0.1", 1, options, far_away());
    ASSERT_FALSE(stream);
    EXPECT_EQ(stream.error().code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(stream.error().message().find(named), std::string::npos) << stream.error().message();
  }
}

TEST_F(TlsStream, KeyMayLieInTheCertificatesFile) {
  TlsServer::Options served = serving();
  served.client_ca = &ca_;
  served.only_version = TLS1_2_VERSION;
  TlsServer const server{served, [](SSL* ssl) { (void)receive(ssl, 1); }};
  TlsOptions options = trusting();
  options.cert_file = client_.save_cert(folder_ / "client.pem");
  std::ofstream{options.cert_file, std::ios::app}
      << std::ifstream{client_.save_key(folder_ / "client.key")}.rdbuf();
  (void)must(connect(server, options));
}

TEST_F(TlsStream, HandshakeHasADeadline) {
  Listener const listener;  // takes the connection and says nothing
  auto const stream = connect_tls("127.0.0.1", listener.port(), trusting(), soon());
  ASSERT_FALSE(stream);
  EXPECT_EQ(stream.error().code(), ErrorCode::kTimeout);
}

TEST_F(TlsStream, ServerWithoutTls) {
  Listener const listener;
  std::jthread const server{[&] {
    auto const fd = listener.accept();
    std::string const said = "-ERR unknown command\r\n";
    send_all(fd.get(), std::as_bytes(std::span{said}));
    (void)receive(fd.get(), 1 << 20);
  }};
  auto const stream = connect_tls("127.0.0.1", listener.port(), trusting(), far_away());
  ASSERT_FALSE(stream);
  EXPECT_EQ(stream.error().code(), ErrorCode::kUnavailable);
  EXPECT_NE(stream.error().message().find("wrong version number"), std::string::npos)
      << stream.error().message();
}

TEST_F(TlsStream, RefusedConnection) {
  Listener const listener{{.backlog = -1}};
  auto const stream = connect_tls("127.0.0.1", listener.port(), trusting(), far_away());
  ASSERT_FALSE(stream);
  EXPECT_EQ(stream.error().os_error(), ECONNREFUSED);
}

TEST_F(TlsStream, PeerCloses) {
  auto const sent = random_bytes(10, 4);
  for (bool const with_notice : {true, false}) {
    TlsServer const server{serving(), [&](SSL* ssl) {
                             send_all(ssl, sent);
                             if (with_notice) SSL_shutdown(ssl);
                           }};
    auto const stream = must(connect(server, trusting()));
    EXPECT_EQ(must(read_all(*stream, 10, 3)), sent);
    EXPECT_TRUE(becomes_readable(*stream));
    Bytes into(1);
    auto const read = stream->read_some(into, far_away());
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code(), ErrorCode::kUnavailable);
    EXPECT_NE(read.error().message().find("closed"), std::string::npos) << read.error().message();
  }
}

TEST_F(TlsStream, PeerClosesInTheMiddleOfAWrite) {
  TlsServer const server{serving(), [](SSL* ssl) {
                           EXPECT_EQ(receive(ssl, 100000).size(), 100000U);
                           reset_on_close(SSL_get_fd(ssl));
                         }};
  auto const stream = must(connect(server, trusting()));
  Result<void> written;
  for (int i = 0; i < 100 && written; ++i) {
    written = write(*stream, Bytes(kPayloadBytes), far_away());
  }
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code(), ErrorCode::kUnavailable);
  EXPECT_EQ(write(*stream, Bytes(1), far_away()).error().code(), ErrorCode::kUnavailable);
}

// With OpenSSL's own socket BIO this ends the program. It writes without MSG_NOSIGNAL.
TEST_F(TlsStream, WritesAfterThePeerClosedRaiseNoSignal) {
  auto server = std::make_unique<TlsServer>(serving(), [](SSL*) {});
  auto const stream = must(connect(*server, trusting()));
  server.reset();  // a reset that follows an end of file makes the next write EPIPE
  Result<void> written;
  for (auto const end = far_away(); written && Deadline::clock::now() < end;) {
    written = write(*stream, Bytes(1), far_away());
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code(), ErrorCode::kUnavailable);
  EXPECT_EQ(written.error().os_error(), EPIPE);
}

TEST_F(TlsStream, PeerIsToldOfTheEnd) {
  std::promise<int> ended;
  auto future = ended.get_future();
  TlsServer const server{serving(), [&](SSL* ssl) {
                           (void)receive(ssl, 1);
                           ended.set_value(SSL_get_shutdown(ssl));
                         }};
  must(connect(server, trusting())).reset();
  ASSERT_EQ(future.wait_for(kPatience), std::future_status::ready);
  EXPECT_EQ(future.get() & SSL_RECEIVED_SHUTDOWN, SSL_RECEIVED_SHUTDOWN);
}

TEST_F(TlsStream, DeadlinesOfReadAndWrite) {
  std::promise<void> over;
  TlsServer const server{serving(), [done = over.get_future().share()](SSL*) { done.wait(); }};
  auto const stream = must(connect(server, trusting()));
  Bytes into(1);
  EXPECT_EQ(stream->read_some(into, soon()).error().code(), ErrorCode::kTimeout);
  auto const written = write(*stream, Bytes(4 * kPayloadBytes), soon());
  EXPECT_EQ(written ? ErrorCode::kInternal : written.error().code(), ErrorCode::kTimeout);
  over.set_value();
}

TEST_F(TlsStream, ShutEndsAReadAndLaterCalls) {
  TlsServer const server{serving(), [](SSL* ssl) { (void)receive(ssl, 1); }};
  auto const stream = must(connect(server, trusting()));
  Bytes into(1);
  {
    std::jthread const other{[&] {
      std::this_thread::sleep_for(std::chrono::milliseconds{50});  // mostly it waits by then
      stream->shut();
    }};
    auto const read = stream->read_some(into, far_away());
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code(), ErrorCode::kUnavailable);
    EXPECT_NE(read.error().message().find("shut"), std::string::npos);
  }
  EXPECT_TRUE(stream->readable());
  EXPECT_EQ(stream->read_some(into, far_away()).error().code(), ErrorCode::kUnavailable);
  EXPECT_EQ(write(*stream, into, far_away()).error().code(), ErrorCode::kUnavailable);
}

// Of TLS 1.3 the server's session tickets lie in the socket after the handshake; they are no bytes.
TEST_F(TlsStream, ReadableIsAboutBytesNotRecords) {
  std::promise<void> asked;
  auto const sent = random_bytes(2, 5);
  TlsServer const server{serving(), [&, go = asked.get_future().share()](SSL* ssl) {
                           (void)receive(ssl, 1);
                           go.wait();
                           send_all(ssl, sent);
                           (void)receive(ssl, 1);
                         }};
  auto const stream = must(connect(server, trusting()));
  must(write(*stream, Bytes(1), far_away()));
  for (int i = 0; i < 20; ++i) {  // while the tickets arrive
    EXPECT_FALSE(stream->readable());
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  asked.set_value();
  EXPECT_TRUE(becomes_readable(*stream));
  Bytes one(1);
  EXPECT_EQ(must(stream->read_some(one, far_away())), 1U);
  EXPECT_TRUE(stream->readable());  // of the same record
  EXPECT_EQ(must(stream->read_some(one, far_away())), 1U);
  EXPECT_EQ(one[0], sent[1]);
  EXPECT_FALSE(stream->readable());
}

}  // namespace
}  // namespace lmcache::test
