// SPDX-License-Identifier: Apache-2.0
// Writes, in the order that makes a crash harmless: the slot's index record is freed, the chunk is
// written, then the record. All on the tier's own thread, which may wait for the file system.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <utility>

#include <unistd.h>

#include <lmcache/index/chunk_record.hpp>
#include <lmcache/tier/disk/disk_tier.hpp>

namespace lmcache {
namespace {

constexpr std::chrono::milliseconds kTick{500};
constexpr int kMostSlabsPerWrite = 8;
constexpr std::size_t kMostGrouped = 8;
constexpr std::uint64_t kMostGroupBytes = 8u << 20;

IndexRecord index_record(ChunkKey const& key, DiskPlace const& place, DiskChunkFacts const& facts,
                         std::uint64_t last_use) {
  IndexRecord out{};
  out.used = 1;
  out.flags = facts.flags;
  out.lane = facts.lane;
  out.sequence = place.sequence;
  out.key = key;
  out.root = facts.root;
  out.slab = place.slab;
  out.fingerprint = facts.fingerprint;
  out.offset = place.offset;
  out.slot_bytes = place.slot_bytes;
  out.payload_bytes = facts.payload_bytes;
  out.valid_tokens = facts.valid_tokens;
  out.expires_unix_s = facts.expires_unix_s;
  out.last_use = last_use;
  return out;
}

}  // namespace

void DiskTier::write(DiskWrite item, WriteDone done) {
  bool closed = false;
  {
    std::lock_guard const lock{mutex_};
    closed = stop_;
    if (!closed) {
      inbox_.push_back({.item = item, .done = std::move(done), .place = {}});
      ++open_writes_;
    }
  }
  if (closed) return done(TierOutcome::kClosed);
  changed_.notify_all();
}

bool DiskTier::drain(std::chrono::milliseconds timeout) {
  std::unique_lock lock{mutex_};
  return changed_.wait_for(lock, timeout, [this] { return open_writes_ == 0 && to_free_.empty(); });
}

void DiskTier::run() {
  auto const tick = std::clamp(options_.checkpoint_every, std::chrono::milliseconds{1}, kTick);
  std::unique_lock lock{mutex_};
  auto house_at = clock_.monotonic_ns();
  for (;;) {
    changed_.wait_for(lock, tick, [this] {
      return !inbox_.empty() || !written_.empty() || !to_free_.empty() ||
             (stop_ && open_writes_ == 0);
    });
    if (stop_ && open_writes_ == 0 && to_free_.empty()) break;
    bool const late = stop_ && clock_.monotonic_ns() > give_up_ns_;
    if (late && inbox_.empty() && to_free_.empty()) break;  // the rest: stop_io()
    auto inbox = std::exchange(inbox_, {});
    auto written = std::exchange(written_, {});
    auto const to_free = to_free_;
    lock.unlock();
    for (auto const& place : to_free) {
      (void)volume_.files.free_record(place.record);
      volume_.directory->abandon(place);
    }
    if (!written.empty()) commit(std::move(written));
    if (late) {
      for (auto& write : inbox) answer(write, TierOutcome::kClosed);
    } else if (!inbox.empty()) {
      begin_writes(std::move(inbox));
    }
    if (auto const now = clock_.monotonic_ns(); now >= house_at) {
      house_at = now + std::chrono::nanoseconds{tick}.count();
      keep_house();
    }
    lock.lock();
    to_free_.erase(to_free_.begin(),
                   to_free_.begin() + static_cast<std::ptrdiff_t>(to_free.size()));
    if (!to_free.empty()) changed_.notify_all();
  }
  lock.unlock();
  bury_the_dead();
  checkpoint();
}

void DiskTier::note_write_error(std::string const& what) {
  if (!write_errors_.failed()) return;
  lmcache::log(log_, LogLevel::kWarning, "disk cache: " + what + "; writes pause for a minute");
}

void DiskTier::answer(Write& write, TierOutcome outcome) {
  write.done(outcome);
  write.done = {};
  {
    std::lock_guard const lock{mutex_};
    --open_writes_;
  }
  changed_.notify_all();
}

// In groups, since each that is handed over wakes another thread; small ones first, so that the
// device has something to do while the next are summed.
void DiskTier::begin_writes(std::deque<Write> writes) {
  std::size_t most = 1;
  WriteGroup group;
  std::uint64_t group_bytes = 0;
  for (auto& write : writes) {
    if (auto const outcome = prepare(write)) {
      answer(write, *outcome);
      continue;
    }
    auto const slab = slabs_.get(write.place);
    if (!slab) {
      volume_.directory->abandon(write.place);
      note_write_error(slab.error().message());
      answer(write, TierOutcome::kIoError);
      continue;
    }
    group.requests.push_back({.op = IoOp::kWrite,
                              .file = slab.value().file,
                              .offset = write.place.offset,
                              .data = write.item.slot,
                              .size_bytes = write.size_bytes});
    group_bytes += write.size_bytes;
    group.writes.push_back(std::move(write));
    if (group.writes.size() < most && group_bytes < kMostGroupBytes) continue;
    submit(std::exchange(group, {}));
    group_bytes = 0;
    most = std::min(2 * most, kMostGrouped);
    // What was written meanwhile counts soon, not after the last of a long list.
    std::vector<Write> done;
    {
      std::lock_guard const lock{mutex_};
      if (written_.size() >= kMostGrouped) done = std::exchange(written_, {});
    }
    if (!done.empty()) commit(std::move(done));
  }
  if (!group.writes.empty()) submit(std::move(group));
}

void DiskTier::submit(WriteGroup group) {
  for (auto const& write : group.writes) writes_.begin(write.size_bytes);
  auto const shared = std::make_shared<std::vector<Write>>(std::move(group.writes));
  io_->submit(std::move(group.requests), [this, shared](std::uint32_t request, IoAnswer result) {
    auto& write = (*shared)[request];
    if (auto const speed = writes_.end(write.size_bytes); speed && result.ok()) {
      volume_.directory->record_speed(&DirectorySpace::write_bytes_per_s, speed->bytes_per_s);
    }
    write.os_error = result.os_error;
    bool first = false;
    {
      std::lock_guard const lock{mutex_};
      first = written_.empty();
      written_.push_back(std::move(write));
    }
    // Whoever was woken for one takes all.
    if (first) changed_.notify_all();
  });
}

// Room, and everything that must happen before the slot is touched. A value: it ends here.
std::optional<TierOutcome> DiskTier::prepare(Write& write) {
  if (write_errors_.paused()) return TierOutcome::kIoError;
  auto const facts = peek_header({write.item.slot, write.item.slot_bytes});
  std::uint64_t const whole = record_bytes(facts.payload_bytes, facts.valid_tokens);
  if (facts.key != write.item.key || whole > write.item.slot_bytes) return TierOutcome::kMissing;
  auto grant = room_for(write);
  if (!grant) {
    switch (grant.error().code()) {
      case ErrorCode::kCancelled:
        return TierOutcome::kDuplicate;
      case ErrorCode::kOutOfMemory:
      case ErrorCode::kInvalidArgument:
        return TierOutcome::kNoSpace;
      case ErrorCode::kIo:
        note_write_error(grant.error().message());
        return TierOutcome::kIoError;
      default:
        return TierOutcome::kIoError;
    }
  }
  write.place = grant.value().place;
  write.size_bytes = transfer_bytes(write.place.slot_bytes, whole);
  if (grant.value().evicted && hooks_.on_evicted) hooks_.on_evicted(*grant.value().evicted);
  if (auto const freed = volume_.files.free_record(write.place.record); !freed) {
    volume_.directory->abandon(write.place);
    note_write_error(freed.error().message());
    return TierOutcome::kIoError;
  }
  seal_record({write.item.slot, whole}, write.place.sequence);
  return std::nullopt;
}

Result<WriteGrant> DiskTier::room_for(Write const& write) {
  for (int slabs = 0; slabs < kMostSlabsPerWrite; ++slabs) {
    LMC_TRY_ASSIGN(auto allocation, volume_.directory->allocate(
                                        write.item.key, disk_slot_bytes(write.item.slot_bytes)));
    if (auto* const grant = std::get_if<WriteGrant>(&allocation)) return std::move(*grant);
    LMC_TRY(make_slab(std::get<SlabTask>(allocation)));
  }
  return Error{ErrorCode::kOutOfMemory, "no slab could be made"};
}

// An error: nothing that a smaller limit would mend.
Result<void> DiskTier::make_slab(SlabTask const& task) {
  if (hooks_.on_evicted) {
    for (auto const& key : task.evicted) hooks_.on_evicted(key);
  }
  for (std::uint32_t const record : task.dropped) (void)volume_.files.free_record(record);
  for (auto const& emptied : task.emptied) {
    volume_.files.remove_slab(emptied.folder, emptied.slab);
  }
  using Outcome = DiskDirectory::SlabOutcome;
  auto made = task.slab == kNoSlab
                  ? Result<void>{}
                  : volume_.files.make_slab(task.folder, task.slab, task.size_bytes);
  if (made && task.slab != kNoSlab && options_.durability == Durability::kData) {
    made = volume_.files.sync_folder(task.folder);
    if (!made) volume_.files.remove_slab(task.folder, task.slab);
  }
  bool const full =
      !made && (made.error().os_error() == ENOSPC || made.error().os_error() == EDQUOT);
  volume_.directory->finish_slab(task, made   ? Outcome::kMade
                                       : full ? Outcome::kNoSpace
                                              : Outcome::kFailed);
  if (full && !said_full_.exchange(true)) {
    lmcache::log(
        log_, LogLevel::kWarning,
        "disk cache: " + made.error().message() + "; it goes on with the room that it has");
  }
  if (made || full) return {};
  return Error{ErrorCode::kIo, made.error().message(), made.error().os_error()};
}

Result<void> DiskTier::sync_slabs(std::span<Write> written) {
  std::set<int> files;
  for (auto const& write : written) {
    LMC_TRY_ASSIGN(auto const slab, slabs_.get(write.place));
    files.insert(slab.fd);
  }
  for (int const fd : files) {
    if (::fdatasync(fd) != 0) return Error{ErrorCode::kIo, "fdatasync of a slab", errno};
  }
  return {};
}

void DiskTier::commit(std::vector<Write> written) {
  std::vector<Write> good;
  for (auto& write : written) {
    if (write.os_error == 0) {
      good.push_back(std::move(write));
      continue;
    }
    volume_.directory->abandon(write.place);
    if (write.os_error != ECANCELED) {
      note_write_error(volume_.files.folders()[write.place.folder].path() + ": writes fail (" +
                       std::strerror(write.os_error) + ")");
    }
    answer(write, write.os_error == ECANCELED ? TierOutcome::kClosed
                  : write.os_error == ENOSPC  ? TierOutcome::kNoSpace
                                              : TierOutcome::kIoError);
  }
  if (good.empty()) return;
  bool const durable = options_.durability == Durability::kData;
  Result<void> safe{};
  if (durable) safe = sync_slabs(good);
  std::vector<std::pair<DiskChunkFacts, std::uint64_t>> facts;
  for (auto const& write : good) {
    auto const header = peek_header({write.item.slot, write.item.slot_bytes});
    DiskChunkFacts fact{.payload_bytes = header.payload_bytes,
                        .valid_tokens = header.valid_tokens,
                        .fingerprint = header.fingerprint,
                        .expires_unix_s = header.expires_unix_s,
                        .lane = header.lane,
                        .flags = header.flags};
    std::copy_n(header.root.bytes.begin(), fact.root.size(), fact.root.begin());
    std::uint64_t const last_use = volume_.directory->now();
    if (safe) {
      safe = volume_.files.write_record(write.place.record,
                                        index_record(write.item.key, write.place, fact, last_use));
    }
    facts.emplace_back(fact, last_use);
  }
  if (safe && durable) safe = volume_.files.sync_index();
  if (!safe) note_write_error(safe.error().message());
  if (safe) write_errors_.succeeded();
  for (std::size_t i = 0; i < good.size(); ++i) {
    if (safe) {
      volume_.directory->commit(good[i].place, facts[i].first, facts[i].second);
    } else {
      (void)volume_.files.free_record(good[i].place.record);
      volume_.directory->abandon(good[i].place);
    }
    answer(good[i], safe ? TierOutcome::kDone : TierOutcome::kIoError);
  }
}

void DiskTier::bury_the_dead() {
  volume_.directory->settle_debts();
  if (auto const orphans = volume_.directory->reap();
      !orphans.emptied.empty() || !orphans.dropped.empty()) {
    (void)make_slab(orphans);
  }
}

// It was read past the page cache. A record that is written would wait for the rest of its page.
void DiskTier::warm_index() {
  if (!std::exchange(index_is_cold_, false)) return;
  std::uint32_t records = 0;
  {
    auto& state = volume_.directory->state();
    auto const guard = state.lock(std::chrono::milliseconds{50});
    if (guard) records = state.space.entry_limit;
  }
  if (records != 0) volume_.files.warm_index(records);
}

void DiskTier::keep_house() {
  bury_the_dead();
  warm_index();
  measure_speed();
  auto const now = clock_.monotonic_ns();
  if (now - checkpoint_ns_ >= std::chrono::nanoseconds{options_.checkpoint_every}.count()) {
    checkpoint();
  }
}

void DiskTier::checkpoint() {
  checkpoint_ns_ = clock_.monotonic_ns();
  auto const order = volume_.directory->order();
  if (order.now == order_written_at_) return;
  std::lock_guard const one{setup_mutex_};
  auto& folder = volume_.files.folders().front();
  if (!folder.lock_setup(std::chrono::milliseconds{0})) return;  // another process does it
  auto const sync =
      options_.durability == Durability::kData ? VolumeFiles::Sync::kYes : VolumeFiles::Sync::kNo;
  if (volume_.files.write_order(order, sync)) order_written_at_ = order.now;
  folder.unlock_setup();
}

}  // namespace lmcache
