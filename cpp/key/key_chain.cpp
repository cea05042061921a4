// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <string>

#include <lmcache/base/bytes.hpp>
#include <lmcache/key/key_chain.hpp>
#include <lmcache/key/namespace_spec.hpp>

namespace lmcache {
namespace {

constexpr std::uint32_t kMaxTokens = 0x7FFFFFFF;
constexpr std::uint32_t kItemMarker = 0xFFFFFFFF;

Error invalid(std::string message) {
  return Error{ErrorCode::kInvalidArgument, std::move(message)};
}

// Sixteen independent ors, which g++ 12 -O3 turns into vectors: 131,072 ids in 6 us, 18 to 24 in
// one chain.
bool all_valid(std::span<std::uint32_t const> tokens) noexcept {
  constexpr std::size_t kWidth = 16;
  std::array<std::uint32_t, kWidth> seen{};
  for (; tokens.size() >= kWidth; tokens = tokens.subspan(kWidth)) {
    for (std::size_t i = 0; i < kWidth; ++i) seen[i] |= tokens[i];
  }
  std::uint32_t all = 0;
  for (std::uint32_t const token : tokens) all |= token;
  for (std::uint32_t const lane : seen) all |= lane;
  return all <= kMaxTokenId;
}

Result<void> check_token_ids(std::span<std::uint32_t const> tokens, std::size_t first_position) {
  if (all_valid(tokens)) return {};
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] <= kMaxTokenId) continue;
    return invalid("token id " + std::to_string(tokens[i]) + " at position " +
                   std::to_string(first_position + i) + ", allowed: 0 to 2147483647");
  }
  return {};
}

// Murmur3's 64-bit finaliser: every input bit changes every output bit with probability 1/2.
std::uint64_t mix(std::uint64_t h) noexcept {
  h ^= h >> 33;
  h *= 0xFF51AFD7ED558CCD;
  h ^= h >> 33;
  h *= 0xC4CEB9FE1A85EC53;
  return h ^ (h >> 33);
}

}  // namespace

Result<KeyChain> KeyChain::create(ChunkKey const& root, std::uint32_t chunk_tokens) {
  if (chunk_tokens == 0 || chunk_tokens > kMaxChunkTokens) {
    return invalid("chunk_tokens is " + std::to_string(chunk_tokens) + ", allowed: 1 to " +
                   std::to_string(kMaxChunkTokens));
  }
  LMC_TRY_ASSIGN(auto sha256, Sha256Algorithm::fetch());
  return KeyChain{root, chunk_tokens, std::move(sha256)};
}

Result<void> KeyChain::append(std::span<std::uint32_t const> tokens) {
  LMC_TRY(check_token_ids(tokens, tokens_.size()));
  LMC_TRY(check_length(tokens.size()));
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  return hash_new_tokens();
}

Result<std::span<std::uint32_t>> KeyChain::extend(std::size_t count) {
  LMC_TRY(check_length(count));
  tokens_.resize(accepted_ + count);
  return std::span{tokens_}.subspan(accepted_);
}

Result<void> KeyChain::accept() {
  if (auto good = check_token_ids(std::span{tokens_}.subspan(accepted_), accepted_); !good) {
    abandon();
    return good;
  }
  return hash_new_tokens();
}

Result<void> KeyChain::check_length(std::size_t more) const {
  if (more <= kMaxTokens - accepted_) return {};
  return invalid("a prompt of " + std::to_string(accepted_ + more) +
                 " tokens, allowed: at most 2147483647");
}

Result<void> KeyChain::hash_new_tokens() {
  std::size_t const old_keys = keys_.size();
  if (tokens_.size() / chunk_tokens_ != old_keys) {
    if (auto hashed = hash_complete_chunks(); !hashed) {
      keys_.resize(old_keys);
      abandon();
      return hashed;
    }
  }
  accepted_ = tokens_.size();
  return {};
}

Result<void> KeyChain::hash_complete_chunks() {
  LMC_TRY_ASSIGN(auto context, Sha256Context::create(sha256_));
  std::size_t const first = keys_.size();
  std::size_t const end = tokens_.size() / chunk_tokens_;
  keys_.resize(end);
  for (std::size_t i = first; i < end; ++i) {
    auto const chunk = static_cast<std::uint32_t>(i);
    TokenRange const range{.first = chunk * chunk_tokens_, .end = (chunk + 1) * chunk_tokens_};
    LMC_TRY(hash_chunk(context, parent_of(chunk), range, keys_[i]));
  }
  return {};
}

Result<void> KeyChain::hash_chunk(Sha256Context& context, ChunkKey const& parent, TokenRange range,
                                  ChunkKey& out) const {
  context.begin();
  context.update(parent.bytes.data(), parent.bytes.size());
  // Straight out of the vector: hosts are little-endian (bytes.hpp).
  context.update(tokens_.data() + range.first, std::size_t{range.end - range.first} * 4);
  auto const items = items_overlapping(range.first, range.end);
  if (!items.empty()) context.update(&kItemMarker, sizeof kItemMarker);
  for (MediaItem const& item : items) {
    std::uint32_t const first = std::max(item.first_token, range.first);
    std::uint32_t const end = std::min(item.end_token(), range.end);
    std::uint32_t const fields[3] = {first - range.first, end - first, first - item.first_token};
    context.update(fields, sizeof fields);
    context.update(item.item_hash.bytes.data(), item.item_hash.bytes.size());
  }
  return context.finish(out.bytes);
}

Result<void> KeyChain::add_item(MediaItem const& item) {
  if (item.tokens == 0) return invalid("multimodal item with 0 tokens, allowed: at least 1");
  if (item.first_token > kMaxTokens || item.tokens > kMaxTokens - item.first_token) {
    return invalid("multimodal item of " + std::to_string(item.tokens) + " tokens at " +
                   std::to_string(item.first_token) + " ends after token 2147483647");
  }
  // Tokens before it are hashed, or may have been asked for as a tail: their keys must not change.
  std::uint32_t const earliest =
      std::max(token_count(), items_.empty() ? 0 : items_.back().end_token());
  if (item.first_token < earliest) {
    return invalid("multimodal item begins at token " + std::to_string(item.first_token) +
                   ", allowed: from " + std::to_string(earliest) +
                   " on (the tokens so far, and the end of the item before)");
  }
  items_.push_back(item);
  return {};
}

Result<void> KeyChain::check_tail(std::uint32_t chunk, std::uint32_t end_token) const {
  std::uint64_t const first = std::uint64_t{chunk} * chunk_tokens_;
  bool const known = chunk <= chunk_count() && end_token <= token_count();
  if (known && end_token > first && end_token - first <= chunk_tokens_) return {};
  return invalid("tail chunk " + std::to_string(chunk) + " that ends before token " +
                 std::to_string(end_token) + ": the prompt has " + std::to_string(token_count()) +
                 " tokens in chunks of " + std::to_string(chunk_tokens_));
}

Result<ChunkKey> KeyChain::tail_key(std::uint32_t chunk, std::uint32_t end_token) const {
  LMC_TRY(check_tail(chunk, end_token));
  LMC_TRY_ASSIGN(auto context, Sha256Context::create(sha256_));
  ChunkKey key;
  TokenRange const range{.first = chunk * chunk_tokens_, .end = end_token};
  LMC_TRY(hash_chunk(context, parent_of(chunk), range, key));
  return key;
}

Result<std::vector<ChunkKey>> KeyChain::tail_keys(std::uint32_t chunk,
                                                  std::uint32_t end_token) const {
  LMC_TRY(check_tail(chunk, end_token));
  std::uint32_t const first = chunk * chunk_tokens_;
  if (auto const items = items_overlapping(first, end_token); !items.empty()) {
    end_token = std::max(first, items.front().first_token);
  }
  // One pass over the tokens; what is left of each key is to finish a copy.
  LMC_TRY_ASSIGN(auto all, Sha256Context::create(sha256_));
  LMC_TRY_ASSIGN(auto one, Sha256Context::create(sha256_));
  auto const& parent = parent_of(chunk);
  all.begin();
  all.update(parent.bytes.data(), parent.bytes.size());
  std::vector<ChunkKey> keys(end_token - first);
  for (std::uint32_t i = 0; i < keys.size(); ++i) {
    all.update(&tokens_[first + i], sizeof tokens_[0]);
    one.copy(all);
    LMC_TRY(one.finish(keys[i].bytes));
  }
  return keys;
}

std::span<MediaItem const> KeyChain::items_overlapping(std::uint32_t first_token,
                                                       std::uint32_t end_token) const noexcept {
  if (first_token >= end_token) return {};
  auto const first = std::partition_point(items_.begin(), items_.end(), [&](MediaItem const& item) {
    return item.end_token() <= first_token;
  });
  auto const end = std::partition_point(
      first, items_.end(), [&](MediaItem const& item) { return item.first_token < end_token; });
  return {first, end};
}

std::uint32_t KeyChain::fingerprint(std::uint32_t chunk, std::uint32_t end_token) const noexcept {
  std::uint64_t const first = std::uint64_t{chunk} * chunk_tokens_;
  std::uint32_t const end = std::min(end_token, token_count());
  if (chunk > chunk_count() || first + kFingerprintTokens > end) return 0;
  auto const begin = static_cast<std::uint32_t>(first);
  if (!items_overlapping(begin, end).empty()) return 0;
  std::uint64_t h = mix(parent_of(chunk).prefix64());
  for (std::uint32_t i = 0; i < kFingerprintTokens; i += 2) {
    h = mix(h ^ load_le<std::uint64_t>(tokens_.data() + begin + i)) + i;
  }
  auto const folded = static_cast<std::uint32_t>(h ^ (h >> 32));
  return folded == 0 ? 1 : folded;
}

}  // namespace lmcache
