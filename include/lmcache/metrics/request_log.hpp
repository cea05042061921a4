// SPDX-License-Identifier: Apache-2.0
// The latest requests that asked the cache, and what came of each: what `lmcache explain` reads,
// also when the engine that wrote it is dead. Counts, hashes and names; no tokens, no text of a
// prompt.
//
// Invariants: record `number` lies in place number % capacity. Whoever dies while writing, and two
// who write the same place because one of them slept for a whole turn, leave a record whose
// checksum is wrong: readers pass over it. Nothing else depends on the log, so it is never
// repaired.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

namespace lmcache {

// Whether the cache was asked at all, and if not, why.
enum class RequestOutcome : std::uint8_t {
  kLookedUp,
  kSkipped,       // the request forbids reading, or has nothing to read for
  kPaused,        // loads had failed before
  kNotCacheable,  // its KV does not follow from its tokens
  kNotReady,      // not every rank had said how large its blocks are
  kOff,           // the engine had given the cache up
  kTooFew,        // found less than is worth loading (min_retrieve_tokens)
  kLoadFailed,    // found, but not loaded
};
inline constexpr std::array<std::string_view, 8> kRequestOutcomes{
    "looked_up", "skipped", "paused",  "not_cacheable",
    "not_ready", "off",     "too_few", "load_failed"};

// Where the first chunk was that was not found.
enum class MissingPlace : std::uint8_t {
  kNone,     // nothing was missing
  kAbsent,   // nowhere
  kWriting,  // being stored at that moment
  kComing,   // on its way from a tier below
  kReady,    // there: it came a moment too late, or an earlier lane lacked it
  kDisk,
  kRemote,
  kUnknown,  // a lock was not free
};
inline constexpr std::array<std::string_view, 8> kMissingPlaces{
    "none", "absent", "writing", "coming", "ready", "disk", "remote", "unknown"};

// Trivially copyable and without padding.
struct RequestTrace {
  std::uint64_t number = 0;
  std::int64_t unix_s = 0;
  std::uint64_t missing_key = 0;  // first 8 bytes of the chain key of the first chunk not found
  std::uint64_t opening = 0;      // opening_hash() of the prompt; 0 = not known
  std::uint32_t namespace_incarnation = 0;  // 0 = no namespace
  std::int32_t pid = 0;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t limit_tokens = 0;     // that were asked for at most
  std::uint32_t computed_tokens = 0;  // that the serving engine had itself
  std::uint32_t memory_tokens = 0;    // of the prefix found in memory at first
  std::uint32_t found_tokens = 0;     // and after what lies below had been fetched
  std::uint32_t loaded_tokens = 0;    // that the serving engine took from us
  std::uint32_t wait_us = 0;          // for the tiers below
  std::uint32_t removed_unix_s = 0;   // when the missing chunk was removed; 0 = not known
  std::uint16_t namespace_id = 0;
  RequestOutcome outcome = RequestOutcome::kLookedUp;
  MissingPlace missing_place = MissingPlace::kNone;
  std::uint8_t removal = 0;       // RemovalReason (index/removal_table.hpp); 0 = not known
  std::uint8_t missing_lane = 0;  // the first one without it
  std::uint8_t preemptions = 0;
  std::uint8_t flags = 0;  // kWholeChunksOnly
  std::array<char, 88> request_id{};
  std::array<char, 80> note{};
};
// Pieces shorter than a chunk are not kept (`save_unfull_chunk: false`).
inline constexpr std::uint8_t kWholeChunksOnly = 1;
static_assert(sizeof(RequestTrace) == 248);
static_assert(std::is_trivially_copyable_v<RequestTrace>);
static_assert(std::has_unique_object_representations_v<RequestTrace>);

// A hash of how a prompt begins, whatever its namespace. Never 0.
inline constexpr std::size_t kOpeningTokens = 16;
[[nodiscard]] std::uint64_t opening_hash(std::span<std::uint32_t const> tokens) noexcept;

// A view in a segment, valid when zeroed; cheap to copy. Thread-safe and process-safe, without
// locks.
class RequestLog {
 public:
  static constexpr std::uint32_t kKept = 8191;

  explicit RequestLog(std::span<std::byte> region) noexcept;

  // Gives the trace its number and takes it. About 0.1 us.
  void add(RequestTrace trace) const noexcept;
  // The whole ones, latest first.
  [[nodiscard]] std::vector<RequestTrace> read() const;

  [[nodiscard]] static constexpr std::size_t region_bytes() noexcept {
    return sizeof(Record) * (kKept + 1);
  }

 private:
  struct Record {
    std::array<std::atomic<std::uint64_t>, 31> words;  // a RequestTrace
    std::atomic<std::uint64_t> checksum;
  };
  static_assert(sizeof(Record) == sizeof(RequestTrace) + 8);
  static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

  // Of the first record only a word is used: how many were added.
  [[nodiscard]] std::atomic<std::uint64_t>& added() const noexcept { return records_[0].words[0]; }

  std::span<Record> records_;
};

}  // namespace lmcache
