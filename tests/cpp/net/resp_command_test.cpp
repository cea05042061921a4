// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include <lmcache/net/resp_command.hpp>

namespace lmcache {
namespace {

using namespace std::string_literals;

std::span<std::byte const> bytes_of(std::string_view text) {
  return std::as_bytes(std::span{text});
}

std::string joined(RespBatch const& batch) {
  std::string out;
  for (auto const& piece : batch.pieces()) {
    out.append(reinterpret_cast<char const*>(piece.data()), piece.size());
  }
  return out;
}

TEST(RespBatch, IsEmptyAtFirst) {
  RespBatch const batch;
  EXPECT_TRUE(batch.pieces().empty());
  EXPECT_TRUE(batch.complete());
  EXPECT_EQ(batch.commands(), 0u);
}

TEST(RespBatch, WritesCommandsInOrder) {
  RespBatch batch;
  batch.begin(2).arg("GET").arg(std::string_view{"a\r\n\0b", 5});
  batch.begin(1).arg("PING");
  batch.begin(2).arg("ECHO").arg("");
  EXPECT_EQ(joined(batch),
            "*2\r\n$3\r\nGET\r\n$5\r\na\r\n\0b\r\n*1\r\n$4\r\nPING\r\n"
            "*2\r\n$4\r\nECHO\r\n$0\r\n\r\n"s);
  EXPECT_EQ(batch.commands(), 3u);
  EXPECT_TRUE(batch.complete());
}

TEST(RespBatch, LargeArgumentsStayWhereTheyAre) {
  std::string const large(RespBatch::kMaxCopiedBytes + 1, 'L');
  std::string const other(5000, 'O');
  RespBatch batch;
  batch.begin(3).arg("SET").arg("k1").arg(bytes_of(large));
  batch.begin(3).arg("SET").arg("k2").arg_pieces(
      {bytes_of(large), bytes_of("tiny"), bytes_of(other), bytes_of(large)});
  std::vector<std::span<std::byte const>> const list{bytes_of(other), bytes_of(other)};
  batch.begin(2).arg_pieces(list).arg("end");
  std::string const expected = "*3\r\n$3\r\nSET\r\n$2\r\nk1\r\n$1025\r\n" + large +
                               "\r\n*3\r\n$3\r\nSET\r\n$2\r\nk2\r\n$7054\r\n" + large + "tiny" +
                               other + large + "\r\n*2\r\n$10000\r\n" + other + other +
                               "\r\n$3\r\nend\r\n";
  EXPECT_EQ(joined(batch), expected);
  std::vector<void const*> at;
  for (auto const& piece : batch.pieces()) at.push_back(piece.data());
  auto const is_piece = [&](std::string const& text) {
    return std::count(at.begin(), at.end(), static_cast<void const*>(text.data()));
  };
  EXPECT_EQ(is_piece(large), 3);
  EXPECT_EQ(is_piece(other), 3);
  EXPECT_EQ(at.size(), 6u + 5u);
}

TEST(RespBatch, SmallBytesAreCopied) {
  std::string small(RespBatch::kMaxCopiedBytes, 'S');
  RespBatch batch;
  batch.begin(1).arg(bytes_of(small));
  EXPECT_EQ(batch.pieces().size(), 1u);
  small.assign(small.size(), 'x');
  EXPECT_EQ(joined(batch).find('x'), std::string::npos);
  batch.clear();
  batch.begin(2).arg(std::span<std::byte const>{}).arg_pieces({});
  EXPECT_EQ(joined(batch), "*2\r\n$0\r\n\r\n$0\r\n\r\n");
}

TEST(RespBatch, SeesAWrongNumberOfArguments) {
  RespBatch batch;
  batch.begin(2).arg("GET");
  EXPECT_FALSE(batch.complete());
  batch.begin(1).arg("PING");
  EXPECT_FALSE(batch.complete()) << "the first still lacks one";
  batch.clear();
  EXPECT_TRUE(batch.complete());
  batch.begin(1).arg("PING").arg("more");
  EXPECT_FALSE(batch.complete());
  batch.begin(1).arg("PING");
  EXPECT_FALSE(batch.complete());
  batch.clear();
  batch.begin(0);
  EXPECT_FALSE(batch.complete()) << "a server does not answer it";
}

}  // namespace
}  // namespace lmcache
