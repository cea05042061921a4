// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/remote/redis_transport.hpp>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "support/remote_scene.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint64_t kPayload = 5000;
constexpr std::uint64_t kSlot = 8192;
constexpr std::uint64_t kLargeSlot = 5u << 19;  // a value that may fill it is read in pieces

struct Way {
  RemoteSerde serde;
  bool by_socket = true;
};

std::unique_ptr<Transport> connect(RedisServer const& server, Way way) {
  auto const url = must(parse_redis_url(way.by_socket ? server.socket_url() : server.url()));
  return must(redis_transport(url, way.serde)(long_from_now()));
}

TierOutcome put(Transport& transport, std::uint64_t number, RecordBytes const& record) {
  auto const item = put_of(number, record);
  auto out = TierOutcome::kClosed;
  must(transport.put({&item, 1}, long_from_now(), [&](auto, auto outcome) { out = outcome; }));
  return out;
}

TierOutcome get(Transport& transport, std::uint64_t number, RecordBytes& slot) {
  auto const item = get_of(number, slot);
  auto out = TierOutcome::kClosed;
  must(transport.get_into({&item, 1}, long_from_now(), [&](auto, auto outcome) { out = outcome; }));
  return out;
}

class RedisTransport : public testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    LMC_NEEDS_REDIS();
    server = std::make_unique<RedisServer>();
    raw = std::make_unique<RawRedis>(*server);
    transport = connect(*server, GetParam());
  }
  [[nodiscard]] TierOutcome read(std::uint64_t number) {
    auto slot = make_slot(number, kSlot);
    return get(*transport, number, slot);
  }
  // The connection goes on after whatever was answered.
  void expect_usable() {
    auto const record = make_record(77, kPayload);
    EXPECT_EQ(put(*transport, 77, record), TierOutcome::kDone);
    auto slot = make_slot(77, kSlot);
    EXPECT_EQ(get(*transport, 77, slot), TierOutcome::kDone);
    EXPECT_TRUE(begins_with(slot, as_it_arrives(record)));
  }

  std::unique_ptr<RedisServer> server;
  std::unique_ptr<RawRedis> raw;
  std::unique_ptr<Transport> transport;
};

TEST_P(RedisTransport, GivesBackWhatItWasGiven) {
  must(transport->ping(long_from_now()));
  std::vector<RecordBytes> records;
  std::vector<RecordBytes> slots;
  std::vector<RemotePut> puts;
  std::vector<RemoteGet> gets;
  std::vector<ChunkKey> keys;
  std::uint64_t const payloads[] = {1, 3, 4, 1000, 4096, 65'537, 3u << 20};
  for (std::uint64_t i = 0; i < std::size(payloads); ++i) {
    records.push_back(make_record(i, payloads[i]));
    slots.push_back(make_slot(i, records[i].size() + i));
    keys.push_back(numbered_key(i));
  }
  auto const untouched = records;
  for (std::uint64_t i = 0; i < records.size(); ++i) {
    puts.push_back(put_of(i, records[i]));
    gets.push_back(get_of(i, slots[i]));
  }
  std::vector<std::uint32_t> order;
  must(transport->put(puts, long_from_now(), [&](auto item, auto outcome) {
    EXPECT_EQ(outcome, TierOutcome::kDone) << item;
    order.push_back(item);
  }));
  EXPECT_EQ(order, (std::vector<std::uint32_t>{0, 1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(records, untouched) << "it only reads them";
  keys.push_back(numbered_key(1000));
  auto const sizes = must(transport->sizes(keys, long_from_now()));
  for (std::size_t i = 0; i < records.size(); ++i) EXPECT_EQ(sizes[i], records[i].size());
  EXPECT_EQ(sizes.back(), 0u);
  order.clear();
  must(transport->get_into(gets, long_from_now(), [&](auto item, auto outcome) {
    EXPECT_EQ(outcome, TierOutcome::kDone) << item;
    order.push_back(item);
  }));
  EXPECT_EQ(order.size(), records.size());
  for (std::size_t i = 0; i < records.size(); ++i) {
    EXPECT_TRUE(begins_with(slots[i], as_it_arrives(records[i]))) << i;
  }
}

TEST_P(RedisTransport, RemovesAndClearsOursAndNothingElse) {
  raw->call({"SET", "somebody's", "value"});
  raw->call({"SET", "lmcache:2:of another version", "value"});
  auto const record = make_record(1, 10);
  for (std::uint64_t i = 0; i < 2500; ++i) raw->set(i, "x");
  EXPECT_EQ(must(transport->remove({}, long_from_now())), 0u);
  std::vector<ChunkKey> const some{numbered_key(0), numbered_key(1), numbered_key(99'999)};
  EXPECT_EQ(must(transport->remove(some, long_from_now())), 2u);
  EXPECT_EQ(must(transport->describe(long_from_now())).chunks, 2498u);
  EXPECT_EQ(must(transport->clear(long_from_now())), 2498u);
  EXPECT_EQ(must(transport->clear(long_from_now())), 0u);
  EXPECT_EQ(raw->call({"DBSIZE"}).integer, 2);
  expect_usable();
}

TEST_P(RedisTransport, DescribesTheServer) {
  raw->call({"CONFIG", "SET", "maxmemory", "100mb"});
  auto const seen = must(transport->describe(long_from_now()));
  EXPECT_TRUE(seen.server.starts_with("redis ") || seen.server.starts_with("valkey "))
      << seen.server;
  EXPECT_GT(seen.server.size(), std::string_view{"redis "}.size());
  EXPECT_EQ(seen.role, "master");
  EXPECT_GT(seen.used_bytes, 100'000u);
  EXPECT_EQ(seen.limit_bytes, 100u << 20);
  EXPECT_EQ(seen.chunks, 0u);
}

TEST_P(RedisTransport, WhatIsNotThereIsMissing) {
  EXPECT_EQ(read(1), TierOutcome::kMissing);
  expect_usable();
}

TEST_P(RedisTransport, TheValueOfAnotherKeyIsNotTaken) {
  ASSERT_EQ(put(*transport, 1, make_record(1, kPayload)), TierOutcome::kDone);
  raw->set(2, raw->get(1));
  EXPECT_EQ(read(2), TierOutcome::kCorrupt);
  EXPECT_EQ(read(1), TierOutcome::kDone);
}

TEST_P(RedisTransport, AnotherGeometryIsNotTaken) {
  ASSERT_EQ(put(*transport, 1, make_record(1, kPayload, numbered_key(500))), TierOutcome::kDone);
  EXPECT_EQ(read(1), TierOutcome::kCorrupt);
  auto slot = make_slot(1, kSlot, numbered_key(500));
  EXPECT_EQ(get(*transport, 1, slot), TierOutcome::kDone);
  expect_usable();
}

TEST_P(RedisTransport, WhateverLiesThereOnlyCostsItself) {
  auto const record = make_record(1, kPayload);
  ASSERT_EQ(put(*transport, 1, record), TierOutcome::kDone);
  auto const good = raw->get(1);
  std::vector<std::string> values{"x", std::string(60'000, 'g'), std::string(kSlot, '\0'),
                                  good + "x", good.substr(0, good.size() - 1)};
  auto const frame = frame_bytes(GetParam().serde);
  for (auto const length : {frame - 1, frame, frame + 1, frame + 255, frame + 256, frame + 257}) {
    values.push_back(good.substr(0, length));
  }
  for (auto const& value : values) {
    raw->set(1, value);
    EXPECT_EQ(read(1), TierOutcome::kCorrupt) << value.size() << " bytes";
    expect_usable();
  }
  raw->set(1, "");  // to the server as good as none
  EXPECT_EQ(read(1), TierOutcome::kMissing);
  // One that does not fit the slot, though it is right.
  raw->set(1, good);
  auto small = make_slot(1, record.size() - 1);
  EXPECT_EQ(get(*transport, 1, small), TierOutcome::kCorrupt);
  auto exact = make_slot(1, record.size());
  EXPECT_EQ(get(*transport, 1, exact), TierOutcome::kDone);
}

TEST_P(RedisTransport, AKeyOfAnotherTypeIsAnErrorOfItsOwn) {
  raw->call({"LPUSH", redis_key(numbered_key(1)), "x"});
  auto const record = make_record(2, kPayload);
  ASSERT_EQ(put(*transport, 2, record), TierOutcome::kDone);
  std::vector<ChunkKey> const keys{numbered_key(1), numbered_key(2)};
  EXPECT_EQ(must(transport->sizes(keys, long_from_now())),
            (std::vector<std::uint64_t>{0, record.size()}));
  EXPECT_EQ(read(1), TierOutcome::kIoError);
  expect_usable();
  EXPECT_EQ(put(*transport, 1, make_record(1, kPayload)), TierOutcome::kDone);
  EXPECT_EQ(read(1), TierOutcome::kDone);
}

TEST_P(RedisTransport, KeysExpireWhenTold) {
  auto const record = make_record(1, kPayload);
  auto item = put_of(1, record);
  auto const ttl = [&] { return raw->call({"TTL", redis_key(numbered_key(1))}).integer; };
  auto const write = [&] {
    must(transport->put({&item, 1}, long_from_now(),
                        [](auto, auto outcome) { EXPECT_EQ(outcome, TierOutcome::kDone); }));
  };
  write();
  EXPECT_EQ(ttl(), -1);
  item.ttl_seconds = 1000;
  write();
  EXPECT_TRUE(ttl() > 900 && ttl() <= 1000) << ttl();
}

TEST_P(RedisTransport, AFullServerIsNotAnError) {
  raw->call({"CONFIG", "SET", "maxmemory-policy", "noeviction"});
  ASSERT_EQ(put(*transport, 1, make_record(1, kPayload)), TierOutcome::kDone);
  raw->call({"CONFIG", "SET", "maxmemory", "1"});
  EXPECT_EQ(put(*transport, 2, make_record(2, kPayload)), TierOutcome::kNoSpace);
  EXPECT_EQ(read(1), TierOutcome::kDone);
  EXPECT_EQ(read(2), TierOutcome::kMissing);
  raw->call({"CONFIG", "SET", "maxmemory", "0"});
  expect_usable();
}

TEST_P(RedisTransport, NoFlippedBitIsTaken) {
  ASSERT_EQ(put(*transport, 1, make_record(1, kPayload)), TierOutcome::kDone);
  auto const good = raw->get(1);
  auto const head = frame_bytes(GetParam().serde) + sizeof(ChunkHeader);
  std::vector<std::size_t> bits(8 * head);
  for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = i;
  std::mt19937_64 random{7};
  for (int i = 0; i < 10'000; ++i) bits.push_back(8 * head + random() % (8 * (good.size() - head)));
  for (auto const slot_bytes : {kSlot, kLargeSlot}) {
    auto slot = make_slot(1, slot_bytes);
    auto const fresh = slot_header(numbered_key(1), usual_geometry());
    for (auto const bit : bits) {
      auto value = good;
      value[bit / 8] = static_cast<char>(value[bit / 8] ^ (1 << bit % 8));
      raw->set(1, value);
      std::memcpy(slot.data(), &fresh, sizeof fresh);
      ASSERT_EQ(get(*transport, 1, slot), TierOutcome::kCorrupt)
          << "bit " << bit << " of byte " << bit / 8;
    }
    raw->set(1, good);
    std::memcpy(slot.data(), &fresh, sizeof fresh);
    EXPECT_EQ(get(*transport, 1, slot), TierOutcome::kDone);
  }
}

TEST_P(RedisTransport, ALargeValueIsTakenWholeOrNotAtAll) {
  auto const record = make_record(1, kLargeSlot - 4096);
  ASSERT_EQ(put(*transport, 1, record), TierOutcome::kDone);
  auto const good = raw->get(1);
  auto const read_large = [&] {
    auto slot = make_slot(1, kLargeSlot);
    auto const outcome = get(*transport, 1, slot);
    EXPECT_TRUE(outcome != TierOutcome::kDone || begins_with(slot, as_it_arrives(record)));
    return outcome;
  };
  EXPECT_EQ(read_large(), TierOutcome::kDone);
  std::vector<std::string> wrong{good + "x", good + std::string(5000, 'x')};
  for (std::size_t size = 1; size < good.size(); size = size * 3 + 1) {
    wrong.push_back(good.substr(0, size));
    wrong.push_back(good.substr(0, good.size() - size));
    auto cut = good;  // a part of it twice
    cut.replace(size, std::min<std::size_t>(4800, cut.size() - size), cut.substr(0, 4800));
    wrong.push_back(cut);
  }
  for (auto const& value : wrong) {
    if (value == good) continue;
    raw->set(1, value);
    EXPECT_NE(read_large(), TierOutcome::kDone) << value.size() << " bytes";
  }
  raw->call({"DEL", redis_key(numbered_key(1))});
  EXPECT_EQ(read_large(), TierOutcome::kMissing);
  raw->call({"LPUSH", redis_key(numbered_key(1)), "x"});
  EXPECT_EQ(read_large(), TierOutcome::kIoError);
  raw->call({"DEL", redis_key(numbered_key(1))});
  raw->set(1, good);
  EXPECT_EQ(read_large(), TierOutcome::kDone);
  expect_usable();
}

TEST_P(RedisTransport, EndsWithTheServer) {
  server->kill();
  EXPECT_EQ(transport->ping(long_from_now()).error().code(), ErrorCode::kUnavailable);
  auto const key = numbered_key(1);
  EXPECT_FALSE(transport->sizes({&key, 1}, long_from_now()));
}

TEST_P(RedisTransport, ADeadlineEndsWhatTheServerDoesNotAnswer) {
  server->pause();
  auto const key = numbered_key(1);
  auto const soon = Deadline::clock::now() + std::chrono::milliseconds{30};
  EXPECT_EQ(transport->sizes({&key, 1}, soon).error().code(), ErrorCode::kTimeout);
}

INSTANTIATE_TEST_SUITE_P(Ways, RedisTransport,
                         testing::Values(Way{RemoteSerde::kMsgpack, true},
                                         Way{RemoteSerde::kNaive, true},
                                         Way{RemoteSerde::kMsgpack, false}),
                         [](auto const& it) {
                           std::string const serde =
                               it.param.serde == RemoteSerde::kNaive ? "Naive" : "Msgpack";
                           return serde + (it.param.by_socket ? "BySocket" : "ByPort");
                         });

TEST(RedisKeys, NameFormatAndChunk) {
  ChunkKey key;
  key.bytes[0] = 0xAB;
  key.bytes[31] = 0x01;
  EXPECT_EQ(redis_key(key), "lmcache:1:ab" + std::string(60, '0') + "01");
}

}  // namespace
}  // namespace lmcache::test
