// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/remote/queue_transport.hpp>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "support/hasty_clock.hpp"
#include "support/remote_scene.hpp"

namespace lmcache::test {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kPayload = 4000;
constexpr std::uint64_t kSlot = 5000;

// A store of values that other threads serve. What it answers can be changed, call by call.
class ServedMap {
 public:
  using Change = std::function<void(RemoteRequest const&, RemoteAnswer&)>;

  explicit ServedMap(std::size_t threads = 3) {
    for (std::size_t i = 0; i < threads; ++i) {
      threads_.emplace_back([this] {
        while (auto const call = queue->take()) serve(*call);
      });
    }
  }
  ~ServedMap() {
    queue->close();
    for (auto& thread : threads_) thread.join();
  }

  void set(std::uint64_t number, RecordBytes value) {
    std::lock_guard const lock{mutex_};
    values_[to_hex(numbered_key(number))] = std::move(value);
  }
  [[nodiscard]] RecordBytes get(std::uint64_t number) {
    std::lock_guard const lock{mutex_};
    return values_[to_hex(numbered_key(number))];
  }
  void set_change(Change change) {
    std::lock_guard const lock{mutex_};
    change_ = std::move(change);
  }
  [[nodiscard]] std::uint32_t ttl_seconds() {
    std::lock_guard const lock{mutex_};
    return ttl_seconds_;
  }

  std::shared_ptr<TransportQueue> const queue = TransportQueue::create("map");

 private:
  void serve(TakenCall& call) {
    auto const& request = call.request();
    RemoteAnswer answer;
    Change change;
    {
      std::lock_guard const lock{mutex_};
      for (std::size_t i = 0; i < request.keys.size(); ++i) {
        answer.numbers.push_back(serve(request, i));
      }
      change = change_;
      if (request.op == RemoteOp::kRemove) {
        answer.numbers = {std::uint64_t(std::ranges::count(answer.numbers, 1u))};
      }
      if (request.op == RemoteOp::kClear) answer.numbers = {values_.size()};
      if (request.op == RemoteOp::kClear) values_.clear();
      if (request.op == RemoteOp::kDescribe) answer.description.chunks = values_.size();
    }
    if (change) change(request, answer);
    call.answer(std::move(answer));
  }
  // Under the lock.
  std::uint64_t serve(RemoteRequest const& request, std::size_t i) {
    auto const name = to_hex(request.keys[i]);
    auto const found = values_.find(name);
    if (request.op == RemoteOp::kPut) {
      ttl_seconds_ = request.ttl_seconds;
      auto& value = values_[name];
      value.clear();
      for (auto const part : {request.sources[2 * i], request.sources[2 * i + 1]}) {
        value.insert(value.end(), part.begin(), part.end());
      }
      return 1;
    }
    if (found == values_.end()) return 0;
    if (request.op == RemoteOp::kRemove) return values_.erase(name);
    if (request.op == RemoteOp::kGetInto) {
      std::memcpy(request.targets[i].data(), found->second.data(), found->second.size());
    }
    return found->second.size();
  }

  std::mutex mutex_;
  std::map<std::string, RecordBytes> values_;
  Change change_;
  std::uint32_t ttl_seconds_ = 0;
  std::vector<std::thread> threads_;
};

std::unique_ptr<Transport> transport_of(ServedMap& map) {
  return must(queue_transport(map.queue)(long_from_now()));
}

std::vector<TierOutcome> get(Transport& transport, std::vector<RemoteGet> const& items) {
  std::vector<TierOutcome> out(items.size(), TierOutcome::kClosed);
  must(transport.get_into(items, long_from_now(), [&](std::uint32_t i, TierOutcome outcome) {
    EXPECT_EQ(out[i], TierOutcome::kClosed) << "answered twice";
    out[i] = outcome;
  }));
  return out;
}
TierOutcome get_one(Transport& transport, std::uint64_t number, RecordBytes& slot) {
  return get(transport, {get_of(number, slot)}).front();
}
std::vector<TierOutcome> put(Transport& transport, std::vector<RemotePut> const& items) {
  std::vector<TierOutcome> out(items.size(), TierOutcome::kClosed);
  must(transport.put(items, long_from_now(),
                     [&](std::uint32_t i, TierOutcome outcome) { out[i] = outcome; }));
  return out;
}

TEST(QueueTransport, ReadsWhatItWrote) {
  ServedMap map;
  auto const transport = transport_of(map);
  must(transport->ping(long_from_now()));
  auto const one = make_record(1, kPayload), two = make_record(2, 61);
  auto const before = one;
  auto item = put_of(1, one);
  item.ttl_seconds = 60;
  EXPECT_EQ(put(*transport, {item, put_of(2, two)}), std::vector(2, TierOutcome::kDone));
  EXPECT_EQ(map.ttl_seconds(), 60u);
  EXPECT_EQ(one, before) << "the record in memory is left as it is";
  EXPECT_EQ(map.get(1), as_it_arrives(one)) << "the record alone, sealed";
  std::vector const keys{numbered_key(2), numbered_key(3), numbered_key(1)};
  EXPECT_EQ(must(transport->sizes(keys, long_from_now())),
            (std::vector<std::uint64_t>{two.size(), 0, one.size()}));
  auto first = make_slot(1, kSlot), second = make_slot(2, kSlot), third = make_slot(3, kSlot);
  EXPECT_EQ(get(*transport, {get_of(1, first), get_of(3, third), get_of(2, second)}),
            (std::vector{TierOutcome::kDone, TierOutcome::kMissing, TierOutcome::kDone}));
  EXPECT_TRUE(begins_with(first, as_it_arrives(one)));
  EXPECT_TRUE(begins_with(second, as_it_arrives(two)));
  EXPECT_EQ(must(transport->describe(long_from_now())).chunks, 2u);
  EXPECT_EQ(must(transport->remove(keys, long_from_now())), 0u + 2);
  EXPECT_EQ(must(transport->remove({}, long_from_now())), 0u);
  map.set(9, as_it_arrives(one));
  EXPECT_EQ(must(transport->clear(long_from_now())), 1u);
}

TEST(QueueTransport, WhatIsNotWhatTheKeySaysIsCorrupt) {
  ServedMap map;
  auto const transport = transport_of(map);
  auto const right = as_it_arrives(make_record(1, kPayload));
  auto slot = make_slot(1, kSlot);
  map.set(1, right);
  ASSERT_EQ(get_one(*transport, 1, slot), TierOutcome::kDone);
  auto const is_corrupt = [&](RecordBytes value) {
    map.set(1, std::move(value));
    auto fresh = make_slot(1, kSlot);
    return get_one(*transport, 1, fresh) == TierOutcome::kCorrupt;
  };
  EXPECT_TRUE(is_corrupt(as_it_arrives(make_record(2, kPayload)))) << "of another key";
  EXPECT_TRUE(is_corrupt(as_it_arrives(make_record(1, kPayload, numbered_key(77)))))
      << "of another geometry";
  auto unsealed = make_record(1, kPayload);
  EXPECT_TRUE(is_corrupt(unsealed));
  for (std::size_t size : {std::size_t{1}, std::size_t{255}, std::size_t{256}, right.size() - 1}) {
    EXPECT_TRUE(is_corrupt({right.begin(), right.begin() + std::ptrdiff_t(size)})) << size;
  }
  auto longer = right;
  longer.push_back({});
  EXPECT_TRUE(is_corrupt(longer));
  for (std::size_t at = 0; at < right.size(); at += 37) {
    auto flipped = right;
    flipped[at] ^= std::byte{1} << (at % 8);
    EXPECT_TRUE(is_corrupt(flipped)) << at;
  }
}

TEST(QueueTransport, AClientThatClaimsMoreThanTheSlotHasIsNotBelieved) {
  ServedMap map;
  auto const transport = transport_of(map);
  map.set(1, as_it_arrives(make_record(1, kPayload)));
  map.set_change([](RemoteRequest const& request, RemoteAnswer& answer) {
    if (request.op == RemoteOp::kGetInto) answer.numbers.front() = ~std::uint64_t{0};
  });
  auto slot = make_slot(1, kSlot);
  EXPECT_EQ(get_one(*transport, 1, slot), TierOutcome::kCorrupt);
}

TEST(QueueTransport, AStoreWithoutRoomSaysSo) {
  ServedMap map;
  auto const transport = transport_of(map);
  map.set_change([](RemoteRequest const&, RemoteAnswer& answer) { answer.numbers.front() = 0; });
  auto const one = make_record(1, kPayload), two = make_record(2, kPayload);
  EXPECT_EQ(put(*transport, {put_of(1, one), put_of(2, two)}),
            (std::vector{TierOutcome::kNoSpace, TierOutcome::kDone}));
}

TEST(QueueTransport, AFailureIsOneOfAllItems) {
  ServedMap map;
  auto const transport = transport_of(map);
  map.set_change(
      [](RemoteRequest const&, RemoteAnswer& answer) { answer.failure = "OSError: no"; });
  auto slot = make_slot(1, kSlot);
  std::vector const items{get_of(1, slot)};
  auto const done = transport->get_into(items, long_from_now(), [](std::uint32_t, TierOutcome) {
    ADD_FAILURE() << "nothing was answered";
  });
  EXPECT_EQ(done.error().message().find("get_into: OSError: no"), 0u);
  EXPECT_EQ(transport->ping(long_from_now()).error().code(), ErrorCode::kUnavailable);
}

TEST(QueueTransport, WhatComesLateIsRightAndATimeoutAllTheSame) {
  ServedMap map;
  auto const transport = transport_of(map);
  map.set(1, as_it_arrives(make_record(1, kPayload)));
  map.set_change([](RemoteRequest const&, RemoteAnswer&) { std::this_thread::sleep_for(80ms); });
  auto slot = make_slot(1, kSlot);
  std::vector const items{get_of(1, slot)};
  std::vector<TierOutcome> seen;
  auto const done =
      transport->get_into(items, Deadline::clock::now() + 20ms,
                          [&](std::uint32_t, TierOutcome outcome) { seen.push_back(outcome); });
  EXPECT_EQ(done.error().code(), ErrorCode::kTimeout);
  EXPECT_EQ(seen, std::vector{TierOutcome::kDone});
}

TEST(QueueTransport, NoneIsMadeOfAClosedQueue) {
  ServedMap map;
  map.queue->close();
  EXPECT_EQ(queue_transport(map.queue)(long_from_now()).error().code(), ErrorCode::kUnavailable);
}

// The tier over it: everything is answered once and right, with clients that fail, are slow and
// lie, and the store closed in the middle of it.
TEST(QueueTransport, ManyAtOnceEachIsAnsweredOnceAndRight) {
  constexpr std::uint64_t kCount = 40;
  HastyClock const clock;
  ServedMap map{4};
  std::atomic<std::uint64_t> calls{0};
  map.set_change([&](RemoteRequest const& request, RemoteAnswer& answer) {
    auto const number = ++calls;
    if (number % 7 == 0) std::this_thread::sleep_for(3ms);
    if (number % 31 == 0) std::this_thread::sleep_for(60ms);  // late
    if (number % 23 == 0) answer.failure = "now and then";
    if (number % 11 == 0 && request.op == RemoteOp::kGetInto) {
      request.targets.front()[300] ^= std::byte{4};
    }
  });
  std::uint64_t right = 0;
  for (int round = 0; round < 8; ++round) {
    auto tier = must(RemoteTier::open({.connections = 3,
                                       .lookup_deadline = 20ms,
                                       .transfer_deadline = 40ms,
                                       .presence_kept = 1ms},
                                      queue_transport(map.queue), clock, {}));
    (void)comes_to_be([&] { return tier->usable(); });
    std::vector<RecordBytes> records, slots;
    for (std::uint64_t i = 0; i < kCount; ++i) {
      records.push_back(make_record(i, kPayload));
      slots.push_back(make_slot(i, kSlot));
    }
    auto const written = std::make_shared<Answers>(kCount);
    auto const read = std::make_shared<Answers>(kCount);
    for (std::uint64_t i = 0; i < kCount; ++i) {
      tier->write(put_of(i, records[i]), [=](TierOutcome outcome) { written->set(i, outcome); });
      std::uint64_t const size = kSlot;
      tier->read({get_of(i, slots[i])}, {&size, 1},
                 [=](std::uint32_t, TierOutcome outcome) { read->set(i, outcome); });
      if (i % 10 == 0) (void)ask_of(*tier, {numbered_key(i)});
    }
    if (round % 2 == 0) {
      ASSERT_TRUE(tier->drain(kLongTime));
    }
    tier.reset();  // answers the rest
    ASSERT_EQ(written->answered(), kCount);
    ASSERT_EQ(read->answered(), kCount);
    for (std::uint64_t i = 0; i < kCount; ++i) {
      if (read->of(i) != TierOutcome::kDone) continue;
      ++right;
      EXPECT_TRUE(begins_with(slots[i], as_it_arrives(records[i])));
    }
  }
  EXPECT_GT(right, 0u);
}

}  // namespace
}  // namespace lmcache::test
