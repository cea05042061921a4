// SPDX-License-Identifier: Apache-2.0
#include "tier/remote/redis_values.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <lmcache/tier/remote/redis_transport.hpp>

namespace lmcache::detail {
namespace {

constexpr std::string_view kScanCount = "1000";
constexpr std::size_t kGeometryBytes = 16;  // as many as every frame has

// "name:value" lines, as INFO has them; empty when there is none.
std::string info_field(std::string_view info, std::string_view name) {
  for (std::size_t at = info.find(name); at != info.npos; at = info.find(name, at + 1)) {
    auto const colon = at + name.size();
    bool const begins = at == 0 || info[at - 1] == '\n';
    if (!begins || colon >= info.size() || info[colon] != ':') continue;
    return std::string{info.substr(colon + 1, info.find('\r', colon) - colon - 1)};
  }
  return {};
}

void write_frame_of(ChunkHeader const& header, std::uint64_t record_bytes, RemoteSerde serde,
                    std::span<std::byte> out) {
  write_frame(serde,
              {.geometry_hash = header.geometry_hash,
               .record_bytes = record_bytes,
               .checksum = header.checksum,
               .codec = header.codec},
              out);
}

void make_head(RemoteSerde serde, std::span<std::byte const> record, ValueHead& out) {
  auto const header = sealed_copy(record, 0);
  auto const frame = frame_bytes(serde);
  write_frame_of(header, record.size(), serde, out.bytes);
  std::memcpy(out.bytes.data() + frame, &header, sizeof header);
  out.size = frame + sizeof header;
}

// The slot's own header, written when it was reserved, says what geometry is expected.
bool fits(RemoteGet const& item, Result<RemoteFrame> const& frame) {
  if (!frame) return false;
  auto const expected = peek_header({item.slot, sizeof(ChunkHeader)}).geometry_hash.bytes;
  return std::memcmp(expected.data(), frame.value().geometry_hash.bytes.data(), kGeometryBytes) ==
         0;
}

}  // namespace

void add_strlen(RespBatch& batch, ChunkKey const& key) {
  batch.begin(2).arg("STRLEN").arg(redis_key(key));
}

void add_get(RespBatch& batch, ChunkKey const& key) {
  batch.begin(2).arg("GET").arg(redis_key(key));
}

void add_set(RespBatch& batch, RemoteSerde serde, RemotePut const& item, ValueHead& head) {
  make_head(serde, item.record, head);
  batch.begin(item.ttl_seconds == 0 ? 3 : 5).arg("SET").arg(redis_key(item.key));
  batch.arg_pieces({std::span<std::byte const>{head.bytes}.first(head.size),
                    item.record.subspan(sizeof(ChunkHeader))});
  if (item.ttl_seconds != 0) batch.arg("EX").arg(std::to_string(item.ttl_seconds));
}

std::uint64_t size_of_record(RespValue const& reply, RemoteSerde serde) noexcept {
  if (reply.kind != RespValue::Kind::kInteger) return 0;
  auto const length = static_cast<std::uint64_t>(reply.integer);
  auto const frame = frame_bytes(serde);
  return length > frame ? length - frame : 0;
}

ValueReply reply_to_set(RespValue const& reply) {
  if (!reply.is_error()) return {};
  bool const full = reply.text.starts_with("OOM");
  return {.outcome = full ? TierOutcome::kNoSpace : TierOutcome::kIoError, .error = reply.text};
}

std::uint32_t piece_count(RemoteGet const& item) noexcept {
  if (item.slot_bytes <= 2 * kPieceBytes) return 1;
  return static_cast<std::uint32_t>((item.slot_bytes - sizeof(ChunkHeader) + kPieceBytes - 1) /
                                    kPieceBytes);
}

void add_get_piece(RespBatch& batch, RemoteSerde serde, RemoteGet const& item,
                   std::uint32_t piece) {
  if (piece_count(item) == 1) return add_get(batch, item.key);
  std::uint64_t const head = frame_bytes(serde) + sizeof(ChunkHeader);
  std::uint64_t const first = piece == 0 ? 0 : head + piece * kPieceBytes;
  std::uint64_t const last = head + (piece + 1) * kPieceBytes - 1;
  batch.begin(4).arg("GETRANGE").arg(redis_key(item.key));
  batch.arg(std::to_string(first)).arg(std::to_string(last));
}

// False: it is not what we asked for.
Result<bool> ValueReceiver::begin(RespReader& reader, std::uint64_t& left,
                                  std::uint64_t value_bytes, Deadline deadline) {
  begun_ = true;
  auto const frame = frame_bytes(serde_);
  if (left <= frame + sizeof(ChunkHeader)) return false;
  std::span const own{frame_.data(), frame};
  LMC_TRY(reader.read_into(own, deadline));
  left -= frame;
  auto const parsed = parse_frame(serde_, own, value_bytes);
  if (!fits(item_, parsed) || parsed.value().record_bytes > item_.slot_bytes) return false;
  record_bytes_ = parsed.value().record_bytes;
  std::span const head{item_.slot, sizeof(ChunkHeader)};
  LMC_TRY(reader.read_into(head, deadline));
  left -= head.size();
  received_bytes_ = head.size();
  auto const header = check_header(head, record_bytes_, {.key = item_.key, .generation = 0});
  if (!header) return false;
  header_ = header.value();
  // What the frame says of the record has no other check than that it could not say anything else.
  std::array<std::byte, kLongestFrameBytes> expected;
  write_frame_of(header_, record_bytes(header_.payload_bytes, header_.valid_tokens), serde_,
                 expected);
  return std::memcmp(expected.data(), own.data(), frame) == 0;
}

Result<void> ValueReceiver::receive(RespReader& reader, Deadline deadline, bool whole) {
  constexpr std::uint64_t kAtOnce = 8192 * Checksum64::kPieceBytes;  // fits the second cache
  LMC_TRY_ASSIGN(auto bulk, reader.read_bulk_header(deadline));
  if (bulk.error) {
    error_ = std::move(bulk.error);
    return {};
  }
  if (!bulk.present) {
    cut_ = true;
    return {};
  }
  auto left = bulk.size_bytes;
  if (left == 0) {
    cut_ = received_bytes_ == 0 || received_bytes_ < record_bytes_;
  } else if (!begun_) {
    LMC_TRY_ASSIGN(bool const good, begin(reader, left, whole ? bulk.size_bytes : 0, deadline));
    broken_ = !good;
  }
  while (!broken_ && left != 0) {
    std::uint64_t const room = record_bytes_ - received_bytes_;
    std::span const into{item_.slot + received_bytes_, std::min({left, room, kAtOnce})};
    broken_ = into.empty();
    if (broken_) break;
    LMC_TRY(reader.read_into(into, deadline));
    sum_.add(into);
    received_bytes_ += into.size();
    left -= into.size();
  }
  LMC_TRY(reader.skip(left, deadline));
  return reader.end_bulk(deadline);
}

ValueReply ValueReceiver::finish() {
  if (error_) return {.outcome = TierOutcome::kIoError, .error = std::move(error_)};
  if (broken_) return {.outcome = TierOutcome::kCorrupt};
  if (cut_) return {.outcome = TierOutcome::kMissing};
  bool const right = received_bytes_ == record_bytes_ && sum_.value() == header_.checksum;
  return {.outcome = right ? TierOutcome::kDone : TierOutcome::kCorrupt};
}

Result<ValueReply> receive_value(RespReader& reader, RemoteSerde serde, RemoteGet const& item,
                                 Deadline deadline) {
  ValueReceiver value{serde, item};
  LMC_TRY(value.receive(reader, deadline, true));
  return value.finish();
}

Error refused(RespValue const& reply) {
  return Error{ErrorCode::kUnavailable, "the server answers: " + reply.text};
}

bool says_readonly(RespValue const& reply) noexcept {
  return reply.is_error() && reply.text.starts_with("READONLY");
}

Result<void> scan_names(RedisConnection& connection, Deadline deadline, VisitNames const& visit) {
  std::string cursor = "0";
  std::string const pattern = std::string{kRedisKeyPrefix}.append("*");
  do {
    LMC_TRY_ASSIGN(
        auto const reply,
        connection.call({"SCAN", cursor, "MATCH", pattern, "COUNT", kScanCount}, deadline));
    if (reply.is_error()) return refused(reply);
    if (reply.items.size() != 2) return Error{ErrorCode::kCorrupted, "no answer to SCAN"};
    cursor = reply.items[0].text;
    std::vector<std::string> names;
    for (auto const& name : reply.items[1].items) names.push_back(name.text);
    LMC_TRY(visit(names));
  } while (cursor != "0");
  return {};
}

Result<RemoteDescription> describe_server(RedisConnection& connection, Deadline deadline) {
  LMC_TRY_ASSIGN(auto const info, connection.call({"INFO"}, deadline));
  if (info.is_error()) return refused(info);
  auto const field = [&](std::string_view name) { return info_field(info.text, name); };
  RemoteDescription out;
  bool const valkey = field("server_name") == "valkey";
  out.server = valkey ? std::string{"valkey "}.append(field("valkey_version"))
                      : std::string{"redis "}.append(field("redis_version"));
  out.role = field("role");
  out.used_bytes = std::strtoull(field("used_memory").c_str(), nullptr, 10);
  out.limit_bytes = std::strtoull(field("maxmemory").c_str(), nullptr, 10);
  LMC_TRY(
      scan_names(connection, deadline, [&](std::vector<std::string> const& names) -> Result<void> {
        out.chunks += names.size();
        return {};
      }));
  return out;
}

}  // namespace lmcache::detail
