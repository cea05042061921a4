// SPDX-License-Identifier: Apache-2.0
// SHA-256 by OpenSSL's EVP interface, without its costs per digest: the algorithm is fetched once
// and kept, and one context serves any number of digests.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include <lmcache/base/result.hpp>

struct evp_md_st;
struct evp_md_ctx_st;

namespace lmcache {

using Sha256Digest = std::array<std::uint8_t, 32>;

// A counted reference to OpenSSL's implementation; cheap to copy. Thread-safe.
class Sha256Algorithm {
 public:
  // kInternal when this OpenSSL offers no SHA-256.
  [[nodiscard]] static Result<Sha256Algorithm> fetch();

  Sha256Algorithm(Sha256Algorithm const& other) noexcept;
  Sha256Algorithm(Sha256Algorithm&& other) noexcept;
  Sha256Algorithm& operator=(Sha256Algorithm other) noexcept;
  ~Sha256Algorithm();

 private:
  friend class Sha256Context;
  explicit Sha256Algorithm(evp_md_st* md) noexcept : md_{md} {}
  evp_md_st* md_;
};

// begin(), update() any number of times, finish(); then begin() again. A failure of any step is
// remembered until begin() and comes out of finish(). Externally synchronised.
class Sha256Context {
 public:
  // kOutOfMemory when OpenSSL cannot allocate.
  [[nodiscard]] static Result<Sha256Context> create(Sha256Algorithm const& algorithm);

  void begin() noexcept;
  void update(void const* bytes, std::size_t size_bytes) noexcept;
  [[nodiscard]] Result<void> finish(Sha256Digest& out);
  // Goes on from where another one is.
  void copy(Sha256Context const& other) noexcept;

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const noexcept;
  };
  explicit Sha256Context(evp_md_ctx_st* context) noexcept : context_{context} {}
  std::unique_ptr<evp_md_ctx_st, Free> context_;
  bool ok_ = false;
};

// One digest, for set-up paths.
[[nodiscard]] Result<Sha256Digest> sha256(std::string_view bytes);

}  // namespace lmcache
