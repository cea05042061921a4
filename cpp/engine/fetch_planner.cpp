// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/fetch_planner.hpp>

#include <algorithm>
#include <chrono>
#include <future>
#include <optional>
#include <span>
#include <utility>

#include <lmcache/index/chunk_record.hpp>
#include <lmcache/layout/prefix_window.hpp>

namespace lmcache {
namespace {

// The tier's own deadline is shorter, unless somebody wants to wait for a very slow server.
constexpr std::chrono::seconds kLongestAsk{2};
// The chunks of a prompt; where they end, the tails that may follow; the other lanes of a tail.
constexpr int kMostRounds = 3;
// What a tier takes to answer after its deadline.
constexpr std::chrono::milliseconds kGrace{50};

// The key of a piece of a prompt: a whole chunk, or the tail that this very prompt leaves.
std::optional<ChunkKey> piece_key(KeyChain const& chain, std::uint32_t chunk) {
  if (chunk < chain.chunk_count()) return chain.keys()[chunk];
  auto const key = chain.tail_key(chunk, chain.token_count());
  if (!key) return std::nullopt;
  return key.value();
}

}  // namespace

std::vector<FetchPlanner::Wanted> FetchPlanner::candidates(DramNamespace const& space,
                                                           KeyChain const& chain,
                                                           Span const& span) const {
  std::vector<Wanted> out;
  std::uint32_t const chunk_tokens = chain.chunk_tokens();
  std::uint32_t const limit = std::min(span.limit_tokens, chain.token_count());
  auto const first_of = [&](std::uint32_t lane) {
    auto const window = space.needs_all(lane) ? 0 : space.lane_windows[lane];
    // A window of what follows may begin in what is there.
    return window == 0 ? span.first_token / chunk_tokens
                       : first_needed_chunk(window, span.first_token, chunk_tokens);
  };
  std::uint32_t first = span.first_token / chunk_tokens;
  for (std::uint32_t lane = 0; lane < space.lanes(); ++lane)
    first = std::min(first, first_of(lane));
  for (std::uint32_t chunk = first; chunk * chunk_tokens < limit; ++chunk) {
    auto const chain_key = piece_key(chain, chunk);
    if (!chain_key) break;
    std::uint32_t const end = std::min(chain.token_count(), (chunk + 1) * chunk_tokens);
    for (std::uint32_t lane = 0; lane < space.lanes(); ++lane) {
      if (chunk < first_of(lane)) continue;
      out.push_back({.place = {.chunk = chunk, .end_token = end, .lane = lane},
                     .key = *chain_key ^ space.lane_masks[lane],
                     .coming = {}});
    }
  }
  return out;
}

FetchPlanner::Plan FetchPlanner::look(DramNamespace const& space, KeyChain const& chain,
                                      Span const& span) const {
  Plan plan{.seen = candidates(space, chain, span), .wanted = {}, .unknown = {}};
  std::vector<ChunkKey> keys;
  keys.reserve(plan.seen.size());
  for (auto const& seen : plan.seen) keys.push_back(seen.key);
  // One hold of the directory's lock for the whole prompt; most of what is not in memory is asked
  // of it anyway.
  std::vector<std::optional<DiskPlace>> places(keys.size());
  if (disk_ != nullptr) disk_->find(keys, places);
  std::vector<std::optional<std::uint64_t>> remote(keys.size(), std::uint64_t{0});
  if (remote_ != nullptr) remote_->find(keys, remote);
  auto end_chunk = plan.seen.empty() ? 0 : plan.seen.back().place.chunk + 1;
  bool whole = true;
  for (std::size_t i = 0; i < plan.seen.size(); ++i) {
    auto& seen = plan.seen[i];
    locate(seen, places[i], remote[i].value_or(0));
    if (seen.there) continue;
    if (!remote[i] && plan.unknown.empty()) {
      for (std::size_t j = i; j < keys.size(); ++j) {
        if (!remote[j] && !places[j]) plan.unknown.push_back(keys[j]);
      }
    }
    if (!space.needs_all(seen.place.lane)) continue;
    // Without this lane the chunk is of no use, nor is any after it.
    end_chunk = seen.place.chunk;
    whole = false;
    break;
  }
  fit(plan, {.space = space, .chain = chain, .span = span}, end_chunk);
  if (!whole) add_tail(plan, {.space = space, .chain = chain, .span = span}, end_chunk);
  return plan;
}

void FetchPlanner::locate(Wanted& seen, std::optional<DiskPlace> const& place,
                          std::uint64_t remote_bytes) const {
  auto const found = dram_.find(seen.key);
  seen.there = found.where == DramTier::Whereabouts::kReady;
  if (found.where == DramTier::Whereabouts::kComing) {
    seen.coming = found.ref;
    seen.there = true;
  } else if (found.where == DramTier::Whereabouts::kAbsent && place) {
    seen.size_bytes =
        transfer_bytes(place->slot_bytes, record_bytes(place->payload_bytes, place->valid_tokens));
    seen.there = true;
  } else if (found.where == DramTier::Whereabouts::kAbsent && remote_bytes != 0) {
    seen.size_bytes = remote_bytes;
    seen.remote = true;
    seen.there = true;
  }
}

void FetchPlanner::fit(Plan& plan, Place const& place, std::uint32_t end_chunk) {
  auto const& [space, chain, span] = place;
  auto const chunk_tokens = chain.chunk_tokens();
  auto const limit = std::min(span.limit_tokens, chain.token_count());
  auto const first_chunk = span.first_token / chunk_tokens;
  plan.wanted.clear();
  plan.prefix_tokens = 0;
  auto end = std::min(limit, end_chunk * chunk_tokens);
  if (!space.lane_windows.empty()) {
    end = longest_prefix(space.lane_windows, chunk_tokens, end,
                         [&](std::uint32_t lane, std::uint32_t chunk) {
                           auto const at = std::ranges::find_if(plan.seen, [&](Wanted const& seen) {
                             return seen.place.lane == lane && seen.place.chunk == chunk;
                           });
                           return at != plan.seen.end() && at->there;
                         });
  }
  if (end_chunk <= first_chunk || end <= span.first_token) return;
  for (auto const& seen : plan.seen) {
    auto const [chunk, end_token, lane] = seen.place;
    auto const window = space.needs_all(lane) ? 0 : space.lane_windows[lane];
    bool const before = chunk < first_needed_chunk(window, end, chunk_tokens);
    if (chunk * chunk_tokens < end && seen.there && !before) plan.wanted.push_back(seen);
  }
  if (!plan.wanted.empty()) plan.prefix_tokens = end;
}

std::optional<LoadEstimate> FetchPlanner::estimate(Plan const& plan, Span const& span) const {
  // Of both tiers together, one after the other: `bytes_per_s` is what they have on the whole.
  LoadEstimate out{.prefill_ps_per_token = span.prefill_ps_per_token};
  std::uint64_t remote_bytes = 0;
  bool anything = false;
  for (auto const& wanted : plan.wanted) {
    out.load_bytes += wanted.size_bytes;
    if (wanted.remote) remote_bytes += wanted.size_bytes;
    out.largest_bytes = std::max(out.largest_bytes, wanted.size_bytes);
    anything = anything || wanted.size_bytes != 0 || wanted.coming;
  }
  std::uint32_t const known = std::max(span.first_token, span.computed_tokens);
  if (!anything || plan.prefix_tokens <= known) return std::nullopt;
  out.tokens = plan.prefix_tokens - known;
  double seconds = 0;
  bool measured = out.load_bytes != 0;
  auto const add = [&](std::uint64_t bytes, std::uint64_t queued, std::uint64_t speed) {
    if (bytes == 0) return;
    out.queued_bytes += queued;
    measured = measured && speed != 0;
    seconds += static_cast<double>(bytes) / static_cast<double>(std::max<std::uint64_t>(1, speed));
  };
  if (disk_ != nullptr) {
    add(out.load_bytes - remote_bytes, disk_->queued_read_bytes(), disk_->read_bytes_per_s());
  }
  if (remote_ != nullptr) {
    add(remote_bytes, remote_->queued_read_bytes(), remote_->read_bytes_per_s());
    std::chrono::nanoseconds const longest = remote_->longest_read() + kGrace;
    if (remote_bytes != 0) out.longest_ns = static_cast<std::uint64_t>(longest.count());
  }
  if (measured) {
    out.bytes_per_s = static_cast<std::uint64_t>(
        std::max(1.0, static_cast<double>(out.load_bytes) / std::max(1e-9, seconds)));
  }
  return out;
}

// All of it, or what comes before the first chunk of the remote. Nothing: neither is worth it.
std::optional<LoadEstimate> FetchPlanner::choose(Plan& plan, Place const& place) const {
  auto const all = estimate(plan, place.span);
  if (!all || all->worth_it()) return all;
  auto const remote = std::ranges::find_if(plan.wanted, &Wanted::remote);
  if (remote != plan.wanted.end()) {
    remote_->doubt_speed();
    fit(plan, place, remote->place.chunk);
  }
  count(dram_.counters().loads_declined);
  if (disk_ != nullptr) disk_->doubt_speed();
  auto const near = estimate(plan, place.span);
  return near && near->worth_it() ? near : std::nullopt;
}

std::uint32_t FetchPlanner::reach(DramNamespace const& space, KeyChain const& chain,
                                  Span const& span) const {
  auto plan = look(space, chain, span);
  // After the first round chunks are known or nobody answers.
  for (int round = 0; round < kMostRounds && !plan.unknown.empty(); ++round) {
    if (round > 0 && plan.unknown.size() != plan.guesses) break;
    // Shared: an answer that comes late finds nobody waiting.
    auto const answered = std::make_shared<std::promise<void>>();
    auto heard = answered->get_future();
    remote_->ask(std::move(plan.unknown), [answered] { answered->set_value(); });
    (void)heard.wait_for(kLongestAsk);
    plan = look(space, chain, span);
  }
  auto const load = estimate(plan, span);
  // No estimate: all of it is in memory by now, or nothing follows.
  bool const taken = !load || load->worth_it();
  return taken ? std::max(span.first_token, plan.prefix_tokens) : span.first_token;
}

std::shared_ptr<FetchState> FetchPlanner::start(DramNamespace& space, KeyChain const& chain,
                                                Span const& span) {
  auto plan = look(space, chain, span);
  if (!plan.unknown.empty()) return ask(space, chain, span, plan);
  auto const load = choose(plan, {.space = space, .chain = chain, .span = span});
  if (!load) return nullptr;
  auto reserved = reserve(space, chain, plan);
  if (reserved.pieces.empty() && reserved.coming.empty()) return nullptr;
  bool const remote = std::ranges::any_of(reserved.pieces, &FetchState::Piece::remote);
  auto state = std::make_shared<FetchState>(dram_, clock_, *load,
                                            std::min(reserved.reached, plan.prefix_tokens),
                                            on_slow(remote), on_remote_);
  read(state, std::move(reserved));
  return state;
}

// Goes on by itself when the remote has answered, on its thread.
std::shared_ptr<FetchState> FetchPlanner::ask(DramNamespace& space, KeyChain const& chain,
                                              Span const& span, Plan const& plan) {
  count(dram_.counters().remote_lookups);
  std::uint32_t const known = std::max(span.first_token, span.computed_tokens);
  LoadEstimate const patience{.tokens = span.limit_tokens - std::min(known, span.limit_tokens),
                              .prefill_ps_per_token = span.prefill_ps_per_token};
  auto state = std::make_shared<FetchState>(dram_, clock_, patience, span.first_token,
                                            FetchState::OnSlow{}, on_remote_);
  state->begin_asking();
  ask_round(std::make_shared<Asking const>(state, space, chain, span), plan, kMostRounds);
  return state;
}

void FetchPlanner::ask_round(std::shared_ptr<Asking const> const& asking, Plan const& wanted,
                             int rounds) {
  auto const& keys = wanted.unknown;
  remote_->ask(keys, [this, asking, keys, guesses = wanted.guesses, rounds] {
    auto const& [state, space, chain, span] = *asking;
    std::vector<std::optional<std::uint64_t>> answers(keys.size());
    remote_->find(keys, answers);
    auto const found = [](auto const& some) {
      return static_cast<std::uint64_t>(
          std::ranges::count_if(some, [](auto const& it) { return it.value_or(0) != 0; }));
    };
    auto& counters = dram_.counters();
    // A guess that was wrong is no miss.
    count(counters.remote_lookup_chunks,
          keys.size() - guesses + found(std::span{answers}.last(guesses)));
    count(counters.remote_found_chunks, found(answers));
    if (!state->still_wanted()) return state->nothing();
    auto plan = look(space, chain, span);
    bool const answered = std::ranges::all_of(answers, &std::optional<std::uint64_t>::has_value);
    if (!plan.unknown.empty() && answered && rounds > 1) return ask_round(asking, plan, rounds - 1);
    auto const load = choose(plan, {.space = space, .chain = chain, .span = span});
    if (!load) return state->nothing();
    auto reserved = reserve(space, chain, plan);
    bool const remote = std::ranges::any_of(reserved.pieces, &FetchState::Piece::remote);
    state->plan(*load, std::min(reserved.reached, plan.prefix_tokens), on_slow(remote));
    read(state, std::move(reserved));
  });
}

FetchState::OnSlow FetchPlanner::on_slow(bool remote) const {
  return [this, remote](std::uint64_t arrived_bytes, std::uint64_t elapsed_ns) {
    if (remote) return remote_->report_slow(arrived_bytes, elapsed_ns);
    if (disk_ != nullptr) disk_->report_slow(arrived_bytes, elapsed_ns);
  };
}

FetchPlanner::Reserved FetchPlanner::reserve(DramNamespace& space, KeyChain const& chain,
                                             Plan const& plan) {
  Reserved out;
  for (auto const& wanted : plan.wanted) {
    out.reached = wanted.place.end_token;
    if (wanted.coming) out.coming.push_back(wanted.coming);
    if (wanted.size_bytes == 0) continue;
    auto reserved = dram_.reserve_fetch(space, chain, wanted.place);
    if (!reserved) {
      // Somebody else was quicker: theirs is awaited. Or there is no room: what comes before helps.
      auto const found = dram_.find(wanted.key);
      if (found.where == DramTier::Whereabouts::kComing) out.coming.push_back(found.ref);
      if (found.where == DramTier::Whereabouts::kComing ||
          found.where == DramTier::Whereabouts::kReady) {
        continue;
      }
      out.reached = wanted.place.chunk * chain.chunk_tokens();
      break;
    }
    auto const slot = dram_.begin_write(reserved.value());
    if (!slot || slot->slot_bytes < wanted.size_bytes) {
      slot ? dram_.abandon(reserved.value()) : dram_.withdraw(reserved.value());
      out.reached = wanted.place.chunk * chain.chunk_tokens();
      break;
    }
    out.pieces.push_back({.ref = reserved.value(),
                          .key = wanted.key,
                          .slot = *slot,
                          .size_bytes = wanted.size_bytes,
                          .remote = wanted.remote});
  }
  return out;
}

void FetchPlanner::read(std::shared_ptr<FetchState> const& state, Reserved reserved) {
  std::vector<DiskRead> from_disk;
  std::vector<std::uint32_t> disk_pieces;
  std::vector<RemoteGet> from_remote;
  std::vector<std::uint64_t> sizes;
  std::vector<std::uint32_t> remote_pieces;
  for (std::uint32_t i = 0; i < reserved.pieces.size(); ++i) {
    auto const& piece = reserved.pieces[i];
    if (piece.remote) {
      from_remote.push_back(
          {.key = piece.key, .slot = piece.slot.record, .slot_bytes = piece.slot.slot_bytes});
      sizes.push_back(piece.size_bytes);
      remote_pieces.push_back(i);
    } else {
      from_disk.push_back(
          {.key = piece.key, .slot = piece.slot.record, .slot_bytes = piece.slot.slot_bytes});
      disk_pieces.push_back(i);
    }
  }
  state->expect(std::move(reserved.pieces), std::move(reserved.coming));
  if (!from_disk.empty()) {
    disk_->read(std::move(from_disk),
                [state, numbers = std::move(disk_pieces)](std::uint32_t item, TierOutcome outcome) {
                  state->arrived(numbers[item], outcome);
                });
  }
  if (!from_remote.empty()) {
    remote_->read(
        std::move(from_remote), sizes,
        [state, numbers = std::move(remote_pieces)](std::uint32_t item, TierOutcome outcome) {
          state->arrived(numbers[item], outcome);
        });
  }
}

}  // namespace lmcache
