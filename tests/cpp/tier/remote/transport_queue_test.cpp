// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/remote/transport_queue.hpp>

#include <chrono>
#include <future>
#include <memory>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "support/remote_scene.hpp"

namespace lmcache::test {
namespace {

using namespace std::chrono_literals;
using Carried = Result<TransportQueue::Carried>;

Deadline soon() { return Deadline::clock::now() + 30ms; }
// Of a call that is taken before it passes, on a busy machine too.
constexpr auto kAWhile = 500ms;
Deadline in_a_while() { return Deadline::clock::now() + kAWhile; }

// A call that another thread waits for.
class Waiting {
 public:
  Waiting(TransportQueue& queue, RemoteRequest request, Deadline deadline = long_from_now())
      : queue_{queue},
        result_{std::async(std::launch::async, [this, request = std::move(request), deadline] {
          return queue_.carry_out(request, deadline, caller_);
        })} {}
  [[nodiscard]] bool ended(std::chrono::milliseconds time = 0ms) {
    return result_.wait_for(time) == std::future_status::ready;
  }
  [[nodiscard]] Carried get() { return result_.get(); }
  void shut() { queue_.shut(caller_); }

 private:
  TransportQueue& queue_;
  TransportQueue::Caller caller_;
  std::future<Carried> result_;
};

RemoteRequest request_of(RemoteOp op) { return {.op = op, .keys = {numbered_key(1)}}; }

RemoteRequest get_request(RecordBytes& slot) {
  return {.op = RemoteOp::kGetInto, .keys = {numbered_key(1)}, .targets = {slot}};
}

TEST(TransportQueue, ACallIsTakenAndAnsweredOnce) {
  auto const queue = TransportQueue::create("store");
  EXPECT_EQ(queue->name(), "store");
  Waiting waiting{*queue, request_of(RemoteOp::kExists)};
  auto const call = queue->take();
  ASSERT_NE(call, nullptr);
  EXPECT_EQ(name_of(call->request().op), "exists");
  EXPECT_EQ(call->request().keys, std::vector{numbered_key(1)});
  EXPECT_FALSE(call->delivered());
  call->answer({.numbers = {7}});
  call->answer({.numbers = {8}});
  EXPECT_TRUE(call->delivered());
  EXPECT_EQ(must(waiting.get()).answer.numbers, std::vector<std::uint64_t>{7});
}

TEST(TransportQueue, ACallThatIsDroppedHasFailed) {
  auto const queue = TransportQueue::create("store");
  Waiting waiting{*queue, request_of(RemoteOp::kRemove)};
  queue->take().reset();
  auto const error = waiting.get().error();
  EXPECT_EQ(error.code(), ErrorCode::kIo);
  EXPECT_NE(error.message().find("remove: its client did not answer"), std::string::npos);
}

TEST(TransportQueue, AnAnswerOfTheWrongLengthIsNone) {
  auto const queue = TransportQueue::create("store");
  for (auto const& numbers : {std::vector<std::uint64_t>{}, {1, 2}}) {
    Waiting waiting{*queue, request_of(RemoteOp::kPut)};
    queue->take()->answer({.numbers = numbers});
    EXPECT_EQ(waiting.get().error().code(), ErrorCode::kIo);
  }
}

TEST(TransportQueue, WhatAFailureMeansDependsOnTheCall) {
  auto const queue = TransportQueue::create("store");
  for (auto const& [op, code] : {std::pair{RemoteOp::kPing, ErrorCode::kUnavailable},
                                 std::pair{RemoteOp::kDescribe, ErrorCode::kUnavailable},
                                 std::pair{RemoteOp::kExists, ErrorCode::kIo}}) {
    Waiting waiting{*queue, request_of(op)};
    queue->take()->answer({.failure = "KeyError: 'x'"});
    auto const error = waiting.get().error();
    EXPECT_EQ(error.code(), code);
    EXPECT_NE(error.message().find(": KeyError: 'x'"), std::string::npos);
  }
}

TEST(TransportQueue, ACallThatNobodyTakesIsWithdrawn) {
  auto const queue = TransportQueue::create("store");
  RecordBytes slot(512);
  for (auto request : {request_of(RemoteOp::kPing), get_request(slot)}) {
    Waiting waiting{*queue, std::move(request), soon()};
    EXPECT_EQ(waiting.get().error().code(), ErrorCode::kTimeout);
  }
  // It does not come any more.
  Waiting next{*queue, request_of(RemoteOp::kClear)};
  EXPECT_EQ(queue->take()->request().op, RemoteOp::kClear);
}

TEST(TransportQueue, ACallWithoutMemoryIsLeftAtItsDeadline) {
  auto const queue = TransportQueue::create("store");
  Waiting waiting{*queue, request_of(RemoteOp::kClear), in_a_while()};
  auto const call = queue->take();
  EXPECT_EQ(waiting.get().error().code(), ErrorCode::kTimeout);
  EXPECT_TRUE(call->delivered());
  EXPECT_EQ(call->request().keys.size(), 1u) << "it is still there for whoever has it";
  call->answer({.numbers = {1}});
  // It hangs on for as long as it likes: others are not kept from anything.
  Waiting next{*queue, request_of(RemoteOp::kClear)};
  queue->take()->answer({.numbers = {2}});
  EXPECT_EQ(must(next.get()).answer.numbers.front(), 2u);
}

TEST(TransportQueue, ACallWithMemoryIsWaitedForAndOthersFailMeanwhile) {
  auto const queue = TransportQueue::create("store");
  RecordBytes slot(512);
  Waiting waiting{*queue, get_request(slot), in_a_while()};
  auto const call = queue->take();
  EXPECT_FALSE(waiting.ended(kAWhile + 100ms));
  TransportQueue::Caller caller;
  auto const other = queue->carry_out(request_of(RemoteOp::kPing), long_from_now(), caller);
  EXPECT_EQ(other.error().code(), ErrorCode::kTimeout);
  waiting.shut();
  queue->close();
  EXPECT_FALSE(waiting.ended(50ms));
  call->answer({.numbers = {512}});
  auto const carried = must(waiting.get());
  EXPECT_TRUE(carried.late);
  EXPECT_EQ(carried.answer.numbers.front(), 512u);
}

TEST(TransportQueue, AfterALateCallOthersAreServedAgain) {
  auto const queue = TransportQueue::create("store");
  RecordBytes slot(512);
  {
    Waiting waiting{*queue, get_request(slot), in_a_while()};
    auto const call = queue->take();
    EXPECT_FALSE(waiting.ended(kAWhile + 50ms));
    call->answer({.failure = "gone"});
    EXPECT_EQ(waiting.get().error().code(), ErrorCode::kIo);
  }
  Waiting next{*queue, request_of(RemoteOp::kPing)};
  queue->take()->answer({});
  EXPECT_TRUE(next.get());
}

TEST(TransportQueue, AnAnswerWaitsForTheLastBuffer) {
  auto const queue = TransportQueue::create("store");
  RecordBytes slot(512);
  Waiting waiting{*queue, get_request(slot)};
  auto call = queue->take();
  call->hold_buffer();
  call->hold_buffer();
  call->answer({.numbers = {0}});
  call->let_go_of_buffer();
  EXPECT_FALSE(call->delivered());
  EXPECT_FALSE(waiting.ended(50ms));
  call->let_go_of_buffer();
  EXPECT_TRUE(waiting.get());
}

TEST(TransportQueue, ShutEndsWhatNeedNotBeWaitedFor) {
  auto const queue = TransportQueue::create("store");
  RecordBytes slot(512);
  Waiting taken{*queue, request_of(RemoteOp::kExists)};
  auto const call = queue->take();
  Waiting untaken{*queue, get_request(slot)};
  taken.shut();
  untaken.shut();
  EXPECT_EQ(taken.get().error().code(), ErrorCode::kUnavailable);
  EXPECT_EQ(untaken.get().error().code(), ErrorCode::kUnavailable);
  call->answer({.numbers = {1}});
}

TEST(TransportQueue, CloseEndsTakersAndWhatIsNotTaken) {
  auto const queue = TransportQueue::create("store");
  auto taker = std::async(std::launch::async, [&] { return queue->take(); });
  Waiting taken{*queue, request_of(RemoteOp::kRemove)};
  auto const call = taker.get();
  Waiting untaken{*queue, request_of(RemoteOp::kRemove)};
  auto const idle = std::async(std::launch::async, [&] {
    while (!queue->closed()) std::this_thread::sleep_for(1ms);
    return queue->take();
  });
  queue->close();
  queue->close();
  EXPECT_EQ(untaken.get().error().code(), ErrorCode::kUnavailable);
  call->answer({.numbers = {1}});
  EXPECT_TRUE(taken.get()) << "what was taken before may end";
  EXPECT_EQ(queue->take(), nullptr);
  TransportQueue::Caller caller;
  auto const later = queue->carry_out(request_of(RemoteOp::kPing), long_from_now(), caller);
  EXPECT_EQ(later.error().code(), ErrorCode::kUnavailable);
}

TEST(TransportQueue, LentMemoryIsWaitedFor) {
  auto const queue = TransportQueue::create("store");
  EXPECT_TRUE(queue->wait_for_memory(0ms));
  std::vector<std::byte> memory(100);
  auto lent = queue->lend(memory);
  EXPECT_EQ(lent->bytes().data(), memory.data());
  EXPECT_FALSE(queue->wait_for_memory(10ms));
  auto waiting = std::async(std::launch::async, [&] { return queue->wait_for_memory(kLongTime); });
  lent.reset();
  EXPECT_TRUE(waiting.get());
}

TEST(TransportQueue, HeadersLieInOnePlaceAndAreGivenBack) {
  auto const queue = TransportQueue::create("store");
  auto& pool = queue->headers();
  auto const bytes = pool.bytes();
  EXPECT_EQ(bytes.size(), HeaderPool::kHeaders * sizeof(ChunkHeader));
  {
    auto const first = pool.borrow(HeaderPool::kHeaders - 1, soon());
    ASSERT_TRUE(first);
    auto const last = pool.borrow(1, soon());
    ASSERT_TRUE(last);
    std::set<ChunkHeader const*> places{&(*last)[0]};
    for (std::size_t i = 0; i + 1 < HeaderPool::kHeaders; ++i) places.insert(&(*first)[i]);
    EXPECT_EQ(places.size(), HeaderPool::kHeaders);
    EXPECT_GE(reinterpret_cast<std::byte const*>(*places.begin()), bytes.data());
    EXPECT_LT(reinterpret_cast<std::byte const*>(*places.rbegin()), bytes.data() + bytes.size());
    EXPECT_FALSE(pool.borrow(1, soon()));
  }
  EXPECT_TRUE(pool.borrow(HeaderPool::kHeaders, soon()));
}

}  // namespace
}  // namespace lmcache::test
