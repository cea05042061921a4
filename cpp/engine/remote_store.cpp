// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/remote_store.hpp>

#include <algorithm>
#include <cstring>
#include <latch>
#include <thread>
#include <utility>

#include <lmcache/base/clock.hpp>
#include <lmcache/index/chunk_record.hpp>
#include <lmcache/tier/remote/queue_transport.hpp>
#include <lmcache/tier/remote/redis_transport.hpp>
#include <lmcache/tier/remote/remote_framing.hpp>
#include <lmcache/tier/remote/remote_tier.hpp>

namespace lmcache {
namespace {

SystemClock const kClock;

Deadline after(std::uint32_t timeout_ms) {
  return std::chrono::steady_clock::now() + std::chrono::milliseconds{timeout_ms};
}

void put_header(std::byte* slot, ChunkKey const& key, std::uint64_t payload_bytes) {
  ChunkHeader header{};
  header.magic = kChunkMagic;
  header.format_version = kChunkFormatVersion;
  header.key = key;
  header.payload_bytes = payload_bytes;
  std::memcpy(slot, &header, sizeof header);
}

struct Link {
  std::string name;
  TransportFactory connect;
};

Result<Link> link_of(RemoteStoreOptions const& options) {
  if (options.calls) return Link{options.calls->name(), queue_transport(options.calls)};
  LMC_TRY_ASSIGN(auto url, parse_redis_url(options.url));
  if (url.user.empty()) url.user = options.user;
  if (url.password.empty()) url.password = options.password;
  LMC_TRY_ASSIGN(auto const serde, parse_remote_serde(options.serde));
  auto name = url.text();
  return Link{std::move(name), redis_transport(std::move(url), serde)};
}

}  // namespace

RemoteStore::RemoteStore(RemoteStoreOptions options, std::string name,
                         std::unique_ptr<Transport> transport,
                         std::unique_ptr<RemoteTier> tier) noexcept
    : options_{std::move(options)},
      name_{std::move(name)},
      transport_{std::move(transport)},
      tier_{std::move(tier)} {}
RemoteStore::~RemoteStore() {
  tier_.reset();
  transport_.reset();
  if (options_.calls) options_.calls->close();
}

Result<std::unique_ptr<RemoteStore>> RemoteStore::open(RemoteStoreOptions options, LogHook log) {
  LMC_TRY_ASSIGN(auto const link, link_of(options));
  auto const deadline = after(options.timeout_ms);
  // First one of our own, which says why when it fails.
  LMC_TRY_ASSIGN(auto transport, link.connect(deadline));
  LMC_TRY(transport->ping(deadline));
  std::chrono::milliseconds const timeout{options.timeout_ms};
  std::chrono::milliseconds const transfer{
      options.transfer_timeout_ms == 0 ? options.timeout_ms : options.transfer_timeout_ms};
  LMC_TRY_ASSIGN(auto tier, RemoteTier::open({.name = link.name,
                                              .connections = options.connections,
                                              .ttl_seconds = options.ttl_seconds,
                                              .overwrites = options.overwrites,
                                              .lookup_deadline = timeout / 5,  // connects in 5
                                              .transfer_deadline = transfer},
                                             link.connect, kClock, std::move(log)));
  while (!tier->usable()) {
    if (std::chrono::steady_clock::now() > deadline) {
      return Error{ErrorCode::kTimeout, link.name + ": " + tier->status().last_error};
    }
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  return std::unique_ptr<RemoteStore>{
      new RemoteStore{std::move(options), link.name, std::move(transport), std::move(tier)}};
}

Result<std::uint64_t> RemoteStore::ping() {
  auto const started = kClock.monotonic_ns();
  LMC_TRY(transport_->ping(after(options_.timeout_ms)));
  return static_cast<std::uint64_t>(kClock.monotonic_ns() - started);
}

Result<RemoteStoreUse> RemoteStore::stat() {
  LMC_TRY_ASSIGN(auto const seen, transport_->describe(after(options_.timeout_ms)));
  return RemoteStoreUse{.name = name_,
                        .server = seen.server,
                        .role = seen.role,
                        .used_bytes = seen.used_bytes,
                        .limit_bytes = seen.limit_bytes,
                        .chunks = seen.chunks,
                        .orphans = seen.orphans};
}

Result<std::uint64_t> RemoteStore::clear() {
  tier_->forget_answers();
  return transport_->clear(after(options_.timeout_ms));
}

Result<std::uint64_t> RemoteStore::remove(std::span<ChunkKey const> keys) {
  tier_->forget_answers();
  auto const deadline = after(options_.timeout_ms);
  LMC_TRY_ASSIGN(auto const removed, transport_->remove(keys, deadline));
  if (part_count(longest_record_bytes_) > 1) {
    std::vector<std::uint64_t> const sizes(keys.size(), longest_record_bytes_);
    LMC_TRY(transport_->discard(keys, sizes, deadline));
  }
  return removed;
}

Result<std::uint64_t> RemoteStore::find(std::span<ChunkKey const> keys) {
  LMC_TRY_ASSIGN(auto const sizes, transport_->sizes(keys, after(options_.timeout_ms)));
  return static_cast<std::uint64_t>(
      std::ranges::count_if(sizes, [](std::uint64_t size) { return size != 0; }));
}

std::uint64_t RemoteStore::write(std::span<ChunkKey const> keys, RemoteSlots const& slots) {
  std::latch open{static_cast<std::ptrdiff_t>(keys.size())};
  std::atomic<std::uint64_t> there{0};
  auto const size_bytes = record_bytes(slots.payload_bytes, 0);
  longest_record_bytes_ = std::max(longest_record_bytes_, size_bytes);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    auto* const slot = slots.data + i * slots.slot_bytes;
    put_header(slot, keys[i], slots.payload_bytes);
    tier_->write({.key = keys[i], .record = {slot, size_bytes}}, [&](TierOutcome outcome) {
      if (outcome == TierOutcome::kDone || outcome == TierOutcome::kDuplicate) ++there;
      open.count_down();
    });
  }
  open.wait();
  return there;
}

std::uint64_t RemoteStore::read(std::span<ChunkKey const> keys, RemoteSlots const& slots) {
  std::latch open{static_cast<std::ptrdiff_t>(keys.size())};
  std::atomic<std::uint64_t> right{0};
  std::vector<RemoteGet> items;
  std::vector<std::uint64_t> const sizes(keys.size(), slots.slot_bytes);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    auto* const slot = slots.data + i * slots.slot_bytes;
    put_header(slot, keys[i], 0);  // of which geometry it is to be
    items.push_back({.key = keys[i], .slot = slot, .slot_bytes = slots.slot_bytes});
  }
  tier_->read(std::move(items), sizes, [&](std::uint32_t, TierOutcome outcome) {
    if (outcome == TierOutcome::kDone) ++right;
    open.count_down();
  });
  open.wait();
  return right;
}

}  // namespace lmcache
