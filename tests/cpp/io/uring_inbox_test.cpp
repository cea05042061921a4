// SPDX-License-Identifier: Apache-2.0
#include "io/uring_inbox.hpp"

#include <gtest/gtest.h>
#include <poll.h>

#include <thread>

#include "support/must.hpp"

namespace lmcache::detail {
namespace {

class UringInboxTest : public ::testing::Test {
 protected:
  UringInboxTest() { test::must(inbox.open()); }
  [[nodiscard]] bool wakes() const {
    pollfd waiting{.fd = inbox.fd(), .events = POLLIN, .revents = 0};
    return ::poll(&waiting, 1, 0) == 1;
  }
  UringInbox inbox;
};

TEST_F(UringInboxTest, KeepsTheOrderOfEachKind) {
  std::byte memory[2];
  inbox.put(UringInbox::FileChange{.file = {1}, .slot = {.fd = 5}});
  inbox.put(UringInbox::Batch{.requests = std::vector<IoRequest>(1), .done = {}});
  inbox.put(UringInbox::FileChange{.file = {1}, .slot = {}});
  inbox.put(std::span{memory});
  inbox.put(UringInbox::Batch{.requests = std::vector<IoRequest>(2), .done = {}});
  auto const letters = inbox.take();
  ASSERT_EQ(letters.files.size(), 2U);
  EXPECT_EQ(letters.files[0].slot.fd, 5);
  EXPECT_EQ(letters.files[1].slot.fd, -1);
  ASSERT_EQ(letters.memory.size(), 1U);
  EXPECT_EQ(letters.memory[0].data(), memory);
  ASSERT_EQ(letters.batches.size(), 2U);
  EXPECT_EQ(letters.batches[1].requests.size(), 2U);
  EXPECT_FALSE(letters.close);
  EXPECT_TRUE(inbox.take().batches.empty());
}

TEST_F(UringInboxTest, WakesOncePerTake) {
  EXPECT_FALSE(wakes());
  inbox.put(UringInbox::Batch{});
  EXPECT_TRUE(wakes());
  inbox.heard();
  EXPECT_FALSE(wakes());
  inbox.put(UringInbox::Batch{});  // comes with the next take(), which is still to be
  EXPECT_FALSE(wakes());
  EXPECT_EQ(inbox.take().batches.size(), 2U);
  inbox.put(UringInbox::Batch{});
  EXPECT_TRUE(wakes());
}

TEST_F(UringInboxTest, StaysClosed) {
  inbox.close();
  EXPECT_TRUE(wakes());
  EXPECT_TRUE(inbox.take().close);
  EXPECT_TRUE(inbox.take().close);
}

TEST_F(UringInboxTest, LosesNothingBetweenThreads) {
  constexpr int kLetters = 2000;
  std::thread writer{[&] {
    for (int i = 0; i < kLetters; ++i) inbox.put(UringInbox::Batch{});
  }};
  std::size_t got = 0;
  while (got < kLetters) {
    pollfd waiting{.fd = inbox.fd(), .events = POLLIN, .revents = 0};
    ASSERT_EQ(::poll(&waiting, 1, -1), 1);
    inbox.heard();
    got += inbox.take().batches.size();
  }
  EXPECT_EQ(got, std::size_t{kLetters});
  writer.join();
}

}  // namespace
}  // namespace lmcache::detail
