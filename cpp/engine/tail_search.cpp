// SPDX-License-Identifier: Apache-2.0
// The chunk where a prefix ends may be there as the tail of a prompt that this one continues, as
// each turn of a conversation does. Its key is that of fewer tokens, and nobody knows how many: all
// are looked for, a look into the disk's directory each.
#include <algorithm>
#include <iterator>
#include <ranges>
#include <utility>

#include <lmcache/engine/fetch_planner.hpp>
#include <lmcache/layout/kv_geometry.hpp>

namespace lmcache {
namespace {

// That a remote is asked for at once; it is asked only where that is cheap.
constexpr std::uint32_t kMostGuesses = 512;

}  // namespace

void FetchPlanner::add_tail(Plan& plan, Place const& where, std::uint32_t chunk) const {
  auto const& [space, chain, span] = where;
  std::uint32_t const first = chunk * chain.chunk_tokens();
  // All of the prompt's piece was looked for before: what is shorter is left.
  std::uint32_t const piece_end = std::min(chain.token_count(), first + chain.chunk_tokens());
  std::uint32_t const end = std::min(span.limit_tokens, piece_end - 1);
  std::uint32_t const known = std::max(first, span.first_token);
  bool const reached = plan.prefix_tokens == first || span.first_token >= first;
  // A state is that after the last token of a chunk.
  bool const states =
      std::ranges::find(space.lane_windows, kStateWindow) != space.lane_windows.end();
  if (states || !reached || end <= known) return;
  // Of a prompt of which nothing is there, a remote has no tail as a rule.
  bool const ask =
      remote_ != nullptr && remote_->asks_are_cheap() && chunk != 0 && end - known <= kMostGuesses;
  if (disk_ == nullptr && !ask) return;
  auto const keys = chain.tail_keys(chunk, end);
  if (!keys) return;
  std::vector<Wanted> tails;
  for (std::uint32_t i = known - first; i < keys.value().size(); ++i) {
    tails.push_back({.place = {.chunk = chunk, .end_token = first + i + 1, .lane = 0},
                     .key = keys.value()[i] ^ space.lane_masks.front(),
                     .coming = {}});
  }
  locate_tails(tails, ask, plan);
  for (auto const& tail : tails | std::views::reverse) {
    if (!tail.there) continue;
    std::vector<Wanted> lanes;
    auto const chain_key = tail.key ^ space.lane_masks.front();
    for (auto place = tail.place; place.lane < space.lanes(); ++place.lane) {
      lanes.push_back(
          {.place = place, .key = chain_key ^ space.lane_masks[place.lane], .coming = {}});
    }
    locate_tails(lanes, ask, plan);
    if (!std::ranges::all_of(lanes, &Wanted::there)) continue;
    plan.prefix_tokens = tail.place.end_token;
    std::ranges::move(lanes, std::back_inserter(plan.wanted));
    return;
  }
}

void FetchPlanner::locate_tails(std::span<Wanted> tails, bool ask, Plan& plan) const {
  std::vector<ChunkKey> keys;
  for (auto const& tail : tails) keys.push_back(tail.key);
  std::vector<std::optional<DiskPlace>> places(keys.size());
  if (disk_ != nullptr) disk_->find(keys, places);
  std::vector<std::optional<std::uint64_t>> remote(keys.size(), std::uint64_t{0});
  if (ask) remote_->find(keys, remote);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    locate(tails[i], places[i], remote[i].value_or(0));
    if (tails[i].there || remote[i]) continue;
    plan.unknown.push_back(keys[i]);
    ++plan.guesses;
  }
}

}  // namespace lmcache
