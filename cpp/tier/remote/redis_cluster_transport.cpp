// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/remote/redis_cluster_transport.hpp>

#include <algorithm>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include <lmcache/tier/remote/redis_transport.hpp>

#include "tier/remote/redis_nodes.hpp"
#include "tier/remote/redis_rounds.hpp"
#include "tier/remote/redis_values.hpp"

namespace lmcache {
namespace {

using detail::KeyedWork;
using detail::RedisRounds;
using detail::ValueReply;

constexpr std::size_t kRemovedAtOnce = 1000;

std::uint16_t slot_of(ChunkKey const& key, std::uint32_t part = 0) {
  return redis_slot(detail::part_name(key, part));
}

// An error reply, for the rounds to follow if it is a redirect.
ValueReply as_reply(RespValue const& reply) {
  if (!reply.is_error()) return {};
  return {.outcome = TierOutcome::kIoError, .error = reply.text};
}

class RedisClusterTransport final : public Transport {
 public:
  RedisClusterTransport(RedisUrl url, RemoteSerde serde) : nodes_{std::move(url)}, serde_{serde} {}

  // To all masters, so that the first lookup does not pay for it. Those that fail may be back when
  // they are needed.
  Result<void> connect(Deadline deadline) {
    LMC_TRY(nodes_.refresh(nullptr, deadline));
    auto const hosts = masters();
    for (auto const& host : hosts) static_cast<void>(nodes_.connect(host, deadline));
    return {};
  }

  Result<void> ping(Deadline deadline) override { return nodes_.refresh(nullptr, deadline); }

  Result<std::vector<std::uint64_t>> sizes(std::span<ChunkKey const> keys,
                                           Deadline deadline) override {
    std::vector<std::uint64_t> out(keys.size());
    asked_.clear();
    KeyedWork const work{
        .count = static_cast<std::uint32_t>(keys.size()),
        .slot = [&](std::uint32_t item) { return slot_of(keys[item]); },
        .add = [&](RespBatch& batch,
                   std::uint32_t item) { detail::add_get_frame(batch, serde_, keys[item]); },
        .receive = [&](RespReader& reader, std::uint32_t item,
                       Deadline until) -> Result<ValueReply> {
          LMC_TRY_ASSIGN(auto const reply, reader.read_value(until));
          out[item] = detail::size_of_record(reply, serde_);
          return as_reply(reply);
        },
        .done = [](std::uint32_t, TierOutcome) {},
        .on_ask = [&](std::uint32_t item,
                      RedisUrl::Host const& host) { asked_.insert_or_assign(keys[item], host); }};
    LMC_TRY((RedisRounds{nodes_, work, deadline}.run()));
    return out;
  }

  Result<void> get_into(std::span<RemoteGet const> items, Deadline deadline,
                        Done const& done) override {
    std::vector<detail::PartsReceiver> values;
    std::vector<Part> parts;
    for (std::uint32_t i = 0; i < items.size(); ++i) {
      values.emplace_back(serde_, items[i]);
      for (std::uint32_t part = 0; part < values[i].count(); ++part) parts.push_back({i, part});
    }
    KeyedWork const work{
        .count = static_cast<std::uint32_t>(parts.size()),
        .slot = [&](std::uint32_t n) { return slot_of(items[parts[n].item].key, parts[n].part); },
        .add =
            [&](RespBatch& batch, std::uint32_t n) {
              detail::add_get(batch, items[parts[n].item].key, parts[n].part);
            },
        .receive =
            [&](RespReader& reader, std::uint32_t n, Deadline until) {
              return values[parts[n].item].receive(reader, parts[n].part, until);
            },
        .done =
            [&](std::uint32_t n, TierOutcome outcome) {
              auto& value = values[parts[n].item];
              if (value.answered(outcome)) done(parts[n].item, value.finish());
            }};
    return RedisRounds{nodes_, work, deadline}.run();
  }

  Result<void> put(std::span<RemotePut const> items, Deadline deadline, Done const& done) override {
    std::vector<TierOutcome> outcomes(items.size(), TierOutcome::kDone);
    // The first parts when all others are there.
    std::vector<Part> first;
    std::vector<Part> others;
    for (std::uint32_t i = 0; i < items.size(); ++i) {
      first.push_back({i, 0});
      for (std::uint32_t part = 1; part < part_count(items[i].record.size()); ++part) {
        others.push_back({i, part});
      }
    }
    auto const note = [&](std::uint32_t item, TierOutcome outcome) {
      if (outcome != TierOutcome::kDone) outcomes[item] = outcome;
    };
    // A server says that a slot is elsewhere only after it took the whole value. When the keys were
    // asked for before, which sends nothing large, that told.
    auto const asked = std::exchange(asked_, {});
    if (!others.empty()) LMC_TRY(put_parts(items, others, {}, deadline, note));
    std::erase_if(first, [&](Part const& it) {
      bool const failed = outcomes[it.item] != TierOutcome::kDone;
      if (failed) done(it.item, outcomes[it.item]);
      return failed;
    });
    LMC_TRY(put_parts(items, first, asked, deadline, [&](std::uint32_t item, TierOutcome outcome) {
      note(item, outcome);
      done(item, outcome);
    }));
    std::erase_if(others, [&](Part const& it) {
      return outcomes[it.item] != TierOutcome::kDone || !detail::needs_persist(items[it.item]);
    });
    if (!others.empty()) persist(items, others, deadline);
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
    LMC_TRY(nodes_.refresh(nullptr, deadline));
    std::uint64_t removed = 0;
    std::optional<Error> failure;
    for (auto const& host : masters()) {
      // All names first: what removes them uses the same connection.
      std::vector<std::string> names;
      auto gone = names_on(host, deadline, names);
      if (gone) {
        auto count = unlink(names, deadline);
        if (count) removed += count.value();
        if (!count) gone = std::move(count).error();
      }
      if (!gone) failure = std::move(gone).error();
    }
    if (failure) return std::move(*failure).with_context("clear");
    return removed;
  }

  Result<RemoteDescription> describe(Deadline deadline) override {
    LMC_TRY(nodes_.refresh(nullptr, deadline));
    RemoteDescription out;
    auto const hosts = masters();
    std::size_t answered = 0;
    detail::PartCounts parts;
    for (auto const& host : hosts) {
      auto const one = describe_one(host, deadline, parts);
      if (!one) continue;
      if (answered++ == 0) out.server = one.value().server;
      out.used_bytes += one.value().used_bytes;
      out.limit_bytes += one.value().limit_bytes;
      out.chunks += one.value().chunks;
    }
    out.role = std::to_string(answered);
    out.role.append(" of ").append(std::to_string(hosts.size())).append(" masters");
    LMC_TRY_ASSIGN(out.orphans, detail::count_orphans(*this, parts, deadline));
    return out;
  }

  void shut() noexcept override { nodes_.shut(); }

 private:
  struct Part {
    std::uint32_t item;
    std::uint32_t part;
  };
  using Asked = std::unordered_map<ChunkKey, RedisUrl::Host, ChunkKeyHash>;

  Result<void> put_parts(std::span<RemotePut const> items, std::span<Part const> parts,
                         Asked const& asked, Deadline deadline, Done const& done) {
    detail::ValueHead head;
    KeyedWork const work{
        .count = static_cast<std::uint32_t>(parts.size()),
        .sends = KeyedWork::Sends::kOneByOne,
        .slot = [&](std::uint32_t n) { return slot_of(items[parts[n].item].key, parts[n].part); },
        .add =
            [&](RespBatch& batch, std::uint32_t n) {
              detail::add_set(batch, serde_, items[parts[n].item], parts[n].part, head);
            },
        .receive = [](RespReader& reader, std::uint32_t, Deadline until) -> Result<ValueReply> {
          LMC_TRY_ASSIGN(auto const reply, reader.read_value(until));
          return detail::reply_to_set(reply);
        },
        .done = [&](std::uint32_t n, TierOutcome outcome) { done(parts[n].item, outcome); },
        .asked_before = [&](std::uint32_t n) -> RedisUrl::Host const* {
          auto const found = asked.find(items[parts[n].item].key);
          return found == asked.end() ? nullptr : &found->second;
        }};
    return RedisRounds{nodes_, work, deadline}.run();
  }

  // What fails leaves parts that expire, and a chunk that is a miss from then on.
  void persist(std::span<RemotePut const> items, std::span<Part const> parts, Deadline deadline) {
    KeyedWork const work{
        .count = static_cast<std::uint32_t>(parts.size()),
        .slot = [&](std::uint32_t n) { return slot_of(items[parts[n].item].key, parts[n].part); },
        .add =
            [&](RespBatch& batch, std::uint32_t n) {
              detail::add_persist(batch, items[parts[n].item].key, parts[n].part);
            },
        .receive = [](RespReader& reader, std::uint32_t, Deadline until) -> Result<ValueReply> {
          LMC_TRY_ASSIGN(auto const reply, reader.read_value(until));
          return as_reply(reply);
        },
        .done = [](std::uint32_t, TierOutcome) {}};
    (void)RedisRounds{nodes_, work, deadline}.run();
  }

  // A copy: the map may be replaced while they are visited.
  [[nodiscard]] std::vector<RedisUrl::Host> masters() {
    auto const hosts = nodes_.map().hosts();
    return {hosts.begin(), hosts.end()};
  }

  Result<RemoteDescription> describe_one(RedisUrl::Host const& host, Deadline deadline,
                                         detail::PartCounts& parts) {
    LMC_TRY_ASSIGN(auto* const connection, nodes_.connect(host, deadline));
    auto out = detail::describe_server(*connection, deadline, parts);
    if (!out) nodes_.drop(host);
    return out;
  }

  Result<void> names_on(RedisUrl::Host const& host, Deadline deadline,
                        std::vector<std::string>& out) {
    LMC_TRY_ASSIGN(auto* const connection, nodes_.connect(host, deadline));
    auto done = detail::scan_names(*connection, deadline,
                                   [&](std::vector<std::string> const& names) -> Result<void> {
                                     out.insert(out.end(), names.begin(), names.end());
                                     return {};
                                   });
    if (!done) nodes_.drop(host);
    return done;
  }

  // One command each: keys of different slots are refused together.
  Result<std::uint64_t> unlink(std::span<std::string const> names, Deadline deadline) {
    std::uint64_t removed = 0;
    std::uint64_t failed = 0;
    while (!names.empty()) {
      auto const now = names.first(std::min(names.size(), kRemovedAtOnce));
      names = names.subspan(now.size());
      KeyedWork const work{
          .count = static_cast<std::uint32_t>(now.size()),
          .slot = [&](std::uint32_t item) { return redis_slot(now[item]); },
          .add = [&](RespBatch& batch,
                     std::uint32_t item) { batch.begin(2).arg("UNLINK").arg(now[item]); },
          .receive = [&](RespReader& reader, std::uint32_t item,
                         Deadline until) -> Result<ValueReply> {
            LMC_TRY_ASSIGN(auto const reply, reader.read_value(until));
            if (detail::is_chunk_name(now[item]))
              removed += static_cast<std::uint64_t>(reply.integer);
            return as_reply(reply);
          },
          .done = [&](std::uint32_t,
                      TierOutcome outcome) { failed += outcome == TierOutcome::kDone ? 0u : 1u; }};
      LMC_TRY((RedisRounds{nodes_, work, deadline}.run()));
    }
    if (failed == 0) return removed;
    return Error{ErrorCode::kUnavailable,
                 std::to_string(failed).append(" chunks could not be removed")};
  }

  detail::RedisNodes nodes_;
  RemoteSerde const serde_;
  // Of keys that the last sizes() was told to ask for elsewhere.
  Asked asked_;
};

}  // namespace

TransportFactory redis_cluster_transport(RedisUrl url, RemoteSerde serde) {
  return [url = std::move(url), serde](Deadline deadline) -> Result<std::unique_ptr<Transport>> {
    auto made = std::make_unique<RedisClusterTransport>(url, serde);
    LMC_TRY(made->connect(deadline));
    return std::unique_ptr<Transport>{std::move(made)};
  };
}

}  // namespace lmcache
