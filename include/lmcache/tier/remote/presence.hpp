// SPDX-License-Identifier: Apache-2.0
// What a server said lately about which chunks it has.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <unordered_map>

#include <lmcache/base/clock.hpp>
#include <lmcache/key/chunk_key.hpp>

namespace lmcache {

// Thread-safe.
class Presence {
 public:
  // More are not remembered: the oldest half is forgotten then.
  static constexpr std::size_t kMost = 1u << 17;

  Presence(Clock const& clock, std::chrono::milliseconds keep) noexcept
      : clock_{clock}, keep_ns_{std::chrono::nanoseconds{keep}.count()} {}

  // Bytes of each record there, 0 = not there, nothing = not known.
  void find(std::span<ChunkKey const> keys, std::span<std::optional<std::uint64_t>> out) const;
  void remember(std::span<ChunkKey const> keys, std::span<std::uint64_t const> sizes);
  // It turned out to be otherwise.
  void correct(ChunkKey const& key, std::uint64_t size_bytes);
  void forget_all();

 private:
  struct Answer {
    std::uint64_t size_bytes;
    std::int64_t until_ns;
  };
  void make_room();

  Clock const& clock_;
  std::int64_t const keep_ns_;
  mutable std::mutex mutex_;  // guards what follows
  std::unordered_map<ChunkKey, Answer, ChunkKeyHash> answers_;
};

}  // namespace lmcache
