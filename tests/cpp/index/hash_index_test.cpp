// SPDX-License-Identifier: Apache-2.0
#include <lmcache/index/hash_index.hpp>

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <span>
#include <unordered_map>
#include <vector>

#include <lmcache/base/bytes.hpp>

#include "support/child_process.hpp"
#include "support/must.hpp"
#include "support/shared_memory.hpp"

namespace lmcache {
namespace {

using std::chrono::milliseconds;
using test::ChildProcess;
using test::Milestone;
using test::must;

constexpr milliseconds kLong{30'000};  // never reached unless something is broken
constexpr std::uint32_t kEntries = 512;
constexpr std::uint32_t kBuckets = 2 * kShardCount;

// Keys of one number fall into one bucket; the variant is in the last bytes only.
ChunkKey key_of(std::uint64_t number, std::uint64_t variant = 0) {
  ChunkKey out;
  store_le(out.bytes.data(), number);
  store_le(out.bytes.data() + 24, variant);
  return out;
}

class HashIndexTest : public testing::Test {
 protected:
  static constexpr std::size_t kShardBytes = (sizeof(ShardTable) + 4095) / 4096 * 4096;
  static constexpr std::size_t kBucketBytes = 4096;  // half of it used

  [[nodiscard]] static HashIndex view(std::span<std::byte> bytes) {
    return HashIndex{
        {.shards = bytes.first(kShardBytes),
         // Half a bucket table more: a power of two of it is used.
         .buckets = bytes.subspan(kShardBytes, kBuckets * sizeof(std::uint32_t) * 3 / 2),
         .entries = bytes.subspan(kShardBytes + kBucketBytes, kEntries * sizeof(Entry))}};
  }

  void SetUp() override { must(index_.initialise()); }

  // As an entry becomes one of the index: the key, then the state, then the chain.
  void put(std::uint32_t at, ChunkKey const& key, EntryState state = EntryState::kReady) {
    index_.at(at).set_key(key);
    index_.at(at).state.store(state, std::memory_order_release);
    index_.insert(at);
  }
  void take(std::uint32_t at) {
    index_.at(at).state = EntryState::kFree;
    index_.erase(at);
  }
  [[nodiscard]] bool can_lock(std::uint32_t shard) {
    ChildProcess other{[&] { return index_.lock_shard(shard, milliseconds{0}) ? 1 : 0; }};
    return other.wait() == 1;
  }
  // A process dies while it has the shard's lock and did `body` to the chains.
  template <class Body>
  void die_in(std::uint32_t shard, Body&& body) {
    Milestone locked;
    ChildProcess child{[&]() -> int {
      auto const guard = index_.lock_shard(shard, kLong);
      if (!guard) return 1;
      body();
      locked.reach();
      test::wait_to_be_killed();
    }};
    locked.await();
    child.kill();
    EXPECT_EQ(child.wait(), 256 + SIGKILL);
  }

  test::SharedMemory memory_{kShardBytes + kBucketBytes + kEntries * sizeof(Entry)};
  HashIndex index_{view(memory_.bytes())};
};

TEST_F(HashIndexTest, NothingIsFoundAtFirst) {
  EXPECT_EQ(index_.capacity(), kEntries);
  EXPECT_EQ(index_.entry_limit(), 0U);
  EXPECT_EQ(index_.repaired_shards(), 0U);
  // Entries of a new segment are zero, and so is this key.
  EXPECT_EQ(index_.find(ChunkKey{}), kNoEntry);
}

TEST_F(HashIndexTest, AllBytesOfAKeyCount) {
  auto const key = key_of(5);
  put(3, key);
  EXPECT_EQ(index_.find(key), 3U);
  for (std::size_t byte = 0; byte < key.bytes.size(); ++byte) {
    auto other = key;
    other.bytes[byte] ^= 0x80;
    EXPECT_EQ(index_.find(other), kNoEntry) << "byte " << byte;
  }
}

TEST_F(HashIndexTest, FromAnywhereInAChainAnEntryCanGo) {
  for (std::uint32_t gone = 0; gone < 3; ++gone) {
    for (std::uint32_t i = 0; i < 3; ++i) put(i, key_of(9, i));
    take(gone);
    for (std::uint32_t i = 0; i < 3; ++i) {
      EXPECT_EQ(index_.find(key_of(9, i)), i == gone ? kNoEntry : i) << "without " << gone;
    }
    for (std::uint32_t i = 0; i < 3; ++i) take(i);  // one of them is no more in the chain
    for (std::uint32_t i = 0; i < 3; ++i) EXPECT_EQ(index_.find(key_of(9, i)), kNoEntry);
  }
}

TEST_F(HashIndexTest, ErasingWhatIsNotThereChangesNothing) {
  put(0, key_of(9, 0));
  index_.at(1).set_key(key_of(9, 1));
  index_.erase(1);
  EXPECT_EQ(index_.find(key_of(9, 0)), 0U);
}

TEST_F(HashIndexTest, AnotherMappingFindsTheSame) {
  put(7, key_of(1234, 5));
  index_.set_entry_limit(8);
  auto const mapping = memory_.map();
  auto const other = view(mapping.bytes());
  EXPECT_EQ(other.find(key_of(1234, 5)), 7U);
  EXPECT_EQ(other.entry_limit(), 8U);
}

TEST_F(HashIndexTest, HintsChangeNothing) {
  put(7, key_of(3));
  for (std::uint64_t number = 0; number < 2 * kBuckets; ++number) {
    index_.prefetch_bucket(key_of(number));
    index_.prefetch_entry(key_of(number));
  }
  EXPECT_EQ(index_.find(key_of(3)), 7U);
}

TEST_F(HashIndexTest, AKeyLocksItsShardAndNoOther) {
  auto const key = key_of(kShardCount + 5);
  EXPECT_EQ(HashIndex::shard_of(key), 5U);
  {
    auto const guard = index_.lock(key, kLong);
    ASSERT_TRUE(guard);
    EXPECT_FALSE(can_lock(5));
    EXPECT_TRUE(can_lock(4));
    EXPECT_TRUE(can_lock(6));
  }
  EXPECT_TRUE(can_lock(5));
}

TEST_F(HashIndexTest, ALockThatIsHeldTimesOut) {
  Milestone locked;
  ChildProcess holder{[&]() -> int {
    auto const guard = index_.lock_shard(5, kLong);
    if (!guard) return 1;
    locked.reach();
    test::wait_to_be_killed();
  }};
  locked.await();
  auto const guard = index_.lock(key_of(5), milliseconds{20});
  ASSERT_FALSE(guard);
  EXPECT_EQ(guard.error().code(), ErrorCode::kTimeout);
  EXPECT_EQ(index_.repaired_shards(), 0U);
}

TEST_F(HashIndexTest, WhoeverFindsADeadOwnerRebuildsTheShard) {
  constexpr std::uint32_t kShard = 5;
  for (std::uint32_t i = 0; i < kEntries; ++i) put(i, key_of(i, i));
  index_.set_entry_limit(kEntries);
  std::uint32_t const first = kShard;                 // stays, but is lost from its chain
  std::uint32_t const second = kShard + kShardCount;  // becomes free, but is still in its chain
  die_in(kShard, [&] {
    index_.erase(first);
    index_.at(second).state = EntryState::kFree;
    // The chain ends in the middle.
    index_.at(kEntries - kShardCount + kShard).hash_next = kNoEntry;
  });
  ASSERT_EQ(index_.find(key_of(first, first)), kNoEntry);
  {
    auto const guard = index_.lock(key_of(first, first), kLong);
    ASSERT_TRUE(guard);
    for (std::uint32_t i = 0; i < kEntries; ++i) {
      EXPECT_EQ(index_.find(key_of(i, i)), i == second ? kNoEntry : i);
    }
  }
  EXPECT_EQ(index_.repaired_shards(), 1U);
  EXPECT_TRUE(can_lock(kShard));
  ASSERT_TRUE(index_.lock_shard(kShard, kLong));
  EXPECT_EQ(index_.repaired_shards(), 1U) << "was repaired once more";
}

TEST_F(HashIndexTest, ARepairLeavesOtherShardsAlone) {
  put(0, key_of(5));
  put(1, key_of(6));
  index_.set_entry_limit(2);
  index_.erase(1);  // its shard has not been repaired, and the entry is not free
  die_in(5, [] {});
  ASSERT_TRUE(index_.lock_shard(5, kLong));
  EXPECT_EQ(index_.find(key_of(5)), 0U);
  EXPECT_EQ(index_.find(key_of(6)), kNoEntry);
  EXPECT_EQ(index_.repaired_shards(), 1U);
}

TEST_F(HashIndexTest, EachDeathIsRepairedByTheNextOwner) {
  put(0, key_of(5));
  index_.set_entry_limit(1);
  for (std::uint64_t death = 0; death < 3; ++death) {
    die_in(5, [&] {
      if (index_.repaired_shards() != death || index_.find(key_of(5)) != 0) ::_exit(1);
      index_.erase(0);
    });
    ASSERT_EQ(index_.find(key_of(5)), kNoEntry);
  }
  ASSERT_TRUE(index_.lock_shard(5, kLong));
  EXPECT_EQ(index_.find(key_of(5)), 0U);
  EXPECT_EQ(index_.repaired_shards(), 3U);
}

// Of every shard, whatever the chains look like; entries at the limit and beyond are not looked at.
TEST_F(HashIndexTest, RebuildingAllGoesByTheStates) {
  constexpr std::uint32_t kLimit = 300;
  for (std::uint32_t i = 0; i < kEntries; ++i) {
    auto const state =
        std::array{EntryState::kReady, EntryState::kWriting, EntryState::kFree}[i % 3];
    index_.at(i).set_key(key_of(7 * i, i));
    index_.at(i).state = state;
    index_.at(i).hash_next = i;  // a chain without an end
  }
  index_.set_entry_limit(kLimit);
  for (int again = 0; again < 2; ++again) {
    index_.rebuild_all();
    for (std::uint32_t i = 0; i < kEntries; ++i) {
      EXPECT_EQ(index_.find(key_of(7 * i, i)), i % 3 == 2 || i >= kLimit ? kNoEntry : i);
    }
  }
}

TEST_F(HashIndexTest, RandomOperationsAgreeWithAMap) {
  constexpr unsigned kSeed = 20240716;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  std::mt19937 random{kSeed};
  std::unordered_map<ChunkKey, std::uint32_t, ChunkKeyHash> expected;
  std::vector<std::optional<ChunkKey>> held(kEntries);
  index_.set_entry_limit(kEntries);
  // Few numbers, so that chains are long.
  auto const random_key = [&] { return key_of(random() % (3 * kBuckets), random() % 4); };
  for (int step = 0; step < 50'000; ++step) {
    auto const at = static_cast<std::uint32_t>(random() % kEntries);
    auto const key = random_key();
    auto const guard = index_.lock(held[at].value_or(key), kLong);
    ASSERT_TRUE(guard);
    if (held[at]) {
      take(at);
      expected.erase(*held[at]);
      held[at].reset();
    } else if (!expected.contains(key)) {
      put(at, key, random() % 2 == 0 ? EntryState::kReady : EntryState::kWriting);
      expected[key] = at;
      held[at] = key;
    }
    if (random() % 1000 == 0) index_.rebuild(static_cast<std::uint32_t>(random() % kShardCount));
    if (random() % 2000 == 0) index_.rebuild_all();
    auto const probe = random_key();
    auto const known = expected.find(probe);
    ASSERT_EQ(index_.find(probe), known == expected.end() ? kNoEntry : known->second)
        << "step " << step;
  }
  EXPECT_GT(expected.size(), 100U);
  for (auto const& [key, at] : expected) EXPECT_EQ(index_.find(key), at);
}

}  // namespace
}  // namespace lmcache
