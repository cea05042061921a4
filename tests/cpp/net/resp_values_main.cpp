// SPDX-License-Identifier: Apache-2.0
// Says what RespReader reads, for a test that compares it with the parser of redis-py
// (tests/python/net/test_resp_parser.py). Numbers are little-endian u32. In, until the input ends:
//   mode (0: values, 1: bulks streamed as payloads are), count of cuts, the cuts, length, bytes
// Out, a line of JSON each: {"values": [[kind, value], ...], "end": "corrupted", "why": hex}. Texts
// are hex; the values are those before the end.
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <lmcache/net/resp_reader.hpp>

#include "support/scripted_stream.hpp"

namespace lmcache::test {
namespace {

using Kind = RespValue::Kind;

std::optional<std::uint32_t> read_number() {
  unsigned char bytes[4];
  if (std::fread(bytes, 1, sizeof bytes, stdin) != sizeof bytes) return std::nullopt;
  return bytes[0] | bytes[1] << 8 | bytes[2] << 16 | std::uint32_t{bytes[3]} << 24;
}

std::string quoted_hex(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out{'"'};
  out.reserve(2 * text.size() + 2);
  for (char const c : text) {
    auto const byte = static_cast<unsigned char>(c);
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out += '"';
}

std::string_view name_of(Kind kind) {
  switch (kind) {
    case Kind::kNull:
      return "null";
    case Kind::kSimple:
      return "simple";
    case Kind::kError:
      return "error";
    case Kind::kInteger:
      return "integer";
    case Kind::kBulk:
      return "bulk";
    case Kind::kVerbatim:
      return "verbatim";
    case Kind::kArray:
      return "array";
    case Kind::kMap:
      return "map";
    case Kind::kSet:
      return "set";
    case Kind::kBoolean:
      return "boolean";
    case Kind::kDouble:
      return "double";
    case Kind::kBigNumber:
      return "big";
  }
  return "?";
}

void append(RespValue const& value, std::string& out) {
  out.append("[\"").append(name_of(value.kind)).append("\",");
  switch (value.kind) {
    case Kind::kNull:
      out += "null";
      break;
    case Kind::kInteger:
    case Kind::kBoolean:
      out += std::to_string(value.integer);
      break;
    case Kind::kArray:
    case Kind::kMap:
    case Kind::kSet:
      out += '[';
      for (auto const& item : value.items) {
        if (&item != value.items.data()) out += ',';
        append(item, out);
      }
      out += ']';
      break;
    default:
      out += quoted_hex(value.text);
  }
  out += ']';
}

// A bulk as a payload is read: its header, its bytes where they belong, its end.
Result<RespValue> read_bulk(RespReader& reader) {
  LMC_TRY_ASSIGN(BulkHeader const header, reader.read_bulk_header(Deadline::max()));
  if (header.error) return RespValue{.kind = Kind::kError, .text = *header.error};
  if (!header.present) return RespValue{};
  if (header.size_bytes > RespReader::kMaxBulkBytes) {  // the caller's own limit
    return Error{ErrorCode::kCorrupted, "larger than any payload here"};
  }
  RespValue out{.kind = Kind::kBulk, .text = std::string(header.size_bytes, '\0')};
  LMC_TRY(reader.read_into(std::as_writable_bytes(std::span{out.text}), Deadline::max()));
  LMC_TRY(reader.end_bulk(Deadline::max()));
  return out;
}

std::string answer(ScriptedStream::Script script, bool bulks) {
  ScriptedStream stream{std::move(script)};
  RespReader reader{stream};
  std::string out{"{\"values\":["};
  for (bool first = true;; first = false) {
    auto const value = bulks ? read_bulk(reader) : reader.read_value(Deadline::max());
    if (!value) {
      bool const corrupted = value.error().code() == ErrorCode::kCorrupted;
      bool const closed = value.error().code() == ErrorCode::kUnavailable;
      out.append("],\"end\":\"").append(corrupted ? "corrupted" : closed ? "closed" : "other");
      return out.append("\",\"why\":").append(quoted_hex(value.error().message())).append("}\n");
    }
    if (!first) out += ',';
    append(value.value(), out);
  }
}

int run() {
  for (;;) {
    auto const mode = read_number();
    if (!mode) return 0;
    auto const cuts = read_number();
    if (!cuts) return 1;
    ScriptedStream::Script script{};
    for (std::uint32_t i = 0; i < *cuts; ++i) {
      auto const cut = read_number();
      if (!cut || *cut == 0) return 1;
      script.cuts.push_back(*cut);
    }
    auto const size = read_number();
    if (!size) return 1;
    script.incoming.resize(*size);
    if (std::fread(script.incoming.data(), 1, *size, stdin) != *size) return 1;
    auto const line = answer(std::move(script), *mode == 1);
    std::fwrite(line.data(), 1, line.size(), stdout);
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace lmcache::test

int main() { return lmcache::test::run(); }
