// SPDX-License-Identifier: Apache-2.0
#include <lmcache/key/key_chain.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <lmcache/base/sha256.hpp>
#include <lmcache/key/namespace_spec.hpp>

#include "key/key_vectors.hpp"

namespace lmcache {
namespace {

ChunkKey digest(std::string_view text) { return ChunkKey{sha256(text).value()}; }

KeyChain make_chain(std::uint32_t chunk_tokens) {
  return KeyChain::create(digest("root"), chunk_tokens).value();
}

std::vector<std::uint32_t> counting(std::uint32_t n, std::uint32_t first = 0) {
  std::vector<std::uint32_t> tokens(n);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

template <class T>
void expect_refused(Result<T> const& result, std::string const& part) {
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ErrorCode::kInvalidArgument);
  EXPECT_NE(result.error().message().find(part), std::string::npos) << result.error().message();
}

KeyChain chain_of(test::VectorCase const& one, std::size_t piece) {
  ChunkKey const root = test::key_from_hex(one.text.at("root"));
  KeyChain chain = KeyChain::create(root, one.number("chunk_tokens")).value();
  for (auto const& item : one.items) EXPECT_TRUE(chain.add_item(item));
  auto const tokens = std::span{one.tokens};
  for (std::size_t at = 0; at < tokens.size(); at += piece) {
    EXPECT_TRUE(chain.append(tokens.subspan(at, std::min(piece, tokens.size() - at))));
  }
  return chain;
}

TEST(KeyChain, VectorFileWhateverThePieces) {
  auto const cases = test::read_vectors("chain");
  ASSERT_GE(cases.size(), 5U);
  for (auto const& one : cases) {
    for (std::size_t const piece : {1UL, 3UL, 1000UL}) {
      KeyChain const chain = chain_of(one, piece);
      ASSERT_EQ(chain.chunk_count(), one.keys.size()) << one.name;
      for (std::uint32_t i = 0; i < chain.chunk_count(); ++i) {
        EXPECT_EQ(chain.keys()[i], one.keys[i]) << one.name << ", chunk " << i;
        EXPECT_EQ(chain.parent_of(i + 1), one.keys[i]);
        std::uint32_t const end = (i + 1) * chain.chunk_tokens();
        EXPECT_EQ(chain.tail_key(i, end).value(), one.keys[i]);
      }
      for (auto const& tail : one.tails) {
        EXPECT_EQ(chain.tail_key(tail.chunk, tail.end_token).value(), tail.key)
            << one.name << ", tail that ends at " << tail.end_token;
      }
    }
  }
}

TEST(KeyChain, FillingInIsAppending) {
  for (std::uint32_t const count : {0U, 1U, 4U, 9U, 1000U}) {
    KeyChain appended = make_chain(4);
    KeyChain filled = make_chain(4);
    for (std::uint32_t const first : {0U, 7U}) {
      auto const tokens = counting(count, first);
      ASSERT_TRUE(appended.append(tokens));
      auto const room = filled.extend(count);
      ASSERT_TRUE(room);
      ASSERT_EQ(room.value().size(), count);
      std::ranges::copy(tokens, room.value().begin());
      ASSERT_TRUE(filled.accept());
    }
    EXPECT_TRUE(std::ranges::equal(filled.tokens(), appended.tokens()));
    EXPECT_TRUE(std::ranges::equal(filled.keys(), appended.keys()));
  }
}

TEST(KeyChain, WhatWasFilledInIsTakenBack) {
  KeyChain chain = make_chain(4);
  ASSERT_TRUE(chain.append(counting(6)));
  auto const room = chain.extend(9);
  ASSERT_TRUE(room);
  std::ranges::fill(room.value(), 3U);
  room.value()[2] = kMaxTokenId + 1;
  expect_refused(chain.accept(), "token id 2147483648 at position 8");
  EXPECT_EQ(chain.token_count(), 6U);
  EXPECT_EQ(chain.chunk_count(), 1U);

  ASSERT_TRUE(chain.extend(100));
  chain.abandon();
  EXPECT_EQ(chain.token_count(), 6U);
  expect_refused(chain.extend(kMaxTokenId), "a prompt of 2147483653 tokens");
  EXPECT_EQ(chain.token_count(), 6U);

  KeyChain untouched = make_chain(4);
  ASSERT_TRUE(untouched.append(counting(6)));
  ASSERT_TRUE(untouched.append(counting(6)));
  ASSERT_TRUE(chain.append(counting(6)));
  EXPECT_TRUE(std::ranges::equal(chain.keys(), untouched.keys()));
}

TEST(KeyChain, EmptyChain) {
  KeyChain const chain = make_chain(4);
  EXPECT_EQ(chain.token_count(), 0U);
  EXPECT_EQ(chain.chunk_count(), 0U);
  EXPECT_EQ(chain.parent_of(0), chain.root());
  EXPECT_TRUE(chain.items_overlapping(0, 100).empty());
  EXPECT_FALSE(chain.tail_key(0, 0));
}

TEST(KeyChain, CreateRefusesChunkSizes) {
  expect_refused(KeyChain::create(ChunkKey{}, 0), "chunk_tokens is 0, allowed: 1 to 1048576");
  expect_refused(KeyChain::create(ChunkKey{}, kMaxChunkTokens + 1), "chunk_tokens is 1048577");
}

TEST(KeyChain, ChangeOfOneTokenChangesItsKeyAndAllLaterOnes) {
  auto tokens = counting(32);
  KeyChain a = make_chain(8);
  ASSERT_TRUE(a.append(tokens));
  tokens[17] ^= 1;
  KeyChain b = make_chain(8);
  ASSERT_TRUE(b.append(tokens));
  EXPECT_EQ(a.keys()[0], b.keys()[0]);
  EXPECT_EQ(a.keys()[1], b.keys()[1]);
  EXPECT_NE(a.keys()[2], b.keys()[2]);
  EXPECT_NE(a.keys()[3], b.keys()[3]);
}

TEST(KeyChain, BadTokenIdAppendsNothing) {
  KeyChain chain = make_chain(4);
  ASSERT_TRUE(chain.append(counting(6)));
  std::vector<std::uint32_t> tokens = counting(8);
  tokens[3] = 0x80000000;
  tokens[5] = 0xFFFFFFFF;
  expect_refused(chain.append(tokens), "token id 2147483648 at position 9, allowed: 0 to 21474836");
  EXPECT_EQ(chain.token_count(), 6U);
  EXPECT_EQ(chain.chunk_count(), 1U);
  tokens[3] = tokens[5] = kMaxTokenId;
  EXPECT_TRUE(chain.append(tokens));
  EXPECT_EQ(chain.token_count(), 14U);
}

TEST(KeyChain, BadTokenIdIsFoundAtEveryPosition) {
  for (std::uint32_t size : {1U, 15U, 16U, 17U, 40U}) {
    for (std::uint32_t bad = 0; bad < size; ++bad) {
      KeyChain chain = make_chain(4);
      auto tokens = counting(size);
      tokens[bad] = 0x80000000;
      expect_refused(chain.append(tokens), "at position " + std::to_string(bad) + ",");
    }
  }
}

TEST(KeyChain, CopiesGoTheirOwnWays) {
  KeyChain a = make_chain(4);
  ASSERT_TRUE(a.append(counting(6)));
  KeyChain b = a;
  ASSERT_TRUE(a.append(counting(2, 6)));
  ASSERT_TRUE(b.append(counting(2, 60)));
  EXPECT_EQ(a.keys()[0], b.keys()[0]);
  EXPECT_NE(a.keys()[1], b.keys()[1]);
  KeyChain const c = std::move(a);
  KeyChain d = make_chain(4);
  ASSERT_TRUE(d.append(counting(8)));
  EXPECT_EQ(c.keys()[1], d.keys()[1]);
  EXPECT_EQ(c.token_count(), 8U);
}

TEST(KeyChain, TailKeyRefusesWhatIsNoTail) {
  KeyChain chain = make_chain(4);
  ASSERT_TRUE(chain.append(counting(10)));
  EXPECT_TRUE(chain.tail_key(2, 10));
  EXPECT_TRUE(chain.tail_key(1, 5));
  expect_refused(chain.tail_key(2, 8), "tail chunk 2 that ends before token 8");
  expect_refused(chain.tail_key(2, 11), "the prompt has 10 tokens in chunks of 4");
  expect_refused(chain.tail_key(1, 9), "tail chunk 1");
  expect_refused(chain.tail_key(3, 13), "tail chunk 3");
  expect_refused(chain.tail_key(0xFFFFFFFF, 10), "tail chunk 4294967295");
}

TEST(KeyChain, AllTailsOfAChunkHaveTheKeysThatEachHas) {
  KeyChain chain = make_chain(8);
  ASSERT_TRUE(chain.append(counting(21)));
  for (auto const& [chunk, end] : {std::pair{0U, 8U}, {1U, 11U}, {2U, 21U}}) {
    auto const keys = chain.tail_keys(chunk, end);
    ASSERT_TRUE(keys);
    ASSERT_EQ(keys.value().size(), end - chunk * 8);
    for (std::uint32_t i = 0; i < keys.value().size(); ++i) {
      EXPECT_EQ(keys.value()[i], chain.tail_key(chunk, chunk * 8 + i + 1).value());
    }
  }
  expect_refused(chain.tail_keys(2, 22), "the prompt has 21 tokens in chunks of 8");
}

TEST(KeyChain, AllTailsEndBeforeTheFirstItem) {
  KeyChain chain = make_chain(8);
  ASSERT_TRUE(chain.append(counting(3)));
  ASSERT_TRUE(chain.add_item({.first_token = 3, .tokens = 2}));
  ASSERT_TRUE(chain.append(counting(8)));
  EXPECT_EQ(chain.tail_keys(0, 8).value().size(), 3U);
  EXPECT_EQ(chain.tail_keys(1, 11).value().size(), 3U);
}

TEST(KeyChain, ItemsMustComeInOrderAndBeforeTheirTokens) {
  KeyChain chain = make_chain(8);
  ASSERT_TRUE(chain.append(counting(5)));
  expect_refused(chain.add_item({.first_token = 4, .tokens = 3}),
                 "begins at token 4, allowed: from 5");
  expect_refused(chain.add_item({.first_token = 6, .tokens = 0}), "0 tokens");
  expect_refused(chain.add_item({.first_token = 6, .tokens = 0x7FFFFFFF}), "ends after token");
  ASSERT_TRUE(chain.add_item({.first_token = 5, .tokens = 4}));
  expect_refused(chain.add_item({.first_token = 8, .tokens = 1}), "allowed: from 9");
  ASSERT_TRUE(chain.add_item({.first_token = 9, .tokens = 1}));
  EXPECT_EQ(chain.items().size(), 2U);
}

TEST(KeyChain, ItemHashAndPlaceMatter) {
  auto const key_with = [](std::vector<MediaItem> const& items) {
    KeyChain chain = make_chain(16);
    for (auto const& item : items) EXPECT_TRUE(chain.add_item(item));
    EXPECT_TRUE(chain.append(std::vector<std::uint32_t>(16, 5)));
    return chain.keys()[0];
  };
  ChunkKey const h = digest("image");
  std::set<ChunkKey> const keys{key_with({}),
                                key_with({{2, 4, h}}),
                                key_with({{2, 4, digest("other")}}),
                                key_with({{3, 4, h}}),
                                key_with({{2, 5, h}}),
                                key_with({{2, 2, h}, {4, 2, h}}),
                                key_with({{2, 4, h}, {6, 4, h}})};
  EXPECT_EQ(keys.size(), 7U);
  EXPECT_EQ(key_with({{16, 4, h}}), key_with({})) << "an item after the chunk is not its own";
}

TEST(KeyChain, ItemsOverlapping) {
  KeyChain chain = make_chain(8);
  for (std::uint32_t const first : {2U, 6U, 20U}) {
    ASSERT_TRUE(chain.add_item({.first_token = first, .tokens = 4}));
  }
  auto const firsts = [&](std::uint32_t first, std::uint32_t end) {
    std::vector<std::uint32_t> out;
    for (auto const& item : chain.items_overlapping(first, end)) out.push_back(item.first_token);
    return out;
  };
  using Firsts = std::vector<std::uint32_t>;
  EXPECT_EQ(firsts(0, 2), Firsts{});
  EXPECT_EQ(firsts(0, 3), Firsts{2});
  EXPECT_EQ(firsts(5, 6), Firsts{2});
  EXPECT_EQ(firsts(5, 7), (Firsts{2, 6}));
  EXPECT_EQ(firsts(10, 20), Firsts{});
  EXPECT_EQ(firsts(9, 21), (Firsts{6, 20}));
  EXPECT_EQ(firsts(0, 1000), (Firsts{2, 6, 20}));
  EXPECT_EQ(firsts(4, 4), Firsts{});
  EXPECT_EQ(firsts(24, 1000), Firsts{});
}

TEST(KeyChain, FingerprintIsOfParentAndSixteenTokens) {
  KeyChain a = make_chain(32);
  ASSERT_TRUE(a.append(counting(64 + 20)));
  std::uint32_t const print = a.fingerprint(1, 64);
  EXPECT_NE(print, 0U);
  EXPECT_EQ(a.fingerprint(1, 48), print);
  EXPECT_EQ(a.fingerprint(1, 47), 0U);
  EXPECT_NE(a.fingerprint(2, 84), 0U);
  EXPECT_EQ(a.fingerprint(2, 79), 0U);
  EXPECT_EQ(a.fingerprint(3, 200), 0U) << "its parent is not known";
  EXPECT_EQ(a.fingerprint(0xFFFFFFFF, 0xFFFFFFFF), 0U);

  auto tokens = counting(64);
  for (std::size_t const changed : {0UL, 31UL, 32UL, 47UL, 48UL}) {
    auto other = tokens;
    other[changed] ^= 1;
    KeyChain b = make_chain(32);
    ASSERT_TRUE(b.append(other));
    EXPECT_EQ(b.fingerprint(1, 64) == print, changed == 48) << changed;
  }
}

TEST(KeyChain, FingerprintNeverChangesAndSpreads) {
  KeyChain chain = make_chain(16);
  std::mt19937 random{3};
  std::vector<std::uint32_t> tokens(16 * 4000);
  for (auto& token : tokens) token = static_cast<std::uint32_t>(random() % 50'000);
  ASSERT_TRUE(chain.append(tokens));
  std::set<std::uint32_t> prints;
  for (std::uint32_t i = 0; i < chain.chunk_count(); ++i) {
    prints.insert(chain.fingerprint(i, (i + 1) * 16));
  }
  EXPECT_GE(prints.size(), 3995U);  // 4000^2 / 2^33 = 0.002 collisions expected
  KeyChain zero = KeyChain::create(ChunkKey{}, 16).value();
  ASSERT_TRUE(zero.append(std::vector<std::uint32_t>(16, 0)));
  EXPECT_EQ(zero.fingerprint(0, 16), 0x5f4e73e5U) << "stored in segments: equal in every build";
}

TEST(KeyChain, ChunkWithAnItemHasNoFingerprint) {
  KeyChain chain = make_chain(64);
  ASSERT_TRUE(chain.add_item({.first_token = 40, .tokens = 8}));
  ASSERT_TRUE(chain.append(counting(128)));
  EXPECT_EQ(chain.fingerprint(0, 64), 0U);
  EXPECT_NE(chain.fingerprint(0, 40), 0U) << "the part before the item is plain text";
  EXPECT_NE(chain.fingerprint(1, 128), 0U);
}

}  // namespace
}  // namespace lmcache
