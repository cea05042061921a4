// SPDX-License-Identifier: Apache-2.0
// What a call returns does not depend on how the network cut the bytes: tests/fuzz/fuzz_resp.cpp.
#include <algorithm>
#include <cstring>
#include <utility>

#include <lmcache/net/resp_reader.hpp>

#include "net/escaped_text.hpp"
#include "net/resp_number.hpp"

namespace lmcache {
namespace {

constexpr std::string_view kTypes = "+-:$*_#,(!=%~>|";
constexpr std::string_view kLineEnd = "\r\n";
constexpr std::size_t kSeenBytes = 32;
// Less than this is received by way of the buffer, together with the end of the bulk and what
// follows: one system call less.
constexpr std::size_t kDirectBytes = 4096;
// A text grows as it arrives, so that a header alone allocates little.
constexpr std::size_t kTextStepBytes = 64 << 10;
constexpr std::size_t kReservedItems = 64;

Error malformed(std::string_view what, std::string_view seen) {
  std::string message{"malformed reply: "};
  message.append(what).append(": \"").append(escaped_text(seen, kSeenBytes)).append("\"");
  return Error{ErrorCode::kCorrupted, std::move(message)};
}

}  // namespace

std::string_view RespReader::buffered() const noexcept {
  return {reinterpret_cast<char const*>(buffer_.data()) + begin_, end_ - begin_};
}

// Precondition: the buffer is not full.
Result<void> RespReader::fill(Deadline deadline) {
  if (begin_ != 0) {  // a part of a line at most
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  LMC_TRY_ASSIGN(std::size_t const count,
                 stream_.read_some(std::span{buffer_}.subspan(end_), deadline));
  end_ += count;
  return {};
}

std::size_t RespReader::take_buffered(std::span<std::byte> into) noexcept {
  std::size_t const count = std::min(into.size(), end_ - begin_);
  if (count != 0) std::memcpy(into.data(), buffer_.data() + begin_, count);
  begin_ += count;
  return count;
}

Result<std::string_view> RespReader::read_line(Deadline deadline) {
  if (begin_ == end_) LMC_TRY(fill(deadline));
  // Before its end is waited for: whoever talks something else may never send one.
  if (kTypes.find(buffered().front()) == std::string_view::npos) {
    return malformed("a reply of no known type", buffered());
  }
  for (std::size_t seen = 0;;) {
    std::string_view const text = buffered();
    std::size_t const end = std::min(text.find_first_of(kLineEnd, seen), text.size());
    if (end < text.size() && text[end] == '\n') return malformed("a line feed alone", text);
    if (end + 1 < text.size()) {
      if (text[end + 1] != '\n') return malformed("a carriage return alone", text);
      begin_ += end + kLineEnd.size();
      return text.substr(0, end);
    }
    if (text.size() == kBufferBytes) return malformed("a line without an end", text);
    seen = end;
    LMC_TRY(fill(deadline));
  }
}

// The first line of the next value, after attributes and, between replies, push messages.
Result<std::string_view> RespReader::read_reply_line(Walk& walk) {
  for (;;) {
    LMC_TRY_ASSIGN(std::string_view const line, read_line(walk.deadline));
    bool const aside = line.front() == '|' || (line.front() == '>' && walk.depth == 0);
    if (!aside) return line;
    std::vector<RespValue> skipped;
    LMC_TRY(read_items(line, skipped, walk));
  }
}

Result<void> RespReader::read_items(std::string_view line, std::vector<RespValue>& items,
                                    Walk& walk) {
  auto const length = parse_resp_length(line.substr(1));
  if (!length) return malformed("not a count of items", line);
  bool const pairs = line.front() == '%' || line.front() == '|';
  if (*length > walk.items_left / (pairs ? 2 : 1)) return malformed("too many items", line);
  if (walk.depth == kMaxNesting) return malformed("nested too deeply", line);
  std::uint64_t const count = *length * (pairs ? 2 : 1);
  walk.items_left -= count;
  ++walk.depth;
  items.reserve(std::min<std::uint64_t>(count, kReservedItems));
  for (std::uint64_t i = 0; i < count; ++i) LMC_TRY(read_one(items.emplace_back(), walk));
  --walk.depth;
  return {};
}

Result<void> RespReader::open_bulk(std::string_view line) {
  auto const length = parse_resp_length(line.substr(1));
  if (!length) return malformed("not a length", line);
  in_bulk_ = true;
  bulk_left_bytes_ = *length;
  return {};
}

Result<void> RespReader::read_text(std::string_view line, std::string& text, Deadline deadline) {
  LMC_TRY(open_bulk(line));
  if (bulk_left_bytes_ > kMaxBulkBytes) return malformed("a bulk too large", line);
  while (bulk_left_bytes_ != 0) {
    std::size_t const had = text.size();
    text.resize(had + std::min<std::uint64_t>(bulk_left_bytes_, std::max(had, kTextStepBytes)));
    LMC_TRY(read_into(std::as_writable_bytes(std::span{text}.subspan(had)), deadline));
  }
  return end_bulk(deadline);
}

Result<void> RespReader::read_one(RespValue& value, Walk& walk) {
  using Kind = RespValue::Kind;
  LMC_TRY_ASSIGN(std::string_view const line, read_reply_line(walk));
  std::string_view const rest = line.substr(1);
  switch (line.front()) {
    case '+':
    case '-':
      value.kind = line.front() == '+' ? Kind::kSimple : Kind::kError;
      value.text = rest;
      return {};
    case ':': {
      auto const integer = parse_resp_integer(rest);
      if (!integer) return malformed("not an integer", line);
      value.kind = Kind::kInteger;
      value.integer = *integer;
      return {};
    }
    case '$':
    case '!':
      if (line == "$-1") return {};
      value.kind = line.front() == '$' ? Kind::kBulk : Kind::kError;
      return read_text(line, value.text, walk.deadline);
    case '=':
      value.kind = Kind::kVerbatim;
      LMC_TRY(read_text(line, value.text, walk.deadline));
      if (value.text.size() < 4 || value.text[3] != ':') {
        return malformed("a verbatim string without a format", value.text);
      }
      value.text.erase(0, 4);
      return {};
    case '*':
      if (line == "*-1") return {};
      value.kind = Kind::kArray;
      return read_items(line, value.items, walk);
    case '%':
      value.kind = Kind::kMap;
      return read_items(line, value.items, walk);
    case '~':
      value.kind = Kind::kSet;
      return read_items(line, value.items, walk);
    case '_':
      if (!rest.empty()) return malformed("not null", line);
      return {};
    case '#':
      if (rest != "t" && rest != "f") return malformed("not a boolean", line);
      value.kind = Kind::kBoolean;
      value.integer = rest == "t" ? 1 : 0;
      return {};
    case ',':
      if (!is_resp_double(rest)) return malformed("not a double", line);
      value.kind = Kind::kDouble;
      value.text = rest;
      return {};
    case '(':
      if (!is_resp_big_number(rest)) return malformed("not a big number", line);
      value.kind = Kind::kBigNumber;
      value.text = rest;
      return {};
    default:
      return malformed("a push message within a reply", line);
  }
}

Result<void> RespReader::expect_between_replies() const {
  if (!in_bulk_) return {};
  return Error{ErrorCode::kInvalidArgument, "the bulk before was not read to its end"};
}

Result<RespValue> RespReader::read_value(Deadline deadline) {
  LMC_TRY(expect_between_replies());
  Walk walk{.deadline = deadline};
  RespValue value;
  LMC_TRY(read_one(value, walk));
  return value;
}

Result<BulkHeader> RespReader::read_bulk_header(Deadline deadline) {
  LMC_TRY(expect_between_replies());
  Walk walk{.deadline = deadline};
  LMC_TRY_ASSIGN(std::string_view const line, read_reply_line(walk));
  BulkHeader header;
  if (line.front() == '-') {
    header.error = line.substr(1);
  } else if (line.front() == '!') {
    LMC_TRY(read_text(line, header.error.emplace(), deadline));
  } else if (line.front() == '$' && line != "$-1") {
    LMC_TRY(open_bulk(line));
    header.present = true;
    header.size_bytes = bulk_left_bytes_;
  } else if (line != "$-1" && line != "_") {
    return malformed("not a bulk", line);
  }
  return header;
}

Result<std::size_t> RespReader::read_some_into(std::span<std::byte> into, Deadline deadline) {
  if (!in_bulk_ || into.size() > bulk_left_bytes_) {
    return Error{ErrorCode::kInvalidArgument, "more is asked for than the bulk holds"};
  }
  if (into.empty()) return std::size_t{0};
  std::size_t count = 0;
  if (begin_ == end_ && into.size() >= kDirectBytes) {
    LMC_TRY_ASSIGN(count, stream_.read_some(into, deadline));
  } else {
    if (begin_ == end_) LMC_TRY(fill(deadline));
    count = take_buffered(into);
  }
  bulk_left_bytes_ -= count;
  return count;
}

Result<void> RespReader::read_into(std::span<std::byte> into, Deadline deadline) {
  do {  // once even when empty: the order of calls is checked
    LMC_TRY_ASSIGN(std::size_t const count, read_some_into(into, deadline));
    into = into.subspan(count);
  } while (!into.empty());
  return {};
}

Result<void> RespReader::skip(std::uint64_t bytes, Deadline deadline) {
  if (!in_bulk_ || bytes > bulk_left_bytes_) {
    return Error{ErrorCode::kInvalidArgument, "more is skipped than the bulk holds"};
  }
  while (bytes != 0) {
    if (begin_ == end_) LMC_TRY(fill(deadline));
    std::size_t const count = std::min<std::uint64_t>(bytes, end_ - begin_);
    begin_ += count;
    bytes -= count;
    bulk_left_bytes_ -= count;
  }
  return {};
}

Result<void> RespReader::end_bulk(Deadline deadline) {
  if (!in_bulk_ || bulk_left_bytes_ != 0) {
    return Error{ErrorCode::kInvalidArgument, "the bulk has bytes that were not read"};
  }
  for (char const expected : kLineEnd) {
    if (begin_ == end_) LMC_TRY(fill(deadline));
    if (buffered().front() != expected) return malformed("a bulk without an end", buffered());
    ++begin_;
  }
  in_bulk_ = false;
  return {};
}

}  // namespace lmcache
