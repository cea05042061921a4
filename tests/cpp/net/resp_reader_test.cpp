// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <lmcache/net/resp_reader.hpp>

#include "support/scripted_stream.hpp"

namespace lmcache {
namespace {

using test::ScriptedStream;
using Kind = RespValue::Kind;
constexpr Deadline kNoDeadline = Deadline::max();

Result<RespValue> read(std::string incoming, std::vector<std::size_t> cuts = {}) {
  ScriptedStream stream{{.incoming = std::move(incoming), .cuts = std::move(cuts)}};
  RespReader reader{stream};
  return reader.read_value(kNoDeadline);
}

RespValue text(Kind kind, std::string content) {
  return {.kind = kind, .text = std::move(content)};
}
RespValue number(std::int64_t value) { return {.kind = Kind::kInteger, .integer = value}; }
RespValue items(Kind kind, std::vector<RespValue> content) {
  return {.kind = kind, .items = std::move(content)};
}

struct Reply {
  std::string bytes;
  RespValue value;
};

std::vector<Reply> replies() {
  return {
      {"+OK\r\n", text(Kind::kSimple, "OK")},
      {"+\r\n", text(Kind::kSimple, "")},
      {"-ERR no\r\n", text(Kind::kError, "ERR no")},
      {"!6\r\nE\r\nno!\r\n", text(Kind::kError, "E\r\nno!")},
      {":-12\r\n", number(-12)},
      {":+7\r\n", number(7)},
      {":-9223372036854775808\r\n", number(INT64_MIN)},
      {"$-1\r\n", {}},
      {"*-1\r\n", {}},
      {"_\r\n", {}},
      {"$0\r\n\r\n", text(Kind::kBulk, "")},
      {"$4\r\n\r\n\r\n\r\n", text(Kind::kBulk, "\r\n\r\n")},
      {"=6\r\ntxt:hi\r\n", text(Kind::kVerbatim, "hi")},
      {"#t\r\n", {.kind = Kind::kBoolean, .integer = 1}},
      {"#f\r\n", {.kind = Kind::kBoolean}},
      {",-1.50e+3\r\n", text(Kind::kDouble, "-1.50e+3")},
      {",-inf\r\n", text(Kind::kDouble, "-inf")},
      {"(-349999999999999999999\r\n", text(Kind::kBigNumber, "-349999999999999999999")},
      {"*0\r\n", items(Kind::kArray, {})},
      {"*2\r\n:1\r\n*1\r\n$1\r\na\r\n",
       items(Kind::kArray, {number(1), items(Kind::kArray, {text(Kind::kBulk, "a")})})},
      {"%1\r\n+k\r\n:1\r\n", items(Kind::kMap, {text(Kind::kSimple, "k"), number(1)})},
      {"~1\r\n_\r\n", items(Kind::kSet, {{}})},
      {">2\r\n+invalidate\r\n*0\r\n>0\r\n|1\r\n+ttl\r\n:3\r\n:5\r\n", number(5)},
      {"*1\r\n|1\r\n+a\r\n%0\r\n:1\r\n", items(Kind::kArray, {number(1)})},
  };
}

TEST(RespReader, ReadsEveryTypeHoweverItIsCut) {
  for (auto const& [bytes, value] : replies()) {
    for (std::size_t cut = 1; cut <= bytes.size(); ++cut) {
      auto const in_two = read(bytes, {cut, bytes.size()});
      ASSERT_TRUE(in_two) << bytes << in_two.error().message();
      EXPECT_EQ(in_two.value(), value) << bytes << " cut at " << cut;
    }
    auto const in_bytes = read(bytes, {1});
    ASSERT_TRUE(in_bytes) << bytes;
    EXPECT_EQ(in_bytes.value(), value) << bytes;
  }
}

TEST(RespReader, AnyEarlyEndIsTheStreamsError) {
  for (auto const& [bytes, value] : replies()) {
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      for (auto const& cuts : {std::vector<std::size_t>{}, {1}}) {
        auto const cut_off = read(bytes.substr(0, size), cuts);
        ASSERT_FALSE(cut_off) << bytes << " " << size;
        EXPECT_EQ(cut_off.error().code(), ErrorCode::kUnavailable) << bytes << " " << size;
      }
    }
  }
  ScriptedStream stream{
      {.incoming = "$5\r\nab", .cuts = {}, .end = ScriptedStream::End::kStaysSilent}};
  RespReader reader{stream};
  EXPECT_EQ(reader.read_value(kNoDeadline).error().code(), ErrorCode::kTimeout);
}

TEST(RespReader, ReadsAllOfManyReplies) {
  std::string all;
  for (auto const& reply : replies()) all += reply.bytes;
  for (std::size_t piece : {1u, 2u, 3u, 7u, 64u, 100000u}) {
    ScriptedStream stream{
        {.incoming = all, .cuts = {piece}, .end = ScriptedStream::End::kStaysSilent}};
    RespReader reader{stream};
    for (auto const& [bytes, value] : replies()) {
      auto const got = reader.read_value(kNoDeadline);
      ASSERT_TRUE(got) << bytes << got.error().message();
      EXPECT_EQ(got.value(), value) << bytes;
    }
    EXPECT_TRUE(reader.at_rest());
  }
}

TEST(RespReader, RefusesWhatIsMalformed) {
  for (std::string const& bytes : std::vector<std::string>{"HTTP/1.1 400 Bad Request\r\n",
                                                           "\r\n",
                                                           "+OK\n",
                                                           "+O\rK\r\n",
                                                           "+O\nK\r\n",
                                                           ":\r\n",
                                                           ":1a\r\n",
                                                           ": 1\r\n",
                                                           ":+-1\r\n",
                                                           ":--1\r\n",
                                                           ":9223372036854775808\r\n",
                                                           ":0x1\r\n",
                                                           "$\r\n",
                                                           "$-2\r\n",
                                                           "$+1\r\na\r\n",
                                                           "$-0\r\n\r\n",
                                                           "$1 \r\na\r\n",
                                                           "$?\r\n",
                                                           "$99999999999999999999\r\n",
                                                           "$1\r\nab\r\n",
                                                           "$1\r\na\rb",
                                                           "$1\r\na\n\n",
                                                           "!-1\r\n",
                                                           "=-1\r\n",
                                                           "=3\r\ntxt\r\n",
                                                           "=4\r\ntext\r\n",
                                                           "*-2\r\n",
                                                           "*?\r\n",
                                                           "*1\r\n>0\r\n:1\r\n",
                                                           "%-1\r\n",
                                                           "~-1\r\n",
                                                           "_x\r\n",
                                                           "#\r\n",
                                                           "#T\r\n",
                                                           "#tt\r\n",
                                                           ",\r\n",
                                                           ",1.\r\n",
                                                           ",.5\r\n",
                                                           ",1e\r\n",
                                                           ",1e5x\r\n",
                                                           ",infinity\r\n",
                                                           ",0x1p3\r\n",
                                                           "(\r\n",
                                                           "(1.5\r\n",
                                                           "(-\r\n",
                                                           ">-1\r\n",
                                                           "|x\r\n",
                                                           ".\r\n"}) {
    for (auto const& cuts : {std::vector<std::size_t>{}, {1}}) {
      auto const got = read(bytes, cuts);
      ASSERT_FALSE(got) << bytes;
      EXPECT_EQ(got.error().code(), ErrorCode::kCorrupted) << bytes << got.error().message();
    }
  }
}

TEST(RespReader, SaysWhatItSawEscapedAndCut) {
  EXPECT_EQ(read("HTTP/1.1 400 Bad Request of some length\r\n").error().message(),
            "malformed reply: a reply of no known type: \"HTTP/1.1 400 Bad Request of some...\"");
  EXPECT_EQ(read("\x16\x03\x01\\").error().message(),
            "malformed reply: a reply of no known type: \"\\x16\\x03\\x01\\x5c\"");
  EXPECT_EQ(read(":1\x1b[2J\r\n").error().message(),
            "malformed reply: not an integer: \":1\\x1b[2J\"");
}

std::string nested(unsigned depth) {
  std::string out;
  for (unsigned i = 0; i < depth; ++i) out += "*1\r\n";
  return out + ":1\r\n";
}

TEST(RespReader, HasLimits) {
  EXPECT_TRUE(read(nested(RespReader::kMaxNesting)));
  EXPECT_EQ(read(nested(RespReader::kMaxNesting + 1)).error().code(), ErrorCode::kCorrupted);
  std::string attributes;
  for (int i = 0; i < 100'000; ++i) attributes += "|1\r\n";
  EXPECT_EQ(read(attributes).error().code(), ErrorCode::kCorrupted);

  std::string const most(RespReader::kMaxBulkBytes, 'x');
  EXPECT_EQ(read("$16777216\r\n" + most + "\r\n").value().text, most);
  EXPECT_EQ(read("$16777217\r\n").error().code(), ErrorCode::kCorrupted);

  std::string ones = "*1048575\r\n";
  for (int i = 0; i < 1048575; ++i) ones += "_\r\n";
  EXPECT_EQ(read("*1\r\n" + ones).value().items[0].items.size(), 1048575u);
  EXPECT_EQ(read("*2\r\n" + ones).error().code(), ErrorCode::kCorrupted);
  EXPECT_EQ(read("*1048577\r\n").error().code(), ErrorCode::kCorrupted);
  EXPECT_EQ(read("%524289\r\n").error().code(), ErrorCode::kCorrupted);
  EXPECT_EQ(read("%9223372036854775807\r\n").error().code(), ErrorCode::kCorrupted);

  std::string const line(RespReader::kBufferBytes - 3, 'l');
  for (std::size_t piece : {1u, 1000u, 16384u, 1u << 20}) {
    EXPECT_EQ(read("+" + line + "\r\n", {piece}).value().text, line);
    EXPECT_EQ(read("+l" + line + "\r\n", {piece}).error().code(), ErrorCode::kCorrupted);
  }
}

std::string pattern(std::size_t size) {
  std::string out(size, '\0');
  for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<char>(i * 131 + (i >> 8));
  return out;
}

std::string bulk(std::string const& content) {
  std::string out{"$"};  // g++ 12 warns of `"$" + std::to_string()` (PR105329)
  return out.append(std::to_string(content.size())).append("\r\n").append(content).append("\r\n");
}

// The payload by one way of reading it.
using Way = std::function<Result<void>(RespReader&, std::span<std::byte>)>;

std::vector<Way> ways() {
  return {
      [](RespReader& reader, std::span<std::byte> into) {
        return reader.read_into(into, kNoDeadline);
      },
      [](RespReader& reader, std::span<std::byte> into) -> Result<void> {
        auto const half = into.size() / 2;
        LMC_TRY(reader.read_into(into.first(half), kNoDeadline));
        return reader.read_into(into.subspan(half), kNoDeadline);
      },
      [](RespReader& reader, std::span<std::byte> into) -> Result<void> {
        while (!into.empty()) {
          LMC_TRY_ASSIGN(auto const count, reader.read_some_into(into, kNoDeadline));
          EXPECT_GT(count, 0u);
          into = into.subspan(count);
        }
        return {};
      },
  };
}

TEST(RespReader, StreamsABulkIntoPlace) {
  for (std::size_t size : {0u, 1u, 100u, 4095u, 4096u, 16370u, 16384u, 100'000u}) {
    std::string const content = pattern(size);
    std::string const all = ">1\r\n+x\r\n" + bulk(content) + ":1\r\n";
    for (std::size_t piece : {1u, 5u, 1460u, 16384u, 1u << 20}) {
      for (auto const& way : ways()) {
        ScriptedStream stream{{.incoming = all, .cuts = {piece}}};
        RespReader reader{stream};
        auto const header = reader.read_bulk_header(kNoDeadline);
        ASSERT_TRUE(header);
        EXPECT_TRUE(header.value().present);
        EXPECT_FALSE(header.value().error);
        ASSERT_EQ(header.value().size_bytes, size);
        std::string got(size, '?');
        ASSERT_TRUE(way(reader, std::as_writable_bytes(std::span{got})));
        ASSERT_TRUE(reader.end_bulk(kNoDeadline));
        EXPECT_TRUE(got == content) << size << " in pieces of " << piece;
        EXPECT_EQ(reader.read_value(kNoDeadline).value(), number(1));
      }
    }
  }
}

TEST(RespReader, ALargeBulkIsNotBuffered) {
  std::string const content = pattern(4 << 20);
  ScriptedStream stream{{.incoming = bulk(content), .cuts = {}}};
  RespReader reader{stream};
  ASSERT_TRUE(reader.read_bulk_header(kNoDeadline));
  std::string got(content.size(), '?');
  ASSERT_TRUE(reader.read_into(std::as_writable_bytes(std::span{got}), kNoDeadline));
  EXPECT_EQ(got, content);
  EXPECT_EQ(stream.reads(), 2u) << "one fills the buffer, one the rest of the destination";
}

TEST(RespReader, SkipsAPartOfABulk) {
  std::string const content = pattern(50'000);
  for (std::size_t piece : {1u, 1460u, 1u << 20}) {
    ScriptedStream stream{{.incoming = bulk(content) + "+x\r\n", .cuts = {piece}}};
    RespReader reader{stream};
    ASSERT_TRUE(reader.read_bulk_header(kNoDeadline));
    std::string got(10'000, '?');
    ASSERT_TRUE(reader.skip(20'000, kNoDeadline));
    ASSERT_TRUE(reader.read_into(std::as_writable_bytes(std::span{got}), kNoDeadline));
    EXPECT_EQ(got, content.substr(20'000, 10'000));
    ASSERT_TRUE(reader.skip(20'000, kNoDeadline));
    ASSERT_TRUE(reader.end_bulk(kNoDeadline));
    EXPECT_EQ(reader.read_value(kNoDeadline).value().text, "x");
  }
}

TEST(RespReader, ABulkThatIsNotThere) {
  auto const header = [](std::string bytes) {
    ScriptedStream stream{{.incoming = std::move(bytes), .cuts = {1}}};
    RespReader reader{stream};
    auto result = reader.read_bulk_header(kNoDeadline);
    EXPECT_TRUE(reader.at_rest() || !result);
    return result;
  };
  for (char const* null : {"$-1\r\n", "_\r\n"}) {
    EXPECT_FALSE(header(null).value().present);
    EXPECT_FALSE(header(null).value().error);
  }
  for (char const* error : {"-WRONGTYPE x\r\n", "!11\r\nWRONGTYPE x\r\n"}) {
    EXPECT_FALSE(header(error).value().present);
    EXPECT_EQ(header(error).value().error, "WRONGTYPE x");
  }
  for (char const* other :
       {"+OK\r\n", ":1\r\n", "*-1\r\n", "*1\r\n$1\r\na\r\n", "_1\r\n", "$-2\r\n", "=5\r\n"}) {
    EXPECT_EQ(header(other).error().code(), ErrorCode::kCorrupted) << other;
  }
  EXPECT_EQ(header("$12").error().code(), ErrorCode::kUnavailable);
}

TEST(RespReader, RefusesCallsOutOfOrder) {
  ScriptedStream stream{{.incoming = "$3\r\nabc\r\n", .cuts = {}}};
  RespReader reader{stream};
  std::array<std::byte, 4> into{};
  auto const refused = [](auto const& result) {
    return !result && result.error().code() == ErrorCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused(reader.read_into(into, kNoDeadline)));
  EXPECT_TRUE(refused(reader.end_bulk(kNoDeadline)));
  EXPECT_TRUE(refused(reader.skip(0, kNoDeadline)));
  ASSERT_TRUE(reader.read_bulk_header(kNoDeadline));
  EXPECT_TRUE(refused(reader.read_into(into, kNoDeadline)));
  EXPECT_TRUE(refused(reader.read_some_into(into, kNoDeadline)));
  EXPECT_TRUE(refused(reader.skip(4, kNoDeadline)));
  EXPECT_TRUE(refused(reader.end_bulk(kNoDeadline)));
  EXPECT_TRUE(refused(reader.read_value(kNoDeadline)));
  EXPECT_TRUE(refused(reader.read_bulk_header(kNoDeadline)));
  ASSERT_TRUE(reader.skip(3, kNoDeadline));
  ASSERT_TRUE(reader.end_bulk(kNoDeadline));
}

TEST(RespReader, ABulkMustEnd) {
  for (char const* bytes : {"$1\r\nabc", "$1\r\na\rc", "$1\r\na\n\r"}) {
    ScriptedStream stream{{.incoming = bytes, .cuts = {}}};
    RespReader reader{stream};
    ASSERT_TRUE(reader.read_bulk_header(kNoDeadline));
    ASSERT_TRUE(reader.skip(1, kNoDeadline));
    EXPECT_EQ(reader.end_bulk(kNoDeadline).error().code(), ErrorCode::kCorrupted);
  }
}

}  // namespace
}  // namespace lmcache
