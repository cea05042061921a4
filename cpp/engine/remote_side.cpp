// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/remote_side.hpp>

#include <algorithm>
#include <utility>

#include <lmcache/tier/remote/queue_transport.hpp>
#include <lmcache/tier/remote/redis_transport.hpp>

namespace lmcache {
namespace {

struct Link {
  std::string name;  // for messages
  TransportFactory connect;
};

Result<Link> link_of(EngineOptions const& options) {
  if (options.remote_calls) {
    return Link{options.remote_calls->name(), queue_transport(options.remote_calls)};
  }
  LMC_TRY_ASSIGN(auto url, parse_redis_url(options.remote_url));
  if (url.user.empty()) url.user = options.remote_user;
  if (url.password.empty()) url.password = options.remote_password;
  LMC_TRY_ASSIGN(auto const serde, parse_remote_serde(options.remote_serde));
  auto name = url.text();
  return Link{std::move(name), redis_transport(std::move(url), serde)};
}

}  // namespace

RemoteSide::RemoteSide(DramTier& dram, Clock const& clock, std::uint64_t budget_bytes)
    : dram_{dram},
      budget_bytes_{budget_bytes},
      writes_{dram,
              clock,
              budget_bytes,
              {.written_chunks = dram.counters().remote_written_chunks,
               .written_bytes = dram.counters().remote_written_bytes,
               .write_ns = dram.counters().remote_write_ns,
               .dropped_writes = dram.counters().remote_dropped_writes,
               .write_errors = dram.counters().remote_write_errors,
               .known_chunks = &dram.counters().remote_known_chunks},
              [this](ChunkHeader const& header, ChunkSlot const& slot, WriteBehind::Done done) {
                auto const size_bytes = record_bytes(header.payload_bytes, header.valid_tokens);
                remote_->write({.key = header.key, .record = {slot.record, size_bytes}},
                               std::move(done));
              },
              {.on_left = [this](ChunkRef ref) { remember(ref); }}} {}

Result<std::unique_ptr<RemoteSide>> RemoteSide::open(EngineOptions const& options, DramTier& dram,
                                                     Clock const& clock, LogHook const& log) {
  LMC_TRY_ASSIGN(auto link, link_of(options));
  // Chunks on their way cannot be evicted: most of the memory stays free to use.
  std::uint64_t const budget =
      std::min(options.write_behind_bytes, dram.segment().capacity_bytes() / 4);
  std::unique_ptr<RemoteSide> side{new RemoteSide{dram, clock, budget}};
  side->calls_ = options.remote_calls;
  LMC_TRY_ASSIGN(
      side->remote_,
      RemoteTier::open(
          {.name = std::move(link.name),
           .connections = options.remote_connections,
           .ttl_seconds = options.ttl_seconds,
           .cheap_asks = !options.remote_calls,
           .lookup_deadline = std::chrono::milliseconds{options.remote_lookup_timeout_ms},
           .transfer_deadline = std::chrono::milliseconds{options.remote_timeout_ms},
           .presence_kept = std::chrono::milliseconds{options.remote_lookup_kept_ms}},
          std::move(link.connect), clock, log));
  return side;
}

RemoteSide::~RemoteSide() {
  constexpr std::chrono::seconds kLastWrites{2};
  if (remote_ && remote_->usable()) (void)remote_->drain(kLastWrites);
  remote_.reset();
  if (!calls_) return;
  // Its client lets go of our memory before that goes. One that does not may go on using it.
  constexpr std::chrono::seconds kClientCloses{5};
  calls_->close();
  if (!calls_->wait_for_memory(kClientCloses)) dram_.segment().keep_mapped();
}

// The oldest go first from memory, too.
void RemoteSide::remember(ChunkRef ref) {
  constexpr std::size_t kMostUnsent = 1 << 16;
  std::lock_guard const lock{mutex_};
  if (unsent_.size() == kMostUnsent) unsent_.pop_front();
  unsent_.push_back(ref);
}

// What is stored meanwhile has the other half of the budget.
void RemoteSide::send_again() {
  while (remote_->usable() && writes_.open_bytes() <= budget_bytes_ / 2) {
    ChunkRef ref;
    {
      std::lock_guard const lock{mutex_};
      if (unsent_.empty()) return;
      ref = unsent_.front();
      unsent_.pop_front();
    }
    writes_.offer(ref, WriteBehind::Attempt::kLast);
  }
}

void RemoteSide::keep_house() {
  send_again();
  auto const status = remote_->status();
  auto& gauges = dram_.state().processes.record(dram_.state().process).remote;
  gauges.state.store(status.connected ? 2 : 1);
  gauges.failures.store(static_cast<std::uint32_t>(status.failures));
  gauges.lookup_ns.store(status.lookup_ns);
  gauges.set_last_error(status.last_error);
  gauges.read_bytes_per_s.store(status.read_bytes_per_s);
  gauges.write_bytes_per_s.store(status.write_bytes_per_s);
}

}  // namespace lmcache
