// SPDX-License-Identifier: Apache-2.0
// Records that one value cannot hold: what lies in the servers, and what comes of parts that are
// gone, cut, damaged or another chunk's.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <lmcache/tier/remote/redis_transport.hpp>

#include "tier/remote/redis_values.hpp"

#include "support/redis_cluster.hpp"
#include "support/remote_scene.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint64_t kFirst = sizeof(ChunkHeader) + kRemotePartBytes;
constexpr std::uint64_t kPayload = 2 * kRemotePartBytes + 100'001;  // three parts

struct Form {
  bool cluster;
  RemoteSerde serde;
};

class SplitValues : public testing::TestWithParam<Form> {
 protected:
  void SetUp() override {
    LMC_NEEDS_REDIS();
    if (GetParam().cluster) {
      cluster_ = std::make_unique<RedisCluster>();
    } else {
      server_ = std::make_unique<RedisServer>();
      auto const url = must(parse_redis_url(server_->socket_url()));
      raw_ = must(RedisConnection::open(url, {}, long_from_now()));
    }
    transport = connect();
  }
  [[nodiscard]] std::unique_ptr<Transport> connect() {
    auto const url = cluster_ ? cluster_->url() : must(parse_redis_url(server_->socket_url()));
    return must(redis_transport(url, GetParam().serde)(long_from_now()));
  }
  [[nodiscard]] static std::string name(std::uint64_t number, int part) {
    auto out = redis_key(numbered_key(number));
    if (part != 0) out.append(":").append(std::to_string(part));
    return out;
  }
  // A command whose second word is a key.
  RespValue call(std::vector<std::string> const& command) {
    if (cluster_)
      return must(cluster_->call(cluster_->first_owner(redis_slot(command[1])), command));
    RespBatch batch;
    batch.begin(command.size());
    for (auto const& word : command) batch.arg(word);
    must(raw_->send(batch, long_from_now()));
    return must(raw_->reader().read_value(long_from_now()));
  }
  [[nodiscard]] TierOutcome put(std::uint64_t number, RecordBytes const& record,
                                std::uint32_t ttl_seconds = 0) {
    auto item = put_of(number, record);
    item.ttl_seconds = ttl_seconds;
    auto out = TierOutcome::kClosed;
    must(transport->put({&item, 1}, long_from_now(), [&](auto, auto seen) { out = seen; }));
    return out;
  }
  // What does not come back as it was is no success.
  [[nodiscard]] TierOutcome get(std::uint64_t number, RecordBytes const& expected) {
    auto slot = make_slot(number, expected.size() + 4096);
    auto item = get_of(number, slot);
    auto out = TierOutcome::kClosed;
    must(transport->get_into({&item, 1}, long_from_now(), [&](auto, auto seen) { out = seen; }));
    EXPECT_TRUE(out != TierOutcome::kDone || begins_with(slot, as_it_arrives(expected)));
    return out;
  }
  [[nodiscard]] std::uint64_t size(std::uint64_t number) {
    auto const key = numbered_key(number);
    return must(transport->sizes({&key, 1}, long_from_now())).front();
  }

  std::unique_ptr<Transport> transport;

 private:
  std::unique_ptr<RedisServer> server_;
  std::unique_ptr<RedisConnection> raw_;
  std::unique_ptr<RedisCluster> cluster_;
};

TEST_P(SplitValues, AreJoinedAgain) {
  for (std::uint64_t const payload :
       {kRemotePartBytes - 32, kRemotePartBytes - 31, kPayload, 5 * kRemotePartBytes}) {
    auto const record = make_record(1, payload);
    ASSERT_EQ(put(1, record), TierOutcome::kDone);
    EXPECT_EQ(size(1), record.size());
    EXPECT_EQ(get(1, record), TierOutcome::kDone) << payload;
    auto const parts = part_count(record.size());
    EXPECT_EQ(parts,
              (record.size() - sizeof(ChunkHeader) + kRemotePartBytes - 1) / kRemotePartBytes);
    for (int part = 0; part <= static_cast<int>(parts); ++part) {
      auto const expected =
          record_part(record.size(), static_cast<std::uint32_t>(part)).size_bytes +
          (part == 0 ? frame_bytes(GetParam().serde) : 0);
      EXPECT_EQ(call({"STRLEN", name(1, part)}).integer, static_cast<std::int64_t>(expected));
    }
    EXPECT_EQ(must(transport->describe(long_from_now())).chunks, 1u);
    auto const key = numbered_key(1);
    EXPECT_EQ(must(transport->remove({&key, 1}, long_from_now())), 1u);
    for (int part = 0; part <= static_cast<int>(parts); ++part) {
      EXPECT_EQ(call({"EXISTS", name(1, part)}).integer, 0) << part;
    }
  }
}

TEST_P(SplitValues, SeveralGoAtOnceAndAllAreCleared) {
  std::vector<RecordBytes> records;
  std::vector<RecordBytes> slots;
  std::vector<RemotePut> puts;
  std::vector<RemoteGet> gets;
  for (std::uint64_t number = 0; number < 6; ++number) {
    records.push_back(make_record(number, number % 2 == 0 ? kPayload : 1000));
    slots.push_back(make_slot(number, kPayload + 4096));
  }
  for (std::uint64_t number = 0; number < 6; ++number) {
    puts.push_back(put_of(number, records[number]));
    gets.push_back(get_of(number, slots[number]));
  }
  std::vector<TierOutcome> outcomes(6, TierOutcome::kClosed);
  auto const note = [&](std::uint32_t item, TierOutcome outcome) { outcomes[item] = outcome; };
  std::vector<TierOutcome> const all(6, TierOutcome::kDone);
  must(transport->put(puts, long_from_now(), note));
  EXPECT_EQ(outcomes, all);
  outcomes.assign(6, TierOutcome::kClosed);
  must(transport->get_into(gets, long_from_now(), note));
  EXPECT_EQ(outcomes, all);
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_TRUE(begins_with(slots[i], as_it_arrives(records[i]))) << i;
  }
  EXPECT_EQ(must(transport->clear(long_from_now())), 6u) << "parts are not chunks";
  EXPECT_EQ(call({"EXISTS", name(0, 1)}).integer, 0);
  EXPECT_EQ(call({"EXISTS", name(0, 2)}).integer, 0);
}

TEST_P(SplitValues, AMissingPartIsAMiss) {
  auto const record = make_record(1, kPayload);
  for (int part = 0; part < 3; ++part) {
    ASSERT_EQ(put(1, record), TierOutcome::kDone);
    call({"DEL", name(1, part)});
    EXPECT_EQ(get(1, record), TierOutcome::kMissing) << part;
  }
  ASSERT_EQ(put(1, record), TierOutcome::kDone);
  EXPECT_EQ(get(1, record), TierOutcome::kDone);
}

TEST_P(SplitValues, APartThatIsNotOursIsNotTaken) {
  auto const record = make_record(1, kPayload);
  ASSERT_EQ(put(1, record), TierOutcome::kDone);
  ASSERT_EQ(put(2, make_record(2, kPayload)), TierOutcome::kDone);
  for (int part = 0; part < 3; ++part) {
    auto const good = call({"GET", name(1, part)}).text;
    auto const other = call({"GET", name(2, part)}).text;
    auto cut = good.substr(0, good.size() - 1);
    auto flipped = good;
    flipped[good.size() / 2] ^= 1;
    std::vector<std::string> wrong{other, cut, flipped};
    if (part == 2) wrong.push_back(good + "x");
    for (auto const& value : wrong) {
      call({"SET", name(1, part), value});
      EXPECT_EQ(get(1, record), TierOutcome::kCorrupt) << part << ": " << value.size();
    }
    for (std::size_t const size : {1u, 5000u}) {  // whole pieces of it are not there
      call({"SET", name(1, part), good.substr(0, size)});
      EXPECT_NE(get(1, record), TierOutcome::kDone) << part << ": " << size;
    }
    call({"SET", name(1, part), good});
    EXPECT_EQ(get(1, record), TierOutcome::kDone);
  }
}

TEST_P(SplitValues, WhatCameHalfwayIsCountedExpiresAndIsTakenBack) {
  auto const record = make_record(1, kPayload);
  ASSERT_EQ(put(1, record), TierOutcome::kDone);
  ASSERT_EQ(put(2, make_record(2, kPayload)), TierOutcome::kDone);
  for (int part = 0; part < 3; ++part) EXPECT_EQ(call({"TTL", name(1, part)}).integer, -1) << part;
  call({"DEL", name(1, 0)});
  auto const seen = must(transport->describe(long_from_now()));
  EXPECT_EQ(seen.chunks, 1u);
  EXPECT_EQ(seen.orphans, 2u);
  auto const key = numbered_key(1);
  std::uint64_t const size = record.size();
  must(transport->discard({&key, 1}, {&size, 1}, long_from_now()));
  for (int part = 0; part < 3; ++part) EXPECT_EQ(call({"EXISTS", name(1, part)}).integer, 0);
  EXPECT_EQ(must(transport->describe(long_from_now())).orphans, 0u);
  EXPECT_EQ(must(transport->clear(long_from_now())), 1u);
}

bool ends_with_expiry(RespBatch const& batch) {
  std::string text;
  for (auto const& piece : batch.pieces()) {
    text.append(reinterpret_cast<char const*>(piece.data()), piece.size());
  }
  return text.ends_with("$2\r\nEX\r\n$4\r\n3600\r\n");
}

// As long as the first part is not there, somebody may have died before he could write it.
TEST_P(SplitValues, PartsExpireUntilTheFirstIsThere) {
  auto const record = make_record(1, kPayload);
  RespBatch batch;
  detail::ValueHead head;
  auto const item = put_of(1, record);
  detail::add_set(batch, GetParam().serde, item, 1, head);
  EXPECT_TRUE(ends_with_expiry(batch));
  batch.clear();
  detail::add_set(batch, GetParam().serde, item, 0, head);
  EXPECT_FALSE(ends_with_expiry(batch));
}

TEST_P(SplitValues, AllPartsExpire) {
  ASSERT_EQ(put(1, make_record(1, kPayload), 1000), TierOutcome::kDone);
  for (int part = 0; part < 3; ++part) {
    auto const left = call({"TTL", name(1, part)}).integer;
    EXPECT_TRUE(left > 900 && left <= 1000) << part << ": " << left;
  }
}

// A record may be shorter than its slot: parts that there would be room for are no part of it.
TEST_P(SplitValues, AShortRecordInALongSlot) {
  auto const record = make_record(1, 1000);
  ASSERT_EQ(put(1, record), TierOutcome::kDone);
  auto slot = make_slot(1, kPayload);
  auto item = get_of(1, slot);
  auto out = TierOutcome::kClosed;
  must(transport->get_into({&item, 1}, long_from_now(), [&](auto, auto seen) { out = seen; }));
  EXPECT_EQ(out, TierOutcome::kDone);
  EXPECT_TRUE(begins_with(slot, as_it_arrives(record)));
}

INSTANTIATE_TEST_SUITE_P(Forms, SplitValues,
                         testing::Values(Form{false, RemoteSerde::kMsgpack},
                                         Form{false, RemoteSerde::kNaive},
                                         Form{true, RemoteSerde::kMsgpack},
                                         Form{true, RemoteSerde::kNaive}),
                         [](auto const& it) {
                           return std::string{it.param.cluster ? "Cluster" : "Server"}.append(
                               it.param.serde == RemoteSerde::kNaive ? "Naive" : "Msgpack");
                         });

}  // namespace
}  // namespace lmcache::test
