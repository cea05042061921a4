// SPDX-License-Identifier: Apache-2.0
// Keys and certificates of a test's own, valid for an hour.
#pragma once

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <memory>
#include <string>

namespace lmcache::test {

// Has a function of C free what a std::unique_ptr owns.
template <auto Free>
struct FreedBy {
  void operator()(auto* at) const { (void)Free(at); }
};

class TlsIdentity {
 public:
  struct Options {
    std::string name;
    std::string alternatives{};           // "DNS:localhost,IP:127.0.0.1"; empty: none, as of a CA
    TlsIdentity const* issuer = nullptr;  // none: itself
  };
  explicit TlsIdentity(Options const& options) : key_{EVP_EC_gen("P-256")}, cert_{X509_new()} {
    auto const* const issuer = options.issuer != nullptr ? options.issuer : this;
    auto* const cert = cert_.get();
    bool good = X509_set_version(cert, X509_VERSION_3) == 1;
    good &= ASN1_INTEGER_set(X509_get_serialNumber(cert), next_serial()) == 1;
    good &= X509_gmtime_adj(X509_getm_notBefore(cert), -3600) != nullptr;
    good &= X509_gmtime_adj(X509_getm_notAfter(cert), 3600) != nullptr;
    good &= X509_set_pubkey(cert, key_.get()) == 1;
    auto const* const text = reinterpret_cast<unsigned char const*>(options.name.c_str());
    good &= X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC, text, -1,
                                       -1, 0) == 1;
    good &= X509_set_issuer_name(cert, X509_get_subject_name(issuer->cert_.get())) == 1;
    if (options.alternatives.empty()) {
      good &= extend(NID_basic_constraints, "critical,CA:TRUE");
    } else {
      good &= extend(NID_subject_alt_name, options.alternatives.c_str());
    }
    good &= X509_sign(cert, issuer->key_.get(), EVP_sha256()) > 0;
    EXPECT_TRUE(good);
  }

  [[nodiscard]] X509* cert() const { return cert_.get(); }
  [[nodiscard]] EVP_PKEY* key() const { return key_.get(); }

  // Both give the path back. With a password the key is encrypted.
  std::string save_cert(std::string const& path) const {
    File const file{std::fopen(path.c_str(), "w")};
    EXPECT_EQ(PEM_write_X509(file.get(), cert_.get()), 1);
    return path;
  }
  std::string save_key(std::string const& path, std::string password = {}) const {
    File const file{std::fopen(path.c_str(), "w")};
    EXPECT_EQ(PEM_write_PKCS8PrivateKey(file.get(), key_.get(),
                                        password.empty() ? nullptr : EVP_aes_128_cbc(),
                                        password.empty() ? nullptr : password.data(),
                                        static_cast<int>(password.size()), nullptr, nullptr),
              1);
    return path;
  }

 private:
  using File = std::unique_ptr<FILE, FreedBy<std::fclose>>;

  static long next_serial() {
    static long serial = 0;
    return ++serial;
  }

  bool extend(int nid, char const* value) {
    auto* const extension = X509V3_EXT_conf_nid(nullptr, nullptr, nid, value);
    bool const added = extension != nullptr && X509_add_ext(cert_.get(), extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return added;
  }

  std::unique_ptr<EVP_PKEY, FreedBy<EVP_PKEY_free>> key_;
  std::unique_ptr<X509, FreedBy<X509_free>> cert_;
};

}  // namespace lmcache::test
