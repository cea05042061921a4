// SPDX-License-Identifier: Apache-2.0
// Chunks for a Transport: records whose bytes follow from a number, slots to get them into, and
// what became of each.
#pragma once

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include <gtest/gtest.h>

#include <lmcache/index/chunk_record.hpp>
#include <lmcache/tier/remote/transport.hpp>

namespace lmcache::test {

inline constexpr std::uint32_t kChunkTokens = 8;

[[nodiscard]] inline ChunkKey chunk_key(std::uint64_t seed) {
  ChunkKey key;
  for (auto& byte : key.bytes) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<std::uint8_t>(seed >> 56);
  }
  return key;
}

[[nodiscard]] inline std::vector<std::byte> chunk_record(std::uint64_t seed,
                                                         std::uint64_t payload_bytes) {
  std::vector<std::byte> out(record_bytes(payload_bytes, kChunkTokens));
  ChunkHeader header{};
  header.magic = kChunkMagic;
  header.format_version = kChunkFormatVersion;
  header.key = chunk_key(seed);
  header.geometry_hash = {{1, 2, 3}};
  header.payload_bytes = payload_bytes;
  header.valid_tokens = kChunkTokens;
  std::memcpy(out.data(), &header, sizeof header);
  for (std::size_t i = sizeof header; i < out.size(); ++i) {
    out[i] = static_cast<std::byte>(seed * 31 + i * 7 + (i >> 8));
  }
  return out;
}

// Externally synchronised.
class RemoteChunks {
 public:
  using Outcomes = std::vector<std::optional<TierOutcome>>;

  // Seeds `first` to `first + count - 1`.
  RemoteChunks(std::uint64_t first, std::uint32_t count, std::uint64_t payload_bytes) {
    for (std::uint64_t seed = first; seed < first + count; ++seed) {
      keys.push_back(chunk_key(seed));
      records.push_back(chunk_record(seed, payload_bytes));
    }
  }

  std::vector<ChunkKey> keys;
  std::vector<std::vector<std::byte>> records;
  // Of the last call; nothing: it was not answered.
  Outcomes outcomes;

  Result<void> put(Transport& transport, Deadline deadline, std::uint32_t ttl_seconds = 0) {
    std::vector<RemotePut> items;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      items.push_back({.key = keys[i], .record = records[i], .ttl_seconds = ttl_seconds});
    }
    outcomes.assign(keys.size(), std::nullopt);
    return transport.put(items, deadline, once());
  }

  // What is said to have arrived is compared, every byte but those of the header's seal.
  Result<void> get(Transport& transport, Deadline deadline) {
    std::vector<std::vector<std::byte>> slots;
    std::vector<RemoteGet> items;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      auto& slot = slots.emplace_back(records[i].size());
      std::memcpy(slot.data(), records[i].data(), sizeof(ChunkHeader));
      items.push_back({.key = keys[i], .slot = slot.data(), .slot_bytes = slot.size()});
    }
    outcomes.assign(keys.size(), std::nullopt);
    auto result = transport.get_into(items, deadline, once());
    for (std::size_t i = 0; i < keys.size(); ++i) {
      if (outcomes[i] != TierOutcome::kDone) continue;
      EXPECT_TRUE(std::equal(slots[i].begin() + sizeof(ChunkHeader), slots[i].end(),
                             records[i].begin() + sizeof(ChunkHeader)))
          << "other bytes in chunk " << i;
    }
    return result;
  }

  [[nodiscard]] std::size_t count(TierOutcome outcome) const {
    return static_cast<std::size_t>(
        std::ranges::count(outcomes, std::optional<TierOutcome>{outcome}));
  }

 private:
  Transport::Done once() {
    return [this](std::uint32_t item, TierOutcome outcome) {
      EXPECT_FALSE(outcomes.at(item)) << "item " << item << " is answered twice";
      outcomes[item] = outcome;
    };
  }
};

}  // namespace lmcache::test
