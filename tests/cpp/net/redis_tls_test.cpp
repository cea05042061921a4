// SPDX-License-Identifier: Apache-2.0
// A real redis-server that speaks TLS only, with a certificate authority of the test's own.
#include <gtest/gtest.h>

#include <string>

#include <lmcache/net/redis_connection.hpp>

#include "net/tls_identity.hpp"
#include "support/redis_server.hpp"
#include "support/temp_directory.hpp"

namespace lmcache::test {
namespace {

Deadline soon() { return std::chrono::steady_clock::now() + std::chrono::seconds{20}; }

class RedisTls : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!RedisServer::is_installed()) GTEST_SKIP() << "redis-server is not installed";
  }

  // Where the server listens with TLS: a port that was free a moment ago.
  [[nodiscard]] static std::uint16_t spare_port() {
    RedisServer const other;
    return other.port();
  }

  [[nodiscard]] Result<std::unique_ptr<RedisConnection>> open(std::uint16_t port,
                                                              std::string const& query) const {
    std::string text{"rediss://localhost:"};
    text.append(std::to_string(port)).append("?").append(query);
    LMC_TRY_ASSIGN(auto const url, parse_redis_url(text));
    return RedisConnection::open(url, url.hosts.front(), soon());
  }

  TempDirectory folder_;
  TlsIdentity authority_{{.name = "lmcache test authority"}};
  TlsIdentity server_{
      {.name = "server", .alternatives = "DNS:localhost,IP:127.0.0.1", .issuer = &authority_}};
  TlsIdentity client_{{.name = "client", .alternatives = "DNS:client", .issuer = &authority_}};
  std::string ca_ = authority_.save_cert(folder_ / "ca.pem");
  std::string server_cert_ = server_.save_cert(folder_ / "server.pem");
  std::string server_key_ = server_.save_key(folder_ / "server.key");
  std::string client_cert_ = client_.save_cert(folder_ / "client.pem");
  std::string client_key_ = client_.save_key(folder_ / "client.key");
};

TEST_F(RedisTls, AsksForWhatTheServerWantsAndRefusesAStranger) {
  auto const port = spare_port();
  RedisServer const server{{"--tls-port", std::to_string(port), "--tls-cert-file", server_cert_,
                            "--tls-key-file", server_key_, "--tls-ca-cert-file", ca_,
                            "--tls-auth-clients", "yes"}};
  if (!server.running()) GTEST_SKIP() << "this redis-server has no TLS";

  auto const known = open(port, "ca=" + ca_ + "&cert=" + client_cert_ + "&key=" + client_key_);
  ASSERT_TRUE(known) << known.error().message();
  std::string const value(3'000'000, 'v');
  auto const stored = known.value()->call({"SET", "k", value}, soon());
  ASSERT_TRUE(stored) << stored.error().message();
  auto const got = known.value()->call({"GET", "k"}, soon());
  ASSERT_TRUE(got) << got.error().message();
  EXPECT_EQ(got.value().text, value);

  EXPECT_FALSE(open(port, "ca=" + ca_));  // no certificate of a client
  auto const stranger = open(port, "cert=" + client_cert_ + "&key=" + client_key_);
  ASSERT_FALSE(stranger);  // whom nobody here trusts
  EXPECT_EQ(stranger.error().code(), ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace lmcache::test
