// SPDX-License-Identifier: Apache-2.0
// Records as they lie in slots, a way past the library into the server that holds them, and what
// is handed to a remote tier and comes back.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <lmcache/index/chunk_record.hpp>
#include <lmcache/net/redis_connection.hpp>
#include <lmcache/tier/remote/redis_transport.hpp>
#include <lmcache/tier/remote/remote_tier.hpp>

#include "support/causal_kv.hpp"
#include "support/must.hpp"
#include "support/redis_server.hpp"

#define LMC_NEEDS_REDIS()                            \
  if (!::lmcache::test::RedisServer::is_installed()) \
  GTEST_SKIP() << "there is no redis-server in PATH"

namespace lmcache::test {

using RecordBytes = std::vector<std::byte>;

// Long enough that it only passes when something hangs.
inline constexpr std::chrono::seconds kLongTime{60};
[[nodiscard]] inline Deadline long_from_now() { return Deadline::clock::now() + kLongTime; }

[[nodiscard]] inline ChunkKey numbered_key(std::uint64_t number) {
  ChunkKey out;
  for (std::size_t i = 0; i < 4; ++i) {
    std::uint64_t const word = mix64(number * 4 + i);
    std::memcpy(out.bytes.data() + i * sizeof word, &word, sizeof word);
  }
  return out;
}
[[nodiscard]] inline ChunkKey usual_geometry() { return numbered_key(~std::uint64_t{0}); }

[[nodiscard]] inline ChunkHeader slot_header(ChunkKey const& key, ChunkKey const& geometry) {
  ChunkHeader header{};
  header.magic = kChunkMagic;
  header.format_version = kChunkFormatVersion;
  header.key = key;
  header.geometry_hash = geometry;
  return header;
}

// As it lies in a slot: not sealed. Its bytes follow from the key's number.
[[nodiscard]] inline RecordBytes make_record(std::uint64_t number, std::uint64_t payload_bytes,
                                             ChunkKey const& geometry = usual_geometry()) {
  constexpr std::uint32_t kTokens = 8;
  auto header = slot_header(numbered_key(number), geometry);
  header.payload_bytes = payload_bytes;
  header.valid_tokens = kTokens;
  RecordBytes out(record_bytes(payload_bytes, kTokens));
  for (std::size_t i = sizeof header; i < out.size(); ++i) {
    out[i] = static_cast<std::byte>(mix64(number * 1'000'003 + i));
  }
  std::memcpy(out.data(), &header, sizeof header);
  return out;
}

// What of it comes back.
[[nodiscard]] inline RecordBytes as_it_arrives(RecordBytes record) {
  auto const header = sealed_copy(record, 0);
  std::memcpy(record.data(), &header, sizeof header);
  return record;
}

// A slot with the header of the chunk that it was reserved for.
[[nodiscard]] inline RecordBytes make_slot(std::uint64_t number, std::uint64_t slot_bytes,
                                           ChunkKey const& geometry = usual_geometry()) {
  RecordBytes out(slot_bytes, std::byte{0xEE});
  auto const header = slot_header(numbered_key(number), geometry);
  std::memcpy(out.data(), &header, sizeof header);
  return out;
}
[[nodiscard]] inline RemoteGet get_of(std::uint64_t number, RecordBytes& slot) {
  return {.key = numbered_key(number), .slot = slot.data(), .slot_bytes = slot.size()};
}
[[nodiscard]] inline RemotePut put_of(std::uint64_t number, RecordBytes const& record) {
  return {.key = numbered_key(number), .record = record};
}
[[nodiscard]] inline bool begins_with(RecordBytes const& slot, RecordBytes const& record) {
  return slot.size() >= record.size() &&
         std::memcmp(slot.data(), record.data(), record.size()) == 0;
}

// What a test puts into the server itself, and finds there.
class RawRedis {
 public:
  explicit RawRedis(RedisServer const& server) {
    auto const url = must(parse_redis_url(server.socket_url()));
    connection_ = must(RedisConnection::open(url, {}, long_from_now()));
  }
  RespValue call(std::initializer_list<std::string_view> command) {
    return must(connection_->call(command, long_from_now()));
  }
  [[nodiscard]] std::string get(std::uint64_t number) {
    return call({"GET", redis_key(numbered_key(number))}).text;
  }
  void set(std::uint64_t number, std::string_view value) {
    EXPECT_EQ(call({"SET", redis_key(numbered_key(number)), value}).text, "OK");
  }

 private:
  std::unique_ptr<RedisConnection> connection_;
};

// What comes of items that were handed over. Thread-safe.
class Answers {
 public:
  explicit Answers(std::size_t count) : outcomes_(count) {}
  void set(std::size_t item, TierOutcome outcome) {
    std::lock_guard const lock{mutex_};
    EXPECT_FALSE(outcomes_[item].has_value()) << "answered twice: " << item;
    outcomes_[item] = outcome;
    ++answered_;
    changed_.notify_all();
  }
  // False after a minute.
  [[nodiscard]] bool wait() {
    std::unique_lock lock{mutex_};
    return changed_.wait_for(lock, kLongTime, [this] { return answered_ == outcomes_.size(); });
  }
  [[nodiscard]] std::size_t answered() {
    std::lock_guard const lock{mutex_};
    return answered_;
  }
  // Of what was answered, how many in this way.
  [[nodiscard]] std::size_t count(TierOutcome outcome) {
    std::lock_guard const lock{mutex_};
    return static_cast<std::size_t>(std::ranges::count(outcomes_, std::optional{outcome}));
  }
  [[nodiscard]] std::optional<TierOutcome> of(std::size_t item) {
    std::lock_guard const lock{mutex_};
    return outcomes_[item];
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::optional<TierOutcome>> outcomes_;
  std::size_t answered_ = 0;
};

// False after a minute.
template <class Condition>
[[nodiscard]] bool comes_to_be(Condition&& condition) {
  auto const deadline = long_from_now();
  while (!condition()) {
    if (Deadline::clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds{2});
  }
  return true;
}

// Each in one step that waits for its answer; nothing when that never came.
inline std::optional<TierOutcome> write_to(RemoteTier& tier, std::uint64_t number,
                                           RecordBytes const& record) {
  auto const answers = std::make_shared<Answers>(1);
  tier.write(put_of(number, record), [answers](TierOutcome outcome) { answers->set(0, outcome); });
  (void)answers->wait();
  return answers->of(0);
}
inline std::optional<TierOutcome> read_from(RemoteTier& tier, std::uint64_t number,
                                            RecordBytes& slot) {
  auto const answers = std::make_shared<Answers>(1);
  std::uint64_t const size = slot.size();
  tier.read({get_of(number, slot)}, {&size, 1},
            [answers](std::uint32_t item, TierOutcome outcome) { answers->set(item, outcome); });
  (void)answers->wait();
  return answers->of(0);
}
// False when nobody answered.
inline bool ask_of(RemoteTier& tier, std::vector<ChunkKey> keys) {
  auto const answers = std::make_shared<Answers>(1);
  tier.ask(std::move(keys), [answers] { answers->set(0, TierOutcome::kDone); });
  return answers->wait();
}
inline std::optional<std::uint64_t> known_of(RemoteTier const& tier, std::uint64_t number) {
  auto const key = numbered_key(number);
  std::optional<std::uint64_t> out;
  tier.find({&key, 1}, {&out, 1});
  return out;
}

}  // namespace lmcache::test
