// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/remote/redis_transport.hpp>

#include <array>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <lmcache/index/chunk_record.hpp>
#include <lmcache/net/redis_connection.hpp>

namespace lmcache {
namespace {

constexpr std::string_view kScanCount = "1000";

// What goes before the record's payload on the wire.
struct ValueHead {
  std::array<std::byte, kLongestFrameBytes + sizeof(ChunkHeader)> bytes;
  std::size_t size = 0;
};

ValueHead make_head(RemoteSerde serde, std::span<std::byte const> record) {
  auto const header = sealed_copy(record, 0);
  ValueHead out;
  auto const frame = frame_bytes(serde);
  write_frame(serde,
              {.geometry_hash = header.geometry_hash,
               .record_bytes = record.size(),
               .checksum = header.checksum,
               .codec = header.codec},
              out.bytes);
  std::memcpy(out.bytes.data() + frame, &header, sizeof header);
  out.size = frame + sizeof header;
  return out;
}

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

class RedisTransport final : public Transport {
 public:
  RedisTransport(std::unique_ptr<RedisConnection> connection, RemoteSerde serde)
      : connection_{std::move(connection)}, serde_{serde} {}

  Result<void> ping(Deadline deadline) override {
    LMC_TRY_ASSIGN(auto const reply, connection_->call({"PING"}, deadline));
    return reply.kind == RespValue::Kind::kError ? refused(reply) : Result<void>{};
  }

  Result<std::vector<std::uint64_t>> sizes(std::span<ChunkKey const> keys,
                                           Deadline deadline) override {
    LMC_TRY(check_idle());
    RespBatch batch;
    for (auto const& key : keys) batch.begin(2).arg("STRLEN").arg(redis_key(key));
    LMC_TRY(connection_->send(batch, deadline));
    std::vector<std::uint64_t> out;
    out.reserve(keys.size());
    auto const frame = frame_bytes(serde_);
    for (std::size_t i = 0; i < keys.size(); ++i) {
      LMC_TRY_ASSIGN(auto const reply, connection_->reader().read_value(deadline));
      auto const length =
          reply.kind == RespValue::Kind::kInteger ? static_cast<std::uint64_t>(reply.integer) : 0;
      out.push_back(length > frame ? length - frame : 0);
    }
    return out;
  }

  Result<void> get_into(std::span<RemoteGet const> items, Deadline deadline,
                        Done const& done) override {
    LMC_TRY(check_idle());
    RespBatch batch;
    for (auto const& item : items) batch.begin(2).arg("GET").arg(redis_key(item.key));
    LMC_TRY(connection_->send(batch, deadline));
    for (std::uint32_t i = 0; i < items.size(); ++i) {
      LMC_TRY_ASSIGN(auto const outcome, receive(items[i], deadline));
      done(i, outcome);
    }
    return {};
  }

  Result<void> put(std::span<RemotePut const> items, Deadline deadline, Done const& done) override {
    LMC_TRY(check_idle());
    RespBatch batch;
    std::vector<ValueHead> heads;
    heads.reserve(items.size());
    // One at a time: the server takes the first while the next is summed.
    for (auto const& item : items) {
      heads.push_back(make_head(serde_, item.record));
      batch.clear();
      batch.begin(item.ttl_seconds == 0 ? 3 : 5).arg("SET").arg(redis_key(item.key));
      batch.arg_pieces({std::span<std::byte const>{heads.back().bytes}.first(heads.back().size),
                        item.record.subspan(sizeof(ChunkHeader))});
      if (item.ttl_seconds != 0) batch.arg("EX").arg(std::to_string(item.ttl_seconds));
      LMC_TRY(connection_->send(batch, deadline));
    }
    for (std::uint32_t i = 0; i < items.size(); ++i) {
      LMC_TRY_ASSIGN(auto const reply, connection_->reader().read_value(deadline));
      bool const full = reply.kind == RespValue::Kind::kError && reply.text.starts_with("OOM");
      done(i, full                                    ? TierOutcome::kNoSpace
              : reply.kind == RespValue::Kind::kError ? TierOutcome::kIoError
                                                      : TierOutcome::kDone);
    }
    return {};
  }

  Result<std::uint64_t> remove(std::span<ChunkKey const> keys, Deadline deadline) override {
    std::vector<std::string> names;
    for (auto const& key : keys) names.push_back(redis_key(key));
    return unlink(names, deadline);
  }

  Result<std::uint64_t> clear(Deadline deadline) override {
    std::uint64_t removed = 0;
    LMC_TRY(scan(deadline, [&](std::vector<std::string> const& names) -> Result<void> {
      LMC_TRY_ASSIGN(auto const gone, unlink(names, deadline));
      removed += gone;
      return {};
    }));
    return removed;
  }

  Result<RemoteDescription> describe(Deadline deadline) override {
    LMC_TRY_ASSIGN(auto const info, connection_->call({"INFO"}, deadline));
    if (info.kind == RespValue::Kind::kError) LMC_TRY(refused(info));
    auto const field = [&](std::string_view name) { return info_field(info.text, name); };
    RemoteDescription out;
    bool const valkey = field("server_name") == "valkey";
    out.server = valkey ? "valkey " + field("valkey_version") : "redis " + field("redis_version");
    out.role = field("role");
    out.used_bytes = std::strtoull(field("used_memory").c_str(), nullptr, 10);
    out.limit_bytes = std::strtoull(field("maxmemory").c_str(), nullptr, 10);
    LMC_TRY(scan(deadline, [&](std::vector<std::string> const& names) -> Result<void> {
      out.chunks += names.size();
      return {};
    }));
    return out;
  }

  void shut() noexcept override { connection_->shut(); }

 private:
  static Result<void> refused(RespValue const& reply) {
    return Error{ErrorCode::kUnavailable, "the server answers: " + reply.text};
  }

  // A connection that the server closed while nobody used it is replaced without a word.
  Result<void> check_idle() {
    if (connection_->idle_ok()) return {};
    return Error{ErrorCode::kUnavailable, "the server closed the connection"};
  }

  // Visits the names of all keys of ours, some at a time; one may come twice.
  template <class Visit>
  Result<void> scan(Deadline deadline, Visit const& visit) {
    std::string cursor = "0";
    std::string const pattern = std::string{kRedisKeyPrefix} + "*";
    do {
      LMC_TRY_ASSIGN(
          auto const reply,
          connection_->call({"SCAN", cursor, "MATCH", pattern, "COUNT", kScanCount}, deadline));
      if (reply.kind == RespValue::Kind::kError) return refused(reply);
      if (reply.items.size() != 2) return Error{ErrorCode::kCorrupted, "no answer to SCAN"};
      cursor = reply.items[0].text;
      std::vector<std::string> names;
      for (auto const& name : reply.items[1].items) names.push_back(name.text);
      LMC_TRY(visit(names));
    } while (cursor != "0");
    return {};
  }

  Result<std::uint64_t> unlink(std::vector<std::string> const& names, Deadline deadline) {
    if (names.empty()) return std::uint64_t{0};
    RespBatch batch;
    batch.begin(names.size() + 1).arg("UNLINK");
    for (auto const& name : names) batch.arg(name);
    LMC_TRY(connection_->send(batch, deadline));
    LMC_TRY_ASSIGN(auto const reply, connection_->reader().read_value(deadline));
    if (reply.kind == RespValue::Kind::kError) LMC_TRY(refused(reply));
    return static_cast<std::uint64_t>(reply.integer);
  }

  // A value that is not what we asked for costs nothing but itself: it is read to its end.
  Result<TierOutcome> receive(RemoteGet const& item, Deadline deadline) {
    auto& reader = connection_->reader();
    LMC_TRY_ASSIGN(auto const bulk, reader.read_bulk_header(deadline));
    if (bulk.error) return TierOutcome::kIoError;
    if (!bulk.present) return TierOutcome::kMissing;
    auto const frame = frame_bytes(serde_);
    auto left = bulk.size_bytes;
    auto outcome = TierOutcome::kCorrupt;
    if (left > frame + sizeof(ChunkHeader) && left - frame <= item.slot_bytes) {
      std::array<std::byte, kLongestFrameBytes> head;
      std::span const own{head.data(), frame};
      LMC_TRY(reader.read_into(own, deadline));
      left -= frame;
      if (fits(item, parse_frame(serde_, own, bulk.size_bytes))) {
        std::span const record{item.slot, left};
        LMC_TRY(reader.read_into(record, deadline));
        left = 0;
        if (check_record(record, {.key = item.key, .generation = 0})) outcome = TierOutcome::kDone;
      }
    }
    LMC_TRY(reader.skip(left, deadline));
    LMC_TRY(reader.end_bulk(deadline));
    return outcome;
  }

  // The slot's own header, written when it was reserved, says what geometry is expected.
  [[nodiscard]] static bool fits(RemoteGet const& item, Result<RemoteFrame> const& frame) {
    if (!frame) return false;
    auto const expected = peek_header({item.slot, sizeof(ChunkHeader)}).geometry_hash.bytes;
    return std::memcmp(expected.data(), frame.value().geometry_hash.bytes.data(), kGeometryBytes) ==
           0;
  }
  static constexpr std::size_t kGeometryBytes = 16;  // as many as every frame has

  std::unique_ptr<RedisConnection> connection_;
  RemoteSerde const serde_;
};

}  // namespace

std::string redis_key(ChunkKey const& key) { return std::string{kRedisKeyPrefix} + to_hex(key); }

TransportFactory redis_transport(RedisUrl url, RemoteSerde serde) {
  return [url = std::move(url), serde](Deadline deadline) -> Result<std::unique_ptr<Transport>> {
    auto const host = url.hosts.empty() ? RedisUrl::Host{} : url.hosts.front();
    LMC_TRY_ASSIGN(auto connection, RedisConnection::open(url, host, deadline));
    return std::unique_ptr<Transport>{
        std::make_unique<RedisTransport>(std::move(connection), serde)};
  };
}

}  // namespace lmcache
