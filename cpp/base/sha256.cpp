// SPDX-License-Identifier: Apache-2.0
#include <openssl/evp.h>

#include <utility>

#include <lmcache/base/sha256.hpp>

namespace lmcache {

Result<Sha256Algorithm> Sha256Algorithm::fetch() {
  EVP_MD* const md = EVP_MD_fetch(nullptr, "SHA2-256", nullptr);
  if (md == nullptr) {
    return Error{ErrorCode::kInternal, "OpenSSL offers no SHA-256 (no provider loaded)"};
  }
  return Sha256Algorithm{md};
}

Sha256Algorithm::Sha256Algorithm(Sha256Algorithm const& other) noexcept : md_{other.md_} {
  if (md_ != nullptr) EVP_MD_up_ref(md_);
}

Sha256Algorithm::Sha256Algorithm(Sha256Algorithm&& other) noexcept
    : md_{std::exchange(other.md_, nullptr)} {}

Sha256Algorithm& Sha256Algorithm::operator=(Sha256Algorithm other) noexcept {
  std::swap(md_, other.md_);
  return *this;
}

Sha256Algorithm::~Sha256Algorithm() { EVP_MD_free(md_); }

void Sha256Context::Free::operator()(evp_md_ctx_st* context) const noexcept {
  EVP_MD_CTX_free(context);
}

Result<Sha256Context> Sha256Context::create(Sha256Algorithm const& algorithm) {
  EVP_MD_CTX* const raw = EVP_MD_CTX_new();
  Sha256Context context{raw};
  if (raw == nullptr || EVP_DigestInit_ex2(raw, algorithm.md_, nullptr) != 1) {
    return Error{ErrorCode::kOutOfMemory, "OpenSSL could not make a SHA-256 context"};
  }
  return context;
}

void Sha256Context::begin() noexcept {
  // A null algorithm keeps the one of create(): no fetch, no allocation.
  ok_ = EVP_DigestInit_ex2(context_.get(), nullptr, nullptr) == 1;
}

void Sha256Context::update(void const* bytes, std::size_t size_bytes) noexcept {
  ok_ = ok_ && EVP_DigestUpdate(context_.get(), bytes, size_bytes) == 1;
}

Result<void> Sha256Context::finish(Sha256Digest& out) {
  bool const ok = std::exchange(ok_, false);
  if (!ok || EVP_DigestFinal_ex(context_.get(), out.data(), nullptr) != 1) {
    return Error{ErrorCode::kInternal, "OpenSSL failed to compute a SHA-256"};
  }
  return {};
}

void Sha256Context::copy(Sha256Context const& other) noexcept {
  ok_ = other.ok_ && EVP_MD_CTX_copy_ex(context_.get(), other.context_.get()) == 1;
}

Result<Sha256Digest> sha256(std::string_view bytes) {
  LMC_TRY_ASSIGN(auto algorithm, Sha256Algorithm::fetch());
  LMC_TRY_ASSIGN(auto context, Sha256Context::create(algorithm));
  Sha256Digest digest{};
  context.begin();
  context.update(bytes.data(), bytes.size());
  LMC_TRY(context.finish(digest));
  return digest;
}

}  // namespace lmcache
