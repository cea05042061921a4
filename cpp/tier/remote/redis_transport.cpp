// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/remote/redis_transport.hpp>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include <lmcache/net/redis_connection.hpp>
#include <lmcache/net/redis_sentinel.hpp>
#include <lmcache/tier/remote/redis_cluster_transport.hpp>

#include "tier/remote/redis_values.hpp"

namespace lmcache {
namespace {

class RedisTransport final : public Transport {
 public:
  RedisTransport(std::unique_ptr<RedisConnection> connection, RemoteSerde serde)
      : connection_{std::move(connection)}, serde_{serde} {}

  Result<void> ping(Deadline deadline) override {
    LMC_TRY_ASSIGN(auto const reply, connection_->call({"PING"}, deadline));
    if (reply.is_error()) return detail::refused(reply);
    return {};
  }

  Result<std::vector<std::uint64_t>> sizes(std::span<ChunkKey const> keys,
                                           Deadline deadline) override {
    LMC_TRY(check_idle());
    RespBatch batch;
    for (auto const& key : keys) detail::add_get_frame(batch, serde_, key);
    LMC_TRY(connection_->send(batch, deadline));
    std::vector<std::uint64_t> out;
    out.reserve(keys.size());
    for (std::size_t i = 0; i < keys.size(); ++i) {
      LMC_TRY_ASSIGN(auto const reply, connection_->reader().read_value(deadline));
      out.push_back(detail::size_of_record(reply, serde_));
    }
    return out;
  }

  Result<void> get_into(std::span<RemoteGet const> items, Deadline deadline,
                        Done const& done) override {
    LMC_TRY(check_idle());
    // No more is asked for than what the server can hold in its caches while it sends.
    constexpr std::uint64_t kWindowBytes = 2 * kRemotePieceBytes;
    struct Piece {
      std::uint32_t item;
      std::uint32_t number;
      std::uint64_t size_bytes;
    };
    std::vector<Piece> pieces;
    for (std::uint32_t i = 0; i < items.size(); ++i) {
      auto const count = detail::piece_count(items[i]);
      for (std::uint32_t number = 0; number < count; ++number) {
        pieces.push_back({i, number, std::min(items[i].slot_bytes, kRemotePieceBytes)});
      }
    }
    RespBatch batch;
    std::size_t sent = 0;
    std::uint64_t open_bytes = 0;
    std::optional<detail::ValueReceiver> value;
    for (std::size_t got = 0; got < pieces.size(); ++got) {
      auto const& piece = pieces[got];
      if (sent == got || open_bytes <= kWindowBytes / 2) {
        batch.clear();
        for (; sent < pieces.size() && (sent == got || open_bytes < kWindowBytes); ++sent) {
          detail::add_get_piece(batch, serde_, items[pieces[sent].item], pieces[sent].number);
          open_bytes += pieces[sent].size_bytes;
        }
        if (batch.commands() != 0) LMC_TRY(connection_->send(batch, deadline));
      }
      if (piece.number == 0) value.emplace(serde_, items[piece.item]);
      auto const count = detail::piece_count(items[piece.item]);
      LMC_TRY(value->receive(connection_->reader(), deadline, count == 1));
      open_bytes -= piece.size_bytes;
      if (piece.number + 1 == count) done(piece.item, value->finish().outcome);
    }
    return {};
  }

  Result<void> put(std::span<RemotePut const> items, Deadline deadline, Done const& done) override {
    LMC_TRY(check_idle());
    RespBatch batch;
    detail::ValueHead head;
    // One at a time, parts too: the server takes it while the next is summed.
    for (auto const& item : items) {
      Checksum64 sum;
      sum.add(detail::summed_bytes(item, 0));
      for (std::uint32_t part = 1; part < part_count(item.record.size()); ++part) {
        sum.add(detail::summed_bytes(item, part));
        batch.clear();
        detail::add_set(batch, serde_, item, part, head);
        LMC_TRY(connection_->send(batch, deadline));
      }
      batch.clear();
      detail::add_set(batch, serde_, item, 0, head, sum.value());
      LMC_TRY(connection_->send(batch, deadline));
      if (!detail::needs_persist(item)) continue;
      batch.clear();
      for (auto part = part_count(item.record.size()); --part != 0;) {
        detail::add_persist(batch, item.key, part);
      }
      LMC_TRY(connection_->send(batch, deadline));
    }
    for (std::uint32_t i = 0; i < items.size(); ++i) {
      auto outcome = TierOutcome::kDone;
      for (auto part = part_count(items[i].record.size()); part-- != 0;) {
        LMC_TRY_ASSIGN(auto const reply, connection_->reader().read_value(deadline));
        if (detail::says_readonly(reply)) return detail::refused(reply);
        auto const seen = detail::reply_to_set(reply).outcome;
        if (seen != TierOutcome::kDone) outcome = seen;
      }
      if (detail::needs_persist(items[i])) {
        for (auto part = part_count(items[i].record.size()); --part != 0;) {
          LMC_TRY(connection_->reader().read_value(deadline));
        }
      }
      done(i, outcome);
    }
    return {};
  }

  Result<std::uint64_t> remove(std::span<ChunkKey const> keys, Deadline deadline) override {
    LMC_TRY_ASSIGN(auto const there, sizes(keys, deadline));
    return unlink(detail::names_of(keys, there), deadline);
  }

  Result<void> discard(std::span<ChunkKey const> keys, std::span<std::uint64_t const> record_bytes,
                       Deadline deadline) override {
    LMC_TRY(unlink(detail::names_of(keys, record_bytes), deadline));
    return {};
  }

  Result<std::uint64_t> clear(Deadline deadline) override {
    std::uint64_t removed = 0;
    LMC_TRY(detail::scan_names(*connection_, deadline,
                               [&](std::vector<std::string> const& names) -> Result<void> {
                                 LMC_TRY_ASSIGN(auto const gone, unlink(names, deadline));
                                 removed += gone;
                                 return {};
                               }));
    return removed;
  }

  Result<RemoteDescription> describe(Deadline deadline) override {
    detail::PartCounts parts;
    LMC_TRY_ASSIGN(auto out, detail::describe_server(*connection_, deadline, parts));
    LMC_TRY_ASSIGN(out.orphans, detail::count_orphans(*this, parts, deadline));
    return out;
  }

  void shut() noexcept override { connection_->shut(); }

 private:
  // A connection that the server closed while nobody used it is replaced without a word.
  Result<void> check_idle() {
    if (connection_->idle_ok()) return {};
    return Error{ErrorCode::kUnavailable, "the server closed the connection"};
  }

  // How many chunks there were.
  Result<std::uint64_t> unlink(std::vector<std::string> names, Deadline deadline) {
    auto const parts = std::ranges::partition(names, detail::is_chunk_name);
    std::uint64_t removed = 0;
    std::span const chunks{names.begin(), parts.begin()};
    for (auto const& some : {chunks, std::span{parts}}) {
      if (some.empty()) continue;
      RespBatch batch;
      batch.begin(some.size() + 1).arg("UNLINK");
      for (auto const& name : some) batch.arg(name);
      LMC_TRY(connection_->send(batch, deadline));
      LMC_TRY_ASSIGN(auto const reply, connection_->reader().read_value(deadline));
      if (reply.is_error()) return detail::refused(reply);
      if (!chunks.empty() && some.data() == chunks.data()) {
        removed = static_cast<std::uint64_t>(reply.integer);
      }
    }
    return removed;
  }

  std::unique_ptr<RedisConnection> connection_;
  RemoteSerde const serde_;
};

Result<std::unique_ptr<RedisConnection>> open(RedisUrl const& url, Deadline deadline) {
  if (url.mode == RedisUrl::Mode::kSentinel) {
    LMC_TRY_ASSIGN(auto found, connect_master(url, deadline));
    return std::move(found.connection);
  }
  auto const host = url.hosts.empty() ? RedisUrl::Host{} : url.hosts.front();
  return RedisConnection::open(url, host, deadline);
}

}  // namespace

std::string redis_key(ChunkKey const& key) {
  return std::string{kRedisKeyPrefix}.append(to_hex(key));
}

TransportFactory redis_transport(RedisUrl url, RemoteSerde serde) {
  if (url.mode == RedisUrl::Mode::kCluster) return redis_cluster_transport(std::move(url), serde);
  return [url = std::move(url), serde](Deadline deadline) -> Result<std::unique_ptr<Transport>> {
    LMC_TRY_ASSIGN(auto connection, open(url, deadline));
    return std::unique_ptr<Transport>{
        std::make_unique<RedisTransport>(std::move(connection), serde)};
  };
}

}  // namespace lmcache
