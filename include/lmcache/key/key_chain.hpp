// SPDX-License-Identifier: Apache-2.0
// The token ids of one request and the keys of their chunks, hashed incrementally, each token once.
//
// Chunk i covers tokens [i * chunk_tokens, (i + 1) * chunk_tokens). Its key is
//   key_i = SHA-256( parent ‖ token ids, LE u32 each ‖ item records )
// where parent is key_(i-1), or the namespace root for i = 0. The item records are absent unless
// multimodal items overlap the chunk; then they are
//   LE u32 0xFFFFFFFF ‖ for each overlapping item, in order of position:
//     LE u32 offset of its first token inside the chunk, relative to the chunk's start (0 if it
//     began before) LE u32 number of its tokens inside the chunk LE u32 number of its tokens before
//     the chunk 32 B   item hash
// Token ids are < 2^31, so the marker cannot be read as a token. A tail chunk, which ends before
// the chunk is full, is hashed by the same rule over the tokens that it has: items are clipped to
// its end. tests/data/key_vectors.txt holds values of this rule, recomputed in
// tests/python/test_key_vectors.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <lmcache/base/result.hpp>
#include <lmcache/base/sha256.hpp>
#include <lmcache/key/chunk_key.hpp>

namespace lmcache {

// An image, audio clip, ... whose placeholder tokens are [first_token, first_token + tokens).
// Placeholders are alike for all items, so the hash of the content goes into the keys.
struct MediaItem {
  std::uint32_t first_token = 0;
  std::uint32_t tokens = 0;
  ChunkKey item_hash{};

  [[nodiscard]] std::uint32_t end_token() const noexcept { return first_token + tokens; }
};

inline constexpr std::uint32_t kMaxTokenId = 0x7FFFFFFF;
inline constexpr std::uint32_t kFingerprintTokens = 16;

// Copyable. Const calls are thread-safe among themselves; append and add_item externally
// synchronised. Spans stay valid until the next append or add_item.
class KeyChain {
 public:
  [[nodiscard]] static Result<KeyChain> create(ChunkKey const& root, std::uint32_t chunk_tokens);

  // kInvalidArgument names the position and value of the first id over kMaxTokenId, or says that
  // the prompt would pass 2^31 - 1 tokens; on any error nothing is appended.
  [[nodiscard]] Result<void> append(std::span<std::uint32_t const> tokens);

  // The same in two steps, for callers whose ids come in another form and would need a second
  // buffer, which costs more than it looks: a fresh one of 512 KiB is 128 page faults, 0.4 ms on a
  // virtual machine. extend() makes room for `count` ids to be filled in; accept() checks and
  // hashes them, or takes them back on any error; abandon() takes them back. No other call in
  // between.
  [[nodiscard]] Result<std::span<std::uint32_t>> extend(std::size_t count);
  [[nodiscard]] Result<void> accept();
  void abandon() noexcept { tokens_.resize(accepted_); }

  // An item whose tokens are still to be appended: it starts at or after token_count() and at or
  // after the end of the item before it. Item tokens may arrive in several appends.
  [[nodiscard]] Result<void> add_item(MediaItem const& item);

  [[nodiscard]] ChunkKey const& root() const noexcept { return root_; }
  [[nodiscard]] std::uint32_t chunk_tokens() const noexcept { return chunk_tokens_; }
  [[nodiscard]] std::span<std::uint32_t const> tokens() const noexcept { return tokens_; }
  [[nodiscard]] std::uint32_t token_count() const noexcept {
    return static_cast<std::uint32_t>(tokens_.size());
  }

  // Complete chunks and their keys.
  [[nodiscard]] std::uint32_t chunk_count() const noexcept {
    return static_cast<std::uint32_t>(keys_.size());
  }
  [[nodiscard]] std::span<ChunkKey const> keys() const noexcept { return keys_; }

  // The key of the chunk before `chunk`, or the root. Precondition: chunk <= chunk_count().
  [[nodiscard]] ChunkKey const& parent_of(std::uint32_t chunk) const noexcept {
    return chunk == 0 ? root_ : keys_[chunk - 1];
  }

  // The key of the tail chunk that begins where chunk `chunk` does and ends before `end_token`.
  // kInvalidArgument unless chunk <= chunk_count() and the tail has 1..chunk_tokens known tokens.
  // (A tail of chunk_tokens tokens is the complete chunk and has its key.)
  [[nodiscard]] Result<ChunkKey> tail_key(std::uint32_t chunk, std::uint32_t end_token) const;

  // The keys of all tails of 1, 2, ... tokens that begin where chunk `chunk` does and end before
  // `end_token`, or before the first token of an item. Errors: as tail_key().
  [[nodiscard]] Result<std::vector<ChunkKey>> tail_keys(std::uint32_t chunk,
                                                        std::uint32_t end_token) const;

  [[nodiscard]] std::span<MediaItem const> items() const noexcept { return items_; }

  // Items with at least one token in [first_token, end_token), in order.
  [[nodiscard]] std::span<MediaItem const> items_overlapping(
      std::uint32_t first_token, std::uint32_t end_token) const noexcept;

  // What chunks are found by that agree with this one in parent and first 16 tokens, though not in
  // their keys: a 32-bit hash of both, equal in every process. 0 = not to be found so: fewer than
  // 16 known tokens in [chunk start, end_token), or an item in there (a slot keeps token ids, not
  // items, so a part of such a chunk cannot be compared). Never 0 otherwise.
  [[nodiscard]] std::uint32_t fingerprint(std::uint32_t chunk,
                                          std::uint32_t end_token) const noexcept;

 private:
  KeyChain(ChunkKey const& root, std::uint32_t chunk_tokens, Sha256Algorithm sha256) noexcept
      : root_{root}, chunk_tokens_{chunk_tokens}, sha256_{std::move(sha256)} {}

  [[nodiscard]] Result<void> check_length(std::size_t more) const;
  [[nodiscard]] Result<void> check_tail(std::uint32_t chunk, std::uint32_t end_token) const;
  [[nodiscard]] Result<void> hash_new_tokens();
  [[nodiscard]] Result<void> hash_complete_chunks();
  struct TokenRange {
    std::uint32_t first;
    std::uint32_t end;
  };
  [[nodiscard]] Result<void> hash_chunk(Sha256Context& context, ChunkKey const& parent,
                                        TokenRange range, ChunkKey& out) const;

  ChunkKey root_;
  std::uint32_t chunk_tokens_;
  Sha256Algorithm sha256_;
  std::vector<std::uint32_t> tokens_;
  std::size_t accepted_{0};  // of these; all but between extend() and accept()
  std::vector<ChunkKey> keys_;
  std::vector<MediaItem> items_;  // by first_token, disjoint
};

}  // namespace lmcache
