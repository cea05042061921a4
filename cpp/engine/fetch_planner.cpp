// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/fetch_planner.hpp>

#include <algorithm>
#include <optional>
#include <utility>

#include <lmcache/index/chunk_record.hpp>

namespace lmcache {
namespace {

// The key of a piece of a prompt: a whole chunk, or the tail that this very prompt leaves.
std::optional<ChunkKey> piece_key(KeyChain const& chain, std::uint32_t chunk) {
  if (chunk < chain.chunk_count()) return chain.keys()[chunk];
  auto const key = chain.tail_key(chunk, chain.token_count());
  if (!key) return std::nullopt;
  return key.value();
}

}  // namespace

FetchPlanner::Plan FetchPlanner::look(DramNamespace const& space, KeyChain const& chain,
                                      Span const& span) const {
  Plan plan;
  std::uint32_t const chunk_tokens = chain.chunk_tokens();
  std::uint32_t const limit = std::min(span.limit_tokens, chain.token_count());
  std::vector<ChunkKey> keys;
  std::vector<std::size_t> asked;  // which of `wanted` a key belongs to
  for (std::uint32_t chunk = span.first_token / chunk_tokens; chunk * chunk_tokens < limit;
       ++chunk) {
    auto const chain_key = piece_key(chain, chunk);
    if (!chain_key) break;
    std::uint32_t const end = std::min(chain.token_count(), (chunk + 1) * chunk_tokens);
    for (std::uint32_t lane = 0; lane < space.lanes(); ++lane) {
      Wanted wanted{.place = {.chunk = chunk, .end_token = end, .lane = lane},
                    .key = *chain_key ^ space.lane_masks[lane],
                    .coming = {}};
      asked.push_back(plan.wanted.size());
      keys.push_back(wanted.key);
      plan.wanted.push_back(wanted);
    }
  }
  // One hold of the directory's lock for the whole prompt; most of what is not in memory is asked
  // of it anyway.
  std::vector<std::optional<DiskPlace>> places(keys.size());
  disk_.find(keys, places);
  for (std::size_t i = 0; i < plan.wanted.size(); ++i) {
    auto& wanted = plan.wanted[i];
    auto const found = dram_.find(wanted.key);
    bool there = found.where == DramTier::Whereabouts::kReady;
    if (found.where == DramTier::Whereabouts::kComing) {
      wanted.coming = found.ref;
      there = true;
    } else if (found.where == DramTier::Whereabouts::kAbsent && places[i]) {
      wanted.size_bytes = transfer_bytes(
          places[i]->slot_bytes, record_bytes(places[i]->payload_bytes, places[i]->valid_tokens));
      there = true;
    }
    if (!there) {
      // Without one lane the chunk is of no use, nor is any after it.
      plan.wanted.resize(i - wanted.place.lane);
      break;
    }
  }
  if (!plan.wanted.empty()) {
    plan.prefix_tokens = std::min(limit, plan.wanted.back().place.end_token);
  }
  return plan;
}

std::optional<LoadEstimate> FetchPlanner::estimate(Plan const& plan, Span const& span) const {
  LoadEstimate out{.queued_bytes = disk_.queued_read_bytes(),
                   .bytes_per_s = disk_.read_bytes_per_s(),
                   .prefill_ps_per_token = span.prefill_ps_per_token};
  bool anything = false;
  for (auto const& wanted : plan.wanted) {
    out.load_bytes += wanted.size_bytes;
    out.largest_bytes = std::max(out.largest_bytes, wanted.size_bytes);
    anything = anything || wanted.size_bytes != 0 || wanted.coming;
  }
  std::uint32_t const known = std::max(span.first_token, span.computed_tokens);
  if (!anything || plan.prefix_tokens <= known) return std::nullopt;
  out.tokens = plan.prefix_tokens - known;
  return out;
}

std::uint32_t FetchPlanner::reach(DramNamespace const& space, KeyChain const& chain,
                                  Span const& span) const {
  auto const plan = look(space, chain, span);
  auto const load = estimate(plan, span);
  // No estimate: all of it is in memory by now, or nothing follows.
  bool const taken = !load || load->worth_it();
  return taken ? std::max(span.first_token, plan.prefix_tokens) : span.first_token;
}

std::shared_ptr<FetchState> FetchPlanner::start(DramNamespace& space, KeyChain const& chain,
                                                Span const& span) {
  auto const plan = look(space, chain, span);
  auto const load = estimate(plan, span);
  if (!load) return nullptr;
  if (!load->worth_it()) {
    count(dram_.counters().loads_declined);
    disk_.doubt_speed();
    return nullptr;
  }
  return reserve(space, chain, plan, *load);
}

std::shared_ptr<FetchState> FetchPlanner::reserve(DramNamespace& space, KeyChain const& chain,
                                                  Plan const& plan, LoadEstimate const& estimate) {
  std::vector<FetchState::Piece> pieces;
  std::vector<ChunkRef> coming;
  std::uint32_t reached = 0;
  for (auto const& wanted : plan.wanted) {
    reached = wanted.place.end_token;
    if (wanted.coming) coming.push_back(wanted.coming);
    if (wanted.size_bytes == 0) continue;
    auto reserved = dram_.reserve_fetch(space, chain, wanted.place);
    if (!reserved) {
      // Somebody else was quicker: theirs is awaited. Or there is no room: what comes before helps.
      auto const found = dram_.find(wanted.key);
      if (found.where == DramTier::Whereabouts::kComing) coming.push_back(found.ref);
      if (found.where == DramTier::Whereabouts::kComing ||
          found.where == DramTier::Whereabouts::kReady) {
        continue;
      }
      reached = wanted.place.chunk * chain.chunk_tokens();
      break;
    }
    auto const slot = dram_.begin_write(reserved.value());
    if (!slot || slot->slot_bytes < wanted.size_bytes) {
      slot ? dram_.abandon(reserved.value()) : dram_.withdraw(reserved.value());
      reached = wanted.place.chunk * chain.chunk_tokens();
      break;
    }
    pieces.push_back({.ref = reserved.value(),
                      .key = wanted.key,
                      .slot = *slot,
                      .size_bytes = wanted.size_bytes});
  }
  if (pieces.empty() && coming.empty()) return nullptr;
  auto state = std::make_shared<FetchState>(
      dram_, clock_, estimate, std::min(reached, plan.prefix_tokens),
      [&disk = disk_](std::uint64_t arrived_bytes, std::uint64_t elapsed_ns) {
        disk.report_slow(arrived_bytes, elapsed_ns);
      });
  std::vector<DiskRead> reads;
  reads.reserve(pieces.size());
  for (auto const& piece : pieces) {
    reads.push_back(
        {.key = piece.key, .slot = piece.slot.record, .slot_bytes = piece.slot.slot_bytes});
  }
  state->expect(std::move(pieces), std::move(coming));
  if (!reads.empty()) {
    disk_.read(std::move(reads), [state](std::uint32_t piece, DiskOutcome outcome) {
      state->arrived(piece, outcome);
    });
  }
  return state;
}

}  // namespace lmcache
