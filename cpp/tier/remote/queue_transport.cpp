// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/remote/queue_transport.hpp>

#include <cstring>
#include <span>
#include <utility>
#include <vector>

namespace lmcache {
namespace {

// Reads all of it, right after the client wrote it.
TierOutcome judge(RemoteGet const& item, ChunkKey const& geometry, std::uint64_t came_bytes) {
  if (came_bytes == 0) return TierOutcome::kMissing;
  if (came_bytes > item.slot_bytes) return TierOutcome::kCorrupt;
  std::span<std::byte const> const record{item.slot, came_bytes};
  auto const header = check_record(record, {.key = item.key, .generation = 0});
  bool const right =
      header && header.value().geometry_hash == geometry &&
      record_bytes(header.value().payload_bytes, header.value().valid_tokens) == came_bytes;
  return right ? TierOutcome::kDone : TierOutcome::kCorrupt;
}

class QueueTransport final : public Transport {
 public:
  explicit QueueTransport(std::shared_ptr<TransportQueue> queue) : queue_{std::move(queue)} {}

  Result<void> ping(Deadline deadline) override {
    LMC_TRY(queue_->carry_out({.op = RemoteOp::kPing}, deadline, caller_));
    return {};
  }

  Result<std::vector<std::uint64_t>> sizes(std::span<ChunkKey const> keys,
                                           Deadline deadline) override {
    if (keys.empty()) return std::vector<std::uint64_t>{};
    RemoteRequest request{.op = RemoteOp::kExists, .keys = {keys.begin(), keys.end()}};
    LMC_TRY_ASSIGN(auto done, queue_->carry_out(std::move(request), deadline, caller_));
    return std::move(done.answer.numbers);
  }

  Result<void> get_into(std::span<RemoteGet const> items, Deadline deadline,
                        Done const& done) override {
    if (items.empty()) return {};
    RemoteRequest request{.op = RemoteOp::kGetInto};
    // The slot's own header, written when it was reserved, says what geometry is expected; the
    // client writes over it.
    std::vector<ChunkKey> geometries;
    for (auto const& item : items) {
      request.keys.push_back(item.key);
      request.targets.emplace_back(item.slot, item.slot_bytes);
      geometries.push_back(peek_header({item.slot, sizeof(ChunkHeader)}).geometry_hash);
    }
    LMC_TRY_ASSIGN(auto const carried, queue_->carry_out(std::move(request), deadline, caller_));
    for (std::uint32_t i = 0; i < items.size(); ++i) {
      done(i, judge(items[i], geometries[i], carried.answer.numbers[i]));
    }
    return in_time(carried, RemoteOp::kGetInto);
  }

  Result<void> put(std::span<RemotePut const> items, Deadline deadline, Done const& done) override {
    if (items.empty()) return {};
    RemoteRequest request{.op = RemoteOp::kPut, .ttl_seconds = items.front().ttl_seconds};
    // Given back when nobody reads them: carry_out() returns no sooner.
    auto const headers = queue_->headers().borrow(items.size(), deadline);
    if (!headers) return Error{ErrorCode::kTimeout, "put: too many at once"};
    for (std::size_t i = 0; i < items.size(); ++i) {
      auto& header = (*headers)[i];
      header = sealed_copy(items[i].record, 0);
      request.keys.push_back(items[i].key);
      request.sources.push_back(std::as_bytes(std::span{&header, 1}));
      request.sources.push_back(items[i].record.subspan(sizeof(ChunkHeader)));
    }
    LMC_TRY_ASSIGN(auto const carried, queue_->carry_out(std::move(request), deadline, caller_));
    for (std::uint32_t i = 0; i < items.size(); ++i) {
      done(i, carried.answer.numbers[i] != 0 ? TierOutcome::kDone : TierOutcome::kNoSpace);
    }
    return in_time(carried, RemoteOp::kPut);
  }

  Result<std::uint64_t> remove(std::span<ChunkKey const> keys, Deadline deadline) override {
    if (keys.empty()) return std::uint64_t{0};
    return number({.op = RemoteOp::kRemove, .keys = {keys.begin(), keys.end()}}, deadline);
  }

  // A chunk is one value there, and there or not.
  Result<void> discard(std::span<ChunkKey const> /*keys*/,
                       std::span<std::uint64_t const> /*record_bytes*/,
                       Deadline /*deadline*/) override {
    return {};
  }

  Result<std::uint64_t> clear(Deadline deadline) override {
    return number({.op = RemoteOp::kClear}, deadline);
  }

  Result<RemoteDescription> describe(Deadline deadline) override {
    LMC_TRY_ASSIGN(auto done, queue_->carry_out({.op = RemoteOp::kDescribe}, deadline, caller_));
    return std::move(done.answer.description);
  }

  void shut() noexcept override { queue_->shut(caller_); }

 private:
  Result<std::uint64_t> number(RemoteRequest request, Deadline deadline) {
    LMC_TRY_ASSIGN(auto const done, queue_->carry_out(std::move(request), deadline, caller_));
    return done.answer.numbers.front();
  }

  // What came late is right all the same, but a store that is so slow is left alone.
  static Result<void> in_time(TransportQueue::Carried const& carried, RemoteOp op) {
    if (!carried.late) return {};
    return Error{ErrorCode::kTimeout, std::string{name_of(op)} + ": answered after its deadline"};
  }

  std::shared_ptr<TransportQueue> const queue_;
  TransportQueue::Caller caller_;  // guarded by the queue
};

}  // namespace

TransportFactory queue_transport(std::shared_ptr<TransportQueue> queue) {
  return [queue = std::move(queue)](Deadline) -> Result<std::unique_ptr<Transport>> {
    if (queue->closed()) {
      return Error{ErrorCode::kUnavailable, "the remote store is being closed"};
    }
    return std::unique_ptr<Transport>{std::make_unique<QueueTransport>(queue)};
  };
}

}  // namespace lmcache
