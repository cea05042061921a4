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

void make_head(RemoteSerde serde, std::span<std::byte const> record,
               std::optional<std::uint64_t> checksum, ValueHead& out) {
  auto header = sealed_copy(checksum ? record.first(sizeof(ChunkHeader)) : record, 0);
  if (checksum) {
    header.checksum = *checksum;
    header.header_crc = header_crc(header);
  }
  auto const frame = frame_bytes(serde);
  write_frame_of(header, record.size(), serde, out.bytes);
  std::memcpy(out.bytes.data() + frame, &header, sizeof header);
  out.size = frame + sizeof header;
}

// The slot's own header, written when it was reserved, says what geometry is expected.
ChunkKey expected_geometry(RemoteGet const& item) noexcept {
  return peek_header({item.slot, sizeof(ChunkHeader)}).geometry_hash;
}

// Reads the frame and the header of a value into the beginning of its slot, and takes them off
// `left`. Nothing: it is not what we asked for. `value_bytes`: as parse_frame() has it.
Result<std::optional<ChunkHeader>> read_head(RespReader& reader, RemoteSerde serde,
                                             RemoteGet const& item, ChunkKey const& geometry_hash,
                                             std::uint64_t& left, std::uint64_t value_bytes,
                                             Deadline deadline) {
  std::optional<ChunkHeader> const nothing;
  auto const frame = frame_bytes(serde);
  if (left <= frame + sizeof(ChunkHeader)) return nothing;
  std::array<std::byte, kLongestFrameBytes> buffer;
  std::span const own{buffer.data(), frame};
  LMC_TRY(reader.read_into(own, deadline));
  left -= frame;
  auto const parsed = parse_frame(serde, own, value_bytes);
  if (!parsed || parsed.value().record_bytes > item.slot_bytes ||
      std::memcmp(geometry_hash.bytes.data(), parsed.value().geometry_hash.bytes.data(),
                  kGeometryBytes) != 0) {
    return nothing;
  }
  std::span const head{item.slot, sizeof(ChunkHeader)};
  LMC_TRY(reader.read_into(head, deadline));
  left -= head.size();
  auto const header =
      check_header(head, parsed.value().record_bytes, {.key = item.key, .generation = 0});
  if (!header) return nothing;
  auto const& out = header.value();
  // What the frame says of the record has no other check than that it could not say anything else.
  std::array<std::byte, kLongestFrameBytes> expected;
  write_frame_of(out, record_bytes(out.payload_bytes, out.valid_tokens), serde, expected);
  if (std::memcmp(expected.data(), own.data(), frame) != 0) return nothing;
  return std::optional{out};
}

}  // namespace

std::string part_name(ChunkKey const& key, std::uint32_t part) {
  auto out = redis_key(key);
  if (part != 0) out.append(":").append(std::to_string(part));
  return out;
}

bool is_chunk_name(std::string_view name) noexcept {
  return name.size() == kRedisKeyPrefix.size() + 2 * sizeof(ChunkKey);
}

std::optional<ChunkKey> chunk_of_part(std::string_view name) noexcept {
  constexpr auto kChunkName = kRedisKeyPrefix.size() + 2 * sizeof(ChunkKey);
  if (name.size() <= kChunkName + 1 || name[kChunkName] != ':') return std::nullopt;
  ChunkKey out;
  auto const hex = name.substr(kRedisKeyPrefix.size(), 2 * sizeof(ChunkKey));
  if (!from_hex(hex, std::span{out.bytes})) return std::nullopt;
  return out;
}

std::vector<std::string> names_of(std::span<ChunkKey const> keys,
                                  std::span<std::uint64_t const> sizes) {
  std::vector<std::string> out;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    for (std::uint32_t part = 0; part < part_count(sizes[i]); ++part) {
      out.push_back(part_name(keys[i], part));
    }
  }
  return out;
}

void add_get_frame(RespBatch& batch, RemoteSerde serde, ChunkKey const& key) {
  batch.begin(4).arg("GETRANGE").arg(redis_key(key)).arg("0");
  batch.arg(std::to_string(frame_bytes(serde) - 1));
}

void add_get(RespBatch& batch, ChunkKey const& key, std::uint32_t part) {
  batch.begin(2).arg("GET").arg(part_name(key, part));
}

void add_set(RespBatch& batch, RemoteSerde serde, RemotePut const& item, std::uint32_t part,
             ValueHead& head, std::optional<std::uint64_t> checksum) {
  auto const ttl_seconds = part != 0 && needs_persist(item) ? kPartSeconds : item.ttl_seconds;
  batch.begin(ttl_seconds == 0 ? 3 : 5).arg("SET").arg(part_name(item.key, part));
  auto const payload = summed_bytes(item, part);
  if (part == 0) {
    make_head(serde, item.record, checksum, head);
    batch.arg_pieces({std::span<std::byte const>{head.bytes}.first(head.size), payload});
  } else {
    batch.arg(payload);
  }
  if (ttl_seconds != 0) batch.arg("EX").arg(std::to_string(ttl_seconds));
}

std::span<std::byte const> summed_bytes(RemotePut const& item, std::uint32_t part) noexcept {
  auto const [first, size] = record_part(item.record.size(), part);
  auto const header = part == 0 ? sizeof(ChunkHeader) : 0;
  return item.record.subspan(first + header, size - header);
}

bool needs_persist(RemotePut const& item) noexcept {
  return item.ttl_seconds == 0 && part_count(item.record.size()) > 1;
}

void add_persist(RespBatch& batch, ChunkKey const& key, std::uint32_t part) {
  batch.begin(2).arg("PERSIST").arg(part_name(key, part));
}

std::uint64_t size_of_record(RespValue const& reply, RemoteSerde serde) {
  if (reply.kind != RespValue::Kind::kBulk || reply.text.empty()) return 0;
  auto const frame = parse_frame(serde, std::as_bytes(std::span{reply.text}), 0);
  return frame ? frame.value().record_bytes : 1;
}

ValueReply reply_to_set(RespValue const& reply) {
  if (reply.kind == RespValue::Kind::kSimple && reply.text == "OK") return {};
  if (!reply.is_error()) return {.outcome = TierOutcome::kIoError, .error = "no answer to SET"};
  bool const full = reply.text.starts_with("OOM");
  return {.outcome = full ? TierOutcome::kNoSpace : TierOutcome::kIoError, .error = reply.text};
}

std::uint32_t piece_count(RemoteGet const& item) noexcept {
  if (item.slot_bytes <= 2 * kRemotePieceBytes) return 1;
  return static_cast<std::uint32_t>(
      (item.slot_bytes - sizeof(ChunkHeader) + kRemotePieceBytes - 1) / kRemotePieceBytes);
}

void add_get_piece(RespBatch& batch, RemoteSerde serde, RemoteGet const& item,
                   std::uint32_t piece) {
  if (piece_count(item) == 1) return add_get(batch, item.key);
  constexpr std::uint32_t kInPart = kRemotePartBytes / kRemotePieceBytes;
  auto const part = piece / kInPart;
  auto const nth = piece % kInPart;
  std::uint64_t const head = part == 0 ? frame_bytes(serde) + sizeof(ChunkHeader) : 0;
  std::uint64_t const first = nth == 0 ? 0 : head + nth * kRemotePieceBytes;
  std::uint64_t const last = head + (nth + 1) * kRemotePieceBytes - 1;
  batch.begin(4).arg("GETRANGE").arg(part_name(item.key, part));
  batch.arg(std::to_string(first)).arg(std::to_string(last));
}

ValueReceiver::ValueReceiver(RemoteSerde serde, RemoteGet const& item) noexcept
    : serde_{serde}, item_{item}, geometry_hash_{expected_geometry(item)} {}

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
    cut_ = cut_ || received_bytes_ == 0 || received_bytes_ < record_bytes_;
  } else if (!begun_ && !cut_) {
    begun_ = true;
    LMC_TRY_ASSIGN(auto const header, read_head(reader, serde_, item_, geometry_hash_, left,
                                                whole ? left : 0, deadline));
    broken_ = !header;
    if (header) {
      header_ = *header;
      record_bytes_ = record_bytes(header_.payload_bytes, header_.valid_tokens);
      received_bytes_ = sizeof(ChunkHeader);
    }
  }
  while (!broken_ && !cut_ && left != 0) {
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

PartsReceiver::PartsReceiver(RemoteSerde serde, RemoteGet const& item)
    : serde_{serde},
      item_{item},
      geometry_hash_{expected_geometry(item)},
      received_bytes_(part_count(item.slot_bytes)) {}

Result<ValueReply> PartsReceiver::receive(RespReader& reader, std::uint32_t part,
                                          Deadline deadline) {
  auto& received = received_bytes_[part];
  received = 0;
  LMC_TRY_ASSIGN(auto bulk, reader.read_bulk_header(deadline));
  if (bulk.error) {
    return ValueReply{.outcome = TierOutcome::kIoError, .error = std::move(bulk.error)};
  }
  if (!bulk.present) return ValueReply{};
  auto left = bulk.size_bytes;
  auto [first, room] = record_part(item_.slot_bytes, part);
  bool good = left != 0;
  if (good && part == 0) {
    LMC_TRY_ASSIGN(auto const header,
                   read_head(reader, serde_, item_, geometry_hash_, left, left, deadline));
    good = header.has_value();
    first = sizeof(ChunkHeader);
    room -= sizeof(ChunkHeader);
  }
  good = good && left <= room;
  if (good) {
    LMC_TRY(reader.read_into({item_.slot + first, left}, deadline));
    received = (part == 0 ? sizeof(ChunkHeader) : 0) + left;
    left = 0;
  }
  LMC_TRY(reader.skip(left, deadline));
  LMC_TRY(reader.end_bulk(deadline));
  return ValueReply{.outcome = good ? TierOutcome::kDone : TierOutcome::kCorrupt};
}

bool PartsReceiver::answered(TierOutcome outcome) noexcept {
  if (outcome != TierOutcome::kDone) worst_ = outcome;
  return ++answered_ == count();
}

TierOutcome PartsReceiver::finish() const {
  if (worst_ != TierOutcome::kDone) return worst_;
  if (received_bytes_[0] == 0) return TierOutcome::kMissing;
  auto const header = peek_header({item_.slot, sizeof(ChunkHeader)});  // read_head() checked it
  auto const size_bytes = record_bytes(header.payload_bytes, header.valid_tokens);
  for (std::uint32_t part = 0; part < count(); ++part) {
    auto const expected = record_part(size_bytes, part).size_bytes;
    if (received_bytes_[part] == expected) continue;
    return received_bytes_[part] == 0 ? TierOutcome::kMissing : TierOutcome::kCorrupt;
  }
  Checksum64 sum;
  sum.add({item_.slot + sizeof(ChunkHeader), size_bytes - sizeof(ChunkHeader)});
  return sum.value() == header.checksum ? TierOutcome::kDone : TierOutcome::kCorrupt;
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

Result<RemoteDescription> describe_server(RedisConnection& connection, Deadline deadline,
                                          PartCounts& parts) {
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
        out.chunks += static_cast<std::uint64_t>(std::ranges::count_if(names, is_chunk_name));
        for (auto const& name : names) {
          if (auto const key = chunk_of_part(name)) ++parts[*key];
        }
        return {};
      }));
  return out;
}

Result<std::uint64_t> count_orphans(Transport& transport, PartCounts const& parts,
                                    Deadline deadline) {
  std::vector<ChunkKey> keys;
  for (auto const& [key, count] : parts) keys.push_back(key);
  if (keys.empty()) return std::uint64_t{0};
  LMC_TRY_ASSIGN(auto const there, transport.sizes(keys, deadline));
  std::uint64_t out = 0;
  for (std::size_t i = 0; i < keys.size(); ++i) out += there[i] == 0 ? parts.at(keys[i]) : 0;
  return out;
}

}  // namespace lmcache::detail
