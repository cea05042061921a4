// SPDX-License-Identifier: Apache-2.0
// RespReader on any bytes, by values and by streamed bulks: what comes out does not depend on how
// the network cut them.
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include <lmcache/net/resp_reader.hpp>

#include "fuzzing.hpp"
#include "support/scripted_stream.hpp"

namespace {

using namespace lmcache;
using Stream = test::ScriptedStream;

// Everything that the reader said, in order.
struct Transcript {
  std::vector<RespValue> values;
  std::string payload;
  std::vector<std::uint64_t> sizes;  // of bulks; ~0 for null, ~1 for an error
  ErrorCode end = ErrorCode::kInternal;
  bool operator==(Transcript const&) const = default;
};

void check_value(RespValue const& value, unsigned depth) {
  using Kind = RespValue::Kind;
  bool const has_items =
      value.kind == Kind::kArray || value.kind == Kind::kMap || value.kind == Kind::kSet;
  fuzz::require(value.items.empty() || has_items, "only aggregates have items");
  fuzz::require(value.kind != Kind::kMap || value.items.size() % 2 == 0, "a key has a value");
  fuzz::require(value.text.size() <= RespReader::kMaxBulkBytes, "a text is within its limit");
  fuzz::require(!has_items || depth < RespReader::kMaxNesting, "nesting is within its limit");
  for (RespValue const& item : value.items) check_value(item, depth + 1);
}

Result<void> read_values(RespReader& reader, Transcript& said) {
  for (;;) {
    LMC_TRY_ASSIGN(RespValue value, reader.read_value(Deadline::max()));
    check_value(value, 0);
    said.values.push_back(std::move(value));
  }
}

// The first half in one call, then what is there until a quarter is left, which is skipped.
Result<void> read_payload(RespReader& reader, std::uint64_t size_bytes, std::string& payload) {
  constexpr std::uint64_t kMostBytes = 64 << 10;  // what is beyond is skipped, too
  std::string into(std::min(size_bytes - size_bytes / 4, kMostBytes), '\0');
  auto bytes = std::as_writable_bytes(std::span{into});
  LMC_TRY(reader.read_into(bytes.first(bytes.size() / 2), Deadline::max()));
  bytes = bytes.subspan(bytes.size() / 2);
  while (!bytes.empty()) {
    LMC_TRY_ASSIGN(std::size_t const count, reader.read_some_into(bytes, Deadline::max()));
    fuzz::require(count >= 1 && count <= bytes.size(), "something is read, and no more than fits");
    bytes = bytes.subspan(count);
  }
  payload += into;
  return reader.skip(size_bytes - into.size(), Deadline::max());
}

Result<void> read_bulks(RespReader& reader, Transcript& said) {
  for (;;) {
    LMC_TRY_ASSIGN(BulkHeader const header, reader.read_bulk_header(Deadline::max()));
    if (header.error) said.payload += *header.error;
    said.sizes.push_back(header.present ? header.size_bytes : header.error ? ~1ull : ~0ull);
    if (!header.present) continue;
    fuzz::require(!header.error, "a bulk or an error");
    LMC_TRY(read_payload(reader, header.size_bytes, said.payload));
    LMC_TRY(reader.end_bulk(Deadline::max()));
  }
}

enum class By : std::uint8_t { kValues, kBulks };

Transcript read_all(std::string_view incoming, std::vector<std::size_t> cuts, By by) {
  Stream stream{{.incoming = std::string{incoming}, .cuts = std::move(cuts)}};
  RespReader reader{stream};
  Transcript said;
  auto const ended = by == By::kValues ? read_values(reader, said) : read_bulks(reader, said);
  said.end = ended.error().code();
  fuzz::require(said.end == ErrorCode::kUnavailable || said.end == ErrorCode::kCorrupted,
                "it ends with the stream, or where it is no RESP");
  return said;
}

}  // namespace

// Input: how many cuts (one byte), their sizes less one (a byte each), what the server sends.
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  std::string_view input{reinterpret_cast<char const*>(data), size};
  if (input.empty()) return 0;
  std::size_t const count =
      std::min<std::size_t>(static_cast<std::uint8_t>(input[0]) % 16, input.size() - 1);
  std::vector<std::size_t> cuts;
  for (char const cut : input.substr(1, count)) cuts.push_back(1u + static_cast<std::uint8_t>(cut));
  std::string_view const incoming = input.substr(1 + count);
  for (By const by : {By::kValues, By::kBulks}) {
    Transcript const whole = read_all(incoming, {}, by);
    fuzz::require(read_all(incoming, cuts, by) == whole, "cuts make no difference");
    fuzz::require(read_all(incoming, {1}, by) == whole, "nor does a byte at a time");
  }
  return 0;
}
