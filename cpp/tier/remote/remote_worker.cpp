// SPDX-License-Identifier: Apache-2.0
#include "tier/remote/remote_worker.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include <lmcache/base/worker_thread.hpp>
#include <lmcache/tier/remote/remote_framing.hpp>

namespace lmcache {

Result<void> RemoteTier::Worker::start() {
  LMC_TRY_ASSIGN(thread_, start_worker_thread({.name = "lmc-remote" + std::to_string(number_)},
                                              [this] { run(); }));
  return {};
}

void RemoteTier::Worker::shut() noexcept {
  std::lock_guard const lock{mutex_};
  stopped_ = true;
  if (transport_) transport_->shut();
}

void RemoteTier::Worker::join() {
  if (thread_.joinable()) thread_.join();
}

void RemoteTier::Worker::run() {
  while (auto tasks = tier_.next(number_)) {
    tasks->size() == 0 ? try_server() : work(std::move(*tasks));
  }
}

Result<void> RemoteTier::Worker::connect() {
  if (transport_) return {};
  if (is_shut()) return Error{ErrorCode::kUnavailable, "closing"};
  LMC_TRY_ASSIGN(auto made, tier_.connect_(std::chrono::steady_clock::now() +
                                           tier_.options_.lookup_deadline * 5));
  std::lock_guard const lock{mutex_};
  transport_ = std::move(made);
  if (stopped_) return Error{ErrorCode::kUnavailable, "closing"};
  return {};
}

bool RemoteTier::Worker::is_shut() const {
  std::lock_guard const lock{mutex_};
  return stopped_;
}

void RemoteTier::Worker::drop_connection() {
  std::unique_ptr<Transport> gone;
  std::lock_guard const lock{mutex_};
  gone = std::move(transport_);
}

void RemoteTier::Worker::try_server() {
  auto answered = connect();
  if (answered) {
    auto const deadline = std::chrono::steady_clock::now() + tier_.options_.lookup_deadline * 5;
    answered = transport_->ping(deadline);
    if (answered) answered = clean_up(deadline);
  }
  if (answered) return tier_.note_success();
  drop_connection();
  tier_.note_failure(answered.error());
}

void RemoteTier::Worker::work(Tasks tasks) {
  auto const count = tasks.size();
  // A connection may have gone away while it was idle: one more try on a new one.
  for (int attempt = 0;; ++attempt) {
    bool const fresh = !transport_;
    auto done = connect();
    if (done && !tasks.asks.empty()) done = ask(tasks.asks);
    if (done && !tasks.reads.empty()) done = read(tasks.reads);
    if (done && !tasks.writes.empty()) done = write(tasks.writes);
    if (done) break;
    drop_connection();
    if (!fresh && attempt == 0 && done.error().code() == ErrorCode::kUnavailable) continue;
    for (auto& it : tasks.asks) it.done();
    for (auto& it : tasks.reads) tier_.answer(it, TierOutcome::kIoError);
    for (auto& it : tasks.writes) tier_.answer(it, TierOutcome::kClosed);
    tier_.note_failure(done.error());
    break;
  }
  tier_.finished(count);
}

Result<void> RemoteTier::Worker::clean_up(Deadline deadline) {
  auto unfinished = tier_.take_unfinished();
  if (unfinished.keys.empty()) return {};
  auto done = transport_->discard(unfinished.keys, unfinished.record_bytes, deadline);
  if (!done) tier_.leave(std::move(unfinished));
  return done;
}

Result<void> RemoteTier::Worker::ask(std::vector<Ask>& asks) {
  std::vector<ChunkKey> keys;
  Deadline latest = asks.front().deadline;
  for (auto const& it : asks) {
    keys.insert(keys.end(), it.keys.begin(), it.keys.end());
    latest = std::max(latest, it.deadline);
  }
  auto const started = tier_.clock_.monotonic_ns();
  LMC_TRY_ASSIGN(auto const sizes, transport_->sizes(keys, latest));
  tier_.lookup_ns_.store(static_cast<std::uint64_t>(tier_.clock_.monotonic_ns() - started));
  tier_.presence_.remember(keys, sizes);
  for (auto const& it : asks) it.done();
  asks.clear();
  return {};
}

// What was answered is taken out of the list, so that an error leaves the others in it.
Result<void> RemoteTier::Worker::read(std::vector<Read>& reads) {
  std::vector<RemoteGet> items;
  for (auto const& it : reads) items.push_back(it.item);
  std::vector<bool> answered(reads.size());
  std::vector<std::pair<std::uint32_t, TierOutcome>> useless;
  auto result = transport_->get_into(
      items, reads.front().deadline, [&](std::uint32_t i, TierOutcome outcome) {
        answered[i] = true;
        if (outcome == TierOutcome::kCorrupt || outcome == TierOutcome::kMissing) {
          useless.emplace_back(i, outcome);
        } else {
          tier_.answer(reads[i], outcome);
        }
      });
  // What is damaged, or not all there, would keep everybody from writing it again.
  if (result && !useless.empty()) {
    std::vector<ChunkKey> keys;
    for (auto const& [i, outcome] : useless) keys.push_back(reads[i].item.key);
    if (auto removed = transport_->remove(keys, reads.front().deadline); !removed) {
      if (removed.error().code() != ErrorCode::kUnavailable) result = std::move(removed).error();
    }
  }
  for (auto const& [i, outcome] : useless) tier_.answer(reads[i], outcome);
  std::vector<Read> left;
  for (std::size_t i = 0; i < reads.size(); ++i) {
    if (!answered[i]) left.push_back(std::move(reads[i]));
  }
  reads = std::move(left);
  return result;
}

Result<void> RemoteTier::Worker::write(std::vector<Write>& writes) {
  // Another node may have computed the same.
  std::vector<ChunkKey> keys;
  for (auto const& it : writes) keys.push_back(it.item.key);
  std::vector<std::uint64_t> sizes(keys.size());
  if (!tier_.options_.overwrites) {
    LMC_TRY_ASSIGN(sizes, transport_->sizes(keys, writes.front().deadline));
  }
  std::vector<Write> wanted;
  for (std::size_t i = 0; i < writes.size(); ++i) {
    if (sizes[i] == 0) {
      wanted.push_back(std::move(writes[i]));
    } else {
      tier_.presence_.correct(writes[i].item.key, sizes[i]);
      tier_.answer(writes[i], TierOutcome::kDuplicate);
    }
  }
  writes = std::move(wanted);
  if (writes.empty()) return {};
  std::vector<RemotePut> items;
  for (auto const& it : writes) items.push_back(it.item);
  // Before, so that a second attempt does not lose what it writes.
  auto const deadline = writes.front().deadline;
  LMC_TRY(clean_up(deadline));
  std::vector<bool> answered(writes.size());
  std::vector<bool> stored(writes.size());
  auto result = transport_->put(items, deadline, [&](std::uint32_t i, TierOutcome outcome) {
    answered[i] = true;
    stored[i] = outcome == TierOutcome::kDone;
    tier_.answer(writes[i], outcome);
  });
  Unfinished unfinished;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (stored[i] || part_count(items[i].record.size()) == 1) continue;
    unfinished.keys.push_back(items[i].key);
    unfinished.record_bytes.push_back(items[i].record.size());
  }
  tier_.leave(std::move(unfinished));
  if (result) result = clean_up(deadline);
  std::vector<Write> left;
  for (std::size_t i = 0; i < writes.size(); ++i) {
    if (!answered[i]) left.push_back(std::move(writes[i]));
  }
  writes = std::move(left);
  return result;
}

}  // namespace lmcache
