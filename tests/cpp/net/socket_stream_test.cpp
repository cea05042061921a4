// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <memory>
#include <thread>

#include <lmcache/net/stream.hpp>

#include "loopback_peer.hpp"
#include "support/must.hpp"
#include "support/temp_directory.hpp"

namespace lmcache::test {
namespace {

constexpr int kTinyBytes = 4096;

struct Pair {
  std::unique_ptr<Stream> stream;
  UniqueFd peer;
};

Pair connected(Listener const& listener) {
  auto stream = must(connect_tcp("127.0.0.1", listener.port(), far_away()));
  return {.stream = std::move(stream), .peer = listener.accept()};
}

Pair connected() { return connected(Listener{{.buffer_bytes = kTinyBytes}}); }

TEST(SocketStream, WritesAllPiecesInOrder) {
  auto const [stream, peer] = connected();
  auto const sent = random_bytes(kPayloadBytes, 1);
  Bytes received;
  {
    std::jthread const reader{[&, fd = peer.get()] { received = receive(fd, kPayloadBytes); }};
    must(stream->write_all(cut(sent), far_away()));
  }
  EXPECT_EQ(received, sent);
}

TEST(SocketStream, ReadsWhatThereIs) {
  // A tiny buffer to send from waits for a delayed acknowledgement each time, 4 s in all.
  auto const [stream, peer] = connected(Listener{});
  auto const sent = random_bytes(kPayloadBytes, 2);
  std::jthread const writer{[&, fd = peer.get()] { send_all(fd, sent); }};
  EXPECT_EQ(must(read_all(*stream, kPayloadBytes, 1000003)), sent);
}

TEST(SocketStream, ReadsNoMoreThanAsked) {
  auto const [stream, peer] = connected();
  auto const sent = random_bytes(10, 3);
  send_all(peer.get(), sent);
  EXPECT_EQ(must(read_all(*stream, 10, 3)), sent);
}

TEST(SocketStream, NothingToWriteIsWritten) {
  auto const [stream, peer] = connected();
  must(stream->write_all({}, Deadline::min()));
  must(write(*stream, {}, Deadline::min()));
}

TEST(SocketStream, WhatNeedsNoWaitNeedsNoTime) {
  auto const [stream, peer] = connected();
  auto const sent = random_bytes(100, 4);
  must(write(*stream, sent, Deadline::min()));
  EXPECT_EQ(receive(peer.get(), 100), sent);
  send_all(peer.get(), sent);
  ASSERT_TRUE(becomes_readable(*stream));
  Bytes read(100);
  EXPECT_TRUE(stream->read_some(read, Deadline::min()));
}

TEST(SocketStream, ReadHasADeadline) {
  auto const [stream, peer] = connected();
  Bytes into(1);
  auto const read = stream->read_some(into, soon());
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code(), ErrorCode::kTimeout);
  EXPECT_NE(read.error().message().find("127.0.0.1:"), std::string::npos);
}

TEST(SocketStream, WriteHasADeadline) {
  auto const [stream, peer] = connected();  // never reads
  auto const written = write(*stream, Bytes(4 * kPayloadBytes), soon());
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code(), ErrorCode::kTimeout);
}

TEST(SocketStream, PeerClosesAfterSomeBytes) {
  auto [stream, peer] = connected();
  auto const sent = random_bytes(10, 5);
  send_all(peer.get(), sent);
  peer.reset();
  EXPECT_EQ(must(read_all(*stream, 10, 10)), sent);
  Bytes into(1);
  auto const read = stream->read_some(into, far_away());
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code(), ErrorCode::kUnavailable);
  EXPECT_NE(read.error().message().find("closed"), std::string::npos);
}

// Without MSG_NOSIGNAL this ends the program.
TEST(SocketStream, PeerResetsInTheMiddleOfAWrite) {
  auto pair = connected();
  std::jthread const server{[fd = std::move(pair.peer)] {
    EXPECT_EQ(receive(fd.get(), 100000).size(), 100000U);
    reset_on_close(fd.get());
  }};
  Result<void> written;
  for (int i = 0; i < 100 && written; ++i) {
    written = write(*pair.stream, Bytes(kPayloadBytes), far_away());
  }
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code(), ErrorCode::kUnavailable);
  EXPECT_NE(written.error().os_error(), 0);
  EXPECT_EQ(write(*pair.stream, Bytes(1), far_away()).error().code(), ErrorCode::kUnavailable);
}

TEST(SocketStream, ShutEndsARead) {
  auto const [stream, peer] = connected();
  std::jthread const other{[&at = *stream] { at.shut(); }};
  Bytes into(1);
  auto const read = stream->read_some(into, far_away());
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code(), ErrorCode::kUnavailable);
}

TEST(SocketStream, ShutEndsAReadThatWaits) {
  auto const [stream, peer] = connected();
  std::jthread const other{[&at = *stream] {
    std::this_thread::sleep_for(std::chrono::milliseconds{50});  // mostly it waits by then
    at.shut();
  }};
  Bytes into(1);
  auto const read = stream->read_some(into, far_away());
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code(), ErrorCode::kUnavailable);
  EXPECT_NE(read.error().message().find("shut"), std::string::npos);
}

TEST(SocketStream, ShutEndsAWrite) {
  auto const [stream, peer] = connected();
  // Reads a little, so that the write is on its way.
  std::jthread const other{[&at = *stream, fd = peer.get()] {
    EXPECT_EQ(receive(fd, 1000).size(), 1000U);
    at.shut();
  }};
  auto const written = write(*stream, Bytes(4 * kPayloadBytes), far_away());
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code(), ErrorCode::kUnavailable);
}

TEST(SocketStream, ShutEndsLaterCallsToo) {
  auto const [stream, peer] = connected();
  send_all(peer.get(), random_bytes(10, 6));
  ASSERT_TRUE(becomes_readable(*stream));
  stream->shut();
  stream->shut();
  Bytes into(1);
  EXPECT_EQ(stream->read_some(into, far_away()).error().code(), ErrorCode::kUnavailable);
  EXPECT_EQ(write(*stream, into, far_away()).error().code(), ErrorCode::kUnavailable);
  EXPECT_TRUE(stream->readable());
}

TEST(SocketStream, ReadableWhenBytesAreThereOrThePeerIsGone) {
  auto [stream, peer] = connected();
  EXPECT_FALSE(stream->readable());
  send_all(peer.get(), random_bytes(2, 7));
  EXPECT_TRUE(becomes_readable(*stream));
  (void)must(read_all(*stream, 2, 2));
  EXPECT_FALSE(stream->readable());
  peer.reset();
  EXPECT_TRUE(becomes_readable(*stream));
}

TEST(SocketStream, SignalsDoNotEndARead) {
  struct sigaction before{};
  struct sigaction counted{};
  static std::atomic<int> signals = 0;
  counted.sa_handler = [](int) { ++signals; };
  ASSERT_EQ(::sigaction(SIGUSR1, &counted, &before), 0);
  auto const [stream, peer] = connected();
  Bytes into(1);
  Result<std::size_t> read{std::size_t{0}};
  {
    std::jthread reader{[&, at = stream.get()] { read = at->read_some(into, far_away()); }};
    for (int i = 0; i < 20; ++i) {
      ::pthread_kill(reader.native_handle(), SIGUSR1);
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
    send_all(peer.get(), Bytes(1));
  }
  EXPECT_EQ(must(std::move(read)), 1U);
  EXPECT_GT(signals, 0);
  ASSERT_EQ(::sigaction(SIGUSR1, &before, nullptr), 0);
}

TEST(SocketStream, RefusedConnection) {
  Listener const listener{{.backlog = -1}};
  auto const stream = connect_tcp("127.0.0.1", listener.port(), far_away());
  ASSERT_FALSE(stream);
  EXPECT_EQ(stream.error().code(), ErrorCode::kUnavailable);
}

TEST(SocketStream, Unix) {
  TempDirectory const folder;
  Listener const listener{{.buffer_bytes = kTinyBytes, .unix_path = folder / "redis.sock"}};
  auto const stream = must(connect_unix(folder / "redis.sock", far_away()));
  auto peer = listener.accept();
  auto const sent = random_bytes(kPayloadBytes, 8);
  EXPECT_FALSE(stream->readable());
  {
    std::jthread const echo{[&] { send_all(peer.get(), receive(peer.get(), kPayloadBytes)); }};
    must(stream->write_all(cut(sent), far_away()));
    EXPECT_EQ(must(read_all(*stream, kPayloadBytes, kPayloadBytes)), sent);
  }
  peer.reset();
  EXPECT_TRUE(stream->readable());
  Bytes into(1);
  auto const read = stream->read_some(into, far_away());
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code(), ErrorCode::kUnavailable);
  EXPECT_NE(read.error().message().find(folder / "redis.sock"), std::string::npos);
}

TEST(SocketStream, UnixPathTooLong) {
  auto const stream = connect_unix("/" + std::string(108, 'a'), far_away());
  ASSERT_FALSE(stream);
  EXPECT_EQ(stream.error().code(), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace lmcache::test
