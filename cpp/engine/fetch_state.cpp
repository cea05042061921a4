// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/fetch_state.hpp>

#include <algorithm>
#include <utility>

#include <lmcache/engine/fetch.hpp>
#include <lmcache/index/chunk_record.hpp>

namespace lmcache {
namespace {

// How often those are looked at that another process fetches: nobody wakes us.
constexpr std::chrono::microseconds kLookEvery{500};

}  // namespace

FetchState::FetchState(DramTier& dram, Clock const& clock, LoadEstimate estimate,
                       std::uint32_t prefix_tokens, OnSlow on_slow, OnRemote on_remote) noexcept
    : dram_{dram},
      clock_{clock},
      prefix_tokens_{prefix_tokens},
      on_remote_{std::move(on_remote)},
      started_ns_{clock.monotonic_ns()},
      estimate_{estimate},
      on_slow_{std::move(on_slow)} {}

void FetchState::begin_asking() {
  std::lock_guard const lock{mutex_};
  asking_ = true;
}

bool FetchState::still_wanted() {
  std::lock_guard const lock{mutex_};
  return !released_ && !abandoned_;
}

void FetchState::plan(LoadEstimate estimate, std::uint32_t prefix_tokens, OnSlow on_slow) {
  std::lock_guard const lock{mutex_};
  estimate_ = estimate;
  // The reads begin only now.
  if (estimate_.longest_ns != 0) {
    estimate_.longest_ns += static_cast<std::uint64_t>(clock_.monotonic_ns() - started_ns_);
  }
  prefix_tokens_ = prefix_tokens;
  on_slow_ = std::move(on_slow);
}

void FetchState::nothing() { expect({}, {}); }

void FetchState::expect(std::vector<Piece> pieces, std::vector<ChunkRef> coming) {
  std::lock_guard const lock{mutex_};
  asking_ = false;
  pieces_ = std::move(pieces);
  coming_ = std::move(coming);
  open_ = static_cast<std::uint32_t>(pieces_.size());
  changed_.notify_all();
}

void FetchState::count_outcome(Piece const& piece, TierOutcome outcome) {
  auto& counters = dram_.counters();
  switch (outcome) {
    case TierOutcome::kDone:
      count(piece.remote ? counters.remote_read_chunks : counters.disk_read_chunks);
      count(piece.remote ? counters.remote_read_bytes : counters.disk_read_bytes, piece.size_bytes);
      if (piece.slot.lane == 0) {
        count(piece.remote ? counters.remote_hit_tokens : counters.disk_hit_tokens,
              piece.slot.valid_tokens);
      }
      return;
    case TierOutcome::kCorrupt:
      count(piece.remote ? counters.remote_corrupt_chunks : counters.disk_corrupt_chunks);
      return;
    case TierOutcome::kIoError:
      count(piece.remote ? counters.remote_read_errors : counters.disk_read_errors);
      return;
    default:
      return;
  }
}

void FetchState::arrived(std::uint32_t index, TierOutcome outcome) {
  auto const& piece = pieces_[index];
  if (outcome == TierOutcome::kDone) {
    // The key covers the tokens, not how many bytes they take: a record of another geometry would
    // tear the planes apart in the wrong places.
    auto const header = peek_header({piece.slot.record, sizeof(ChunkHeader)});
    bool const same = header.payload_bytes == piece.slot.payload_bytes &&
                      header.valid_tokens == piece.slot.valid_tokens;
    if (!same) outcome = TierOutcome::kCorrupt;
  }
  count_outcome(piece, outcome);
  bool keep = false;
  if (outcome == TierOutcome::kDone) {
    if (!piece.remote) dram_.note_on_disk(piece.ref);
    dram_.publish_and_keep(piece.ref);
    if (piece.remote && on_remote_) on_remote_(piece.ref);
    keep = true;
  } else {
    dram_.abandon(piece.ref);
  }
  bool released = false;
  {
    std::lock_guard const lock{mutex_};
    released = released_;
    if (keep && !released) kept_.push_back(piece.ref);
    if (keep) arrived_bytes_ += piece.size_bytes;
    if (--open_ == 0) {
      count(piece.remote ? dram_.counters().remote_read_ns : dram_.counters().disk_read_ns,
            static_cast<std::uint64_t>(clock_.monotonic_ns() - started_ns_));
    }
  }
  if (keep && released) dram_.release({&piece.ref, 1});
  changed_.notify_all();
}

// By the index, for what we fetch as for what others do: so all that wait for the same chunks are
// done at the same moment.
bool FetchState::all_came() const {
  auto const came = [this](ChunkRef ref) { return dram_.is_ready(ref) || !dram_.is_reserved(ref); };
  return (open_ == 0 || std::ranges::all_of(pieces_, came, &Piece::ref)) &&
         std::ranges::all_of(coming_, came);
}

bool FetchState::done() {
  std::lock_guard const lock{mutex_};
  bool const over = !asking_ && all_came();
  if (abandoned_ || released_ || over) return true;
  auto const elapsed = static_cast<std::uint64_t>(clock_.monotonic_ns() - started_ns_);
  // Nothing is known of the progress of others but how long it takes.
  bool const pace = estimate_.keeps_pace(elapsed, open_ == 0 ? 0 : arrived_bytes_);
  if (pace) return false;
  abandoned_ = true;
  count(dram_.counters().loads_abandoned);
  if (on_slow_) on_slow_(arrived_bytes_, elapsed);
  return true;
}

bool FetchState::wait(std::chrono::milliseconds timeout) {
  auto const deadline = std::chrono::steady_clock::now() + timeout;
  while (!done()) {
    std::unique_lock lock{mutex_};
    auto const now = std::chrono::steady_clock::now();
    if (now >= deadline) return false;
    changed_.wait_until(lock, std::min(deadline, now + kLookEvery));
  }
  return true;
}

void FetchState::release() {
  std::vector<ChunkRef> kept;
  {
    std::lock_guard const lock{mutex_};
    released_ = true;
    kept.swap(kept_);
  }
  dram_.release(kept);
}

Fetch::Fetch(std::shared_ptr<FetchState> state) noexcept : state_{std::move(state)} {}
Fetch::Fetch(Fetch&&) noexcept = default;
Fetch& Fetch::operator=(Fetch&& other) noexcept {
  if (this != &other) {
    release();
    state_ = std::move(other.state_);
  }
  return *this;
}
Fetch::~Fetch() { release(); }

bool Fetch::done() { return !state_ || state_->done(); }
bool Fetch::wait(std::chrono::milliseconds timeout) { return !state_ || state_->wait(timeout); }
std::uint32_t Fetch::prefix_tokens() const noexcept { return state_ ? state_->prefix_tokens() : 0; }
void Fetch::release() noexcept {
  if (state_) std::exchange(state_, nullptr)->release();
}

}  // namespace lmcache
