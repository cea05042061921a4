// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/remote/remote_tier.hpp>

#include <algorithm>
#include <utility>

#include <lmcache/base/worker_thread.hpp>

#include "tier/remote/remote_worker.hpp"

namespace lmcache {
namespace {

// What one connection takes at a time: enough to hide a round trip, little enough that others get
// their share.
constexpr std::size_t kMostAtOnce = 8;
constexpr std::uint64_t kMostBytesAtOnce = 16u << 20;
// How long a report of slowness is believed, or a speed for which somebody went without a chunk:
// then the next read measures anew.
constexpr std::int64_t kSlowBelievedNs = 30'000'000'000;

Deadline after(std::chrono::milliseconds time) { return std::chrono::steady_clock::now() + time; }

}  // namespace

RemoteTier::RemoteTier(RemoteOptions options, TransportFactory connect, Clock const& clock,
                       LogHook log)
    : options_{std::move(options)},
      connect_{std::move(connect)},
      clock_{clock},
      log_{std::move(log)},
      breaker_{clock},
      presence_{clock, options_.presence_kept},
      reads_{clock},
      writes_{clock} {}

Result<std::unique_ptr<RemoteTier>> RemoteTier::open(RemoteOptions options,
                                                     TransportFactory connect, Clock const& clock,
                                                     LogHook log) {
  std::unique_ptr<RemoteTier> tier{
      new RemoteTier{std::move(options), std::move(connect), clock, std::move(log)}};
  LMC_TRY(tier->start());
  return tier;
}

Result<void> RemoteTier::start() {
  for (std::uint32_t i = 0; i <= std::max(1U, options_.connections); ++i) {
    workers_.push_back(std::make_unique<Worker>(*this, i));
  }
  for (auto& worker : workers_) LMC_TRY(worker->start());
  return {};
}

RemoteTier::~RemoteTier() {
  {
    std::lock_guard const lock{mutex_};
    stop_ = true;
  }
  changed_.notify_all();
  // All at once: each may be waiting for a server that does not answer.
  for (auto& worker : workers_) worker->shut();
  for (auto& worker : workers_) worker->join();
  give_up({.asks = {std::make_move_iterator(asks_.begin()), std::make_move_iterator(asks_.end())},
           .reads = {std::make_move_iterator(reads_waiting_.begin()),
                     std::make_move_iterator(reads_waiting_.end())},
           .writes = {std::make_move_iterator(writes_waiting_.begin()),
                      std::make_move_iterator(writes_waiting_.end())}});
}

void RemoteTier::find(std::span<ChunkKey const> keys,
                      std::span<std::optional<std::uint64_t>> out) const {
  if (!usable()) {
    std::ranges::fill(out, std::optional<std::uint64_t>{0});
    return;
  }
  presence_.find(keys, out);
}

void RemoteTier::ask(std::vector<ChunkKey> keys, std::function<void()> done) {
  bool taken = false;
  if (usable() && !keys.empty()) {
    std::lock_guard const lock{mutex_};
    taken = !stop_;
    if (taken) {
      asks_.push_back({std::move(keys), std::move(done), after(options_.lookup_deadline)});
      ++open_;
    }
  }
  if (!taken) return done();
  changed_.notify_all();
}

void RemoteTier::read(std::vector<RemoteGet> items, std::span<std::uint64_t const> sizes,
                      ReadDone done) {
  auto const batch = std::make_shared<ReadBatch>(ReadBatch{std::move(done)});
  auto const deadline = after(options_.transfer_deadline);
  bool taken = false;
  if (usable()) {
    std::lock_guard const lock{mutex_};
    taken = !stop_;
    for (std::uint32_t i = 0; taken && i < items.size(); ++i) {
      reads_.begin(sizes[i]);
      reads_waiting_.push_back({items[i], sizes[i], i, batch, deadline});
      ++open_;
    }
  }
  if (taken) return changed_.notify_all();
  for (std::uint32_t i = 0; i < items.size(); ++i) batch->done(i, TierOutcome::kClosed);
}

void RemoteTier::write(RemotePut item, WriteDone done) {
  bool taken = false;
  if (usable()) {
    std::lock_guard const lock{mutex_};
    taken = !stop_;
    if (taken) {
      item.ttl_seconds = options_.ttl_seconds;
      writes_.begin(item.record.size());
      writes_waiting_.push_back({item, std::move(done), after(options_.transfer_deadline)});
      ++open_;
    }
  }
  if (!taken) return done(TierOutcome::kClosed);
  changed_.notify_all();
}

bool RemoteTier::drain(std::chrono::milliseconds timeout) {
  std::unique_lock lock{mutex_};
  return changed_.wait_for(lock, timeout, [this] { return open_ == 0; });
}

// Under the lock.
RemoteTier::Tasks RemoteTier::take_asks() {
  Tasks out;
  std::ranges::move(asks_, std::back_inserter(out.asks));
  asks_.clear();
  return out;
}

// Under the lock.
RemoteTier::Tasks RemoteTier::take(bool writes) {
  Tasks out;
  std::size_t const others = workers_.size() - 1;
  std::size_t const share =
      std::clamp((reads_waiting_.size() + others - 1) / others, std::size_t{1}, kMostAtOnce);
  std::uint64_t bytes = 0;
  while (!reads_waiting_.empty() && out.reads.size() < share && bytes < kMostBytesAtOnce) {
    bytes += reads_waiting_.front().size_bytes;
    out.reads.push_back(std::move(reads_waiting_.front()));
    reads_waiting_.pop_front();
  }
  if (out.size() != 0 || !writes) return out;
  while (!writes_waiting_.empty() && out.writes.size() < kMostAtOnce && bytes < kMostBytesAtOnce) {
    bytes += writes_waiting_.front().item.record.size();
    out.writes.push_back(std::move(writes_waiting_.front()));
    writes_waiting_.pop_front();
  }
  return out;
}

// Nothing: the tier is being closed. No tasks: it is time to try the server.
std::optional<RemoteTier::Tasks> RemoteTier::next(std::uint32_t worker) {
  // The first only asks: a look-up must not wait for a connection that moves chunks, or hangs.
  bool const writes = worker != 1 || workers_.size() == 2;
  std::unique_lock lock{mutex_};
  for (;;) {
    if (stop_) return std::nullopt;
    if (!usable()) {
      // One of us tries, for all.
      auto const now = clock_.monotonic_ns();
      auto const due = breaker_.try_at_ns();
      if (worker == 0 && now >= due) return Tasks{};
      auto const pause = std::chrono::nanoseconds{
          worker == 0 ? std::clamp<std::int64_t>(due - now, 1'000'000, 50'000'000) : 50'000'000};
      changed_.wait_for(lock, pause);
      continue;
    }
    if (auto tasks = worker == 0 ? take_asks() : take(writes); tasks.size() != 0) return tasks;
    changed_.wait_for(lock, std::chrono::milliseconds{200});
  }
}

void RemoteTier::finished(std::size_t tasks) {
  {
    std::lock_guard const lock{mutex_};
    open_ -= tasks;
  }
  changed_.notify_all();
}

void RemoteTier::answer(Read& read, TierOutcome outcome) {
  auto const speed = reads_.end(read.size_bytes);
  if (speed && outcome == TierOutcome::kDone) {
    read_bytes_per_s_.store(static_cast<std::uint64_t>(speed->bytes_per_s));
    speed_until_ns_.store(0);
  }
  if (outcome == TierOutcome::kMissing || outcome == TierOutcome::kCorrupt) {
    presence_.correct(read.item.key, 0);
  }
  read.batch->done(read.number, outcome);
}

void RemoteTier::answer(Write& write, TierOutcome outcome) {
  auto const speed = writes_.end(write.item.record.size());
  if (speed && outcome == TierOutcome::kDone) {
    write_bytes_per_s_.store(static_cast<std::uint64_t>(speed->bytes_per_s));
  }
  if (outcome == TierOutcome::kDone) presence_.correct(write.item.key, write.item.record.size());
  write.done(outcome);
}

void RemoteTier::give_up(Tasks tasks) {
  auto const count = tasks.size();
  if (count == 0) return;
  for (auto& ask : tasks.asks) ask.done();
  for (auto& read : tasks.reads) answer(read, TierOutcome::kClosed);
  for (auto& write : tasks.writes) answer(write, TierOutcome::kClosed);
  finished(count);
}

// Everything that waits is answered at once: nobody waits for a server that is gone.
void RemoteTier::note_failure(Error const& error) {
  bool const was_used = breaker_.failed();
  Tasks waiting;
  bool first = false;
  bool closing = false;  // what fails then is no news
  {
    std::lock_guard const lock{mutex_};
    closing = stop_;
    first = last_error_.empty();
    last_error_ = error.message();
    ++failures_;
    std::ranges::move(asks_, std::back_inserter(waiting.asks));
    std::ranges::move(reads_waiting_, std::back_inserter(waiting.reads));
    std::ranges::move(writes_waiting_, std::back_inserter(waiting.writes));
    asks_.clear();
    reads_waiting_.clear();
    writes_waiting_.clear();
  }
  if ((was_used || first) && !closing) {
    lmcache::log(log_, LogLevel::kWarning,
                 "remote cache " + options_.name + ": " + error.message() +
                     "; going on without it until it answers");
  }
  give_up(std::move(waiting));
}

// No more than some: parts go by themselves after a while.
void RemoteTier::leave(Unfinished unfinished) {
  constexpr std::size_t kMostKept = 1024;
  std::lock_guard const lock{mutex_};
  for (std::size_t i = 0; i < unfinished.keys.size() && unfinished_.keys.size() < kMostKept; ++i) {
    unfinished_.keys.push_back(unfinished.keys[i]);
    unfinished_.record_bytes.push_back(unfinished.record_bytes[i]);
  }
}

RemoteTier::Unfinished RemoteTier::take_unfinished() {
  std::lock_guard const lock{mutex_};
  return std::exchange(unfinished_, {});
}

void RemoteTier::note_success() {
  if (!breaker_.succeeded()) return;
  // What it said before it went away may be wrong by now.
  presence_.forget_all();
  lmcache::log(log_, LogLevel::kInfo, "remote cache " + options_.name + ": connected");
  changed_.notify_all();
}

RemoteStatus RemoteTier::status() const {
  RemoteStatus out{.connected = usable(),
                   .last_error = {},
                   .failures = 0,
                   .lookup_ns = lookup_ns_.load(),
                   .read_bytes_per_s = read_bytes_per_s(),
                   .write_bytes_per_s = write_bytes_per_s_.load()};
  std::lock_guard const lock{mutex_};
  out.last_error = last_error_;
  out.failures = failures_;
  return out;
}

std::uint64_t RemoteTier::read_bytes_per_s() const noexcept {
  auto const until = speed_until_ns_.load();
  if (until != 0 && clock_.monotonic_ns() > until) return 0;
  return read_bytes_per_s_.load();
}

void RemoteTier::report_slow(std::uint64_t arrived_bytes, std::uint64_t elapsed_ns) {
  auto const slow = static_cast<std::uint64_t>(
      std::max(1.0, static_cast<double>(arrived_bytes) * 1e9 /
                        static_cast<double>(std::max<std::uint64_t>(1, elapsed_ns))));
  auto const known = read_bytes_per_s_.load();
  if (known == 0 || slow < known) read_bytes_per_s_.store(slow);
  speed_until_ns_.store(clock_.monotonic_ns() + kSlowBelievedNs);
}

// Nobody reads while it is said to be slow, so nothing else would ever prove it wrong.
void RemoteTier::doubt_speed() noexcept {
  std::int64_t always = 0;
  speed_until_ns_.compare_exchange_strong(always, clock_.monotonic_ns() + kSlowBelievedNs);
}

}  // namespace lmcache
