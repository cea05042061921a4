// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>

#include <lmcache/base/bytes.hpp>
#include <lmcache/base/sha256.hpp>

namespace lmcache {
namespace {

// FIPS 180-2, appendix B.
constexpr std::string_view kOfAbc =
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr std::string_view kOfNothing =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

Sha256Context make_context() {
  auto algorithm = Sha256Algorithm::fetch();
  return Sha256Context::create(algorithm.value()).value();
}

TEST(Sha256, OneShot) {
  EXPECT_EQ(to_hex(sha256("abc").value()), kOfAbc);
  EXPECT_EQ(to_hex(sha256("").value()), kOfNothing);
}

TEST(Sha256, OneContextServesManyDigests) {
  auto context = make_context();
  for (int i = 0; i < 3; ++i) {
    Sha256Digest digest{};
    context.begin();
    context.update("a", 1);
    context.update(nullptr, 0);
    context.update("bc", 2);
    ASSERT_TRUE(context.finish(digest));
    EXPECT_EQ(to_hex(digest), kOfAbc);
  }
}

TEST(Sha256, BeginForgetsAnUnfinishedDigest) {
  auto context = make_context();
  Sha256Digest digest{};
  context.begin();
  context.update("xyz", 3);
  context.begin();
  ASSERT_TRUE(context.finish(digest));
  EXPECT_EQ(to_hex(digest), kOfNothing);
}

TEST(Sha256, FinishWithoutBeginFails) {
  auto context = make_context();
  Sha256Digest digest{};
  EXPECT_FALSE(context.finish(digest));
  context.begin();
  ASSERT_TRUE(context.finish(digest));
  EXPECT_FALSE(context.finish(digest));
}

TEST(Sha256, AlgorithmIsCountedAndContextsOutliveIt) {
  std::optional<Sha256Algorithm> first = Sha256Algorithm::fetch().value();
  Sha256Algorithm copy = *first;
  Sha256Algorithm moved = std::move(copy);
  first.reset();
  auto context = Sha256Context::create(moved).value();
  moved = Sha256Algorithm::fetch().value();
  Sha256Digest digest{};
  context.begin();
  context.update("abc", 3);
  ASSERT_TRUE(context.finish(digest));
  EXPECT_EQ(to_hex(digest), kOfAbc);
}

TEST(Sha256, CopiesCount) {
  Sha256Algorithm const algorithm = Sha256Algorithm::fetch().value();
  for (int i = 0; i < 10; ++i) {
    Sha256Algorithm const copy = algorithm;  // an uncounted one would free OpenSSL's own
  }
  EXPECT_EQ(to_hex(sha256("abc").value()), kOfAbc);
  EXPECT_TRUE(Sha256Context::create(algorithm));
}

}  // namespace
}  // namespace lmcache
