// SPDX-License-Identifier: Apache-2.0
#include <lmcache/index/removal_table.hpp>

#include <algorithm>

namespace lmcache {

RemovalTable::RemovalTable(std::span<std::byte> region) noexcept
    : sets_{reinterpret_cast<Set*>(region.data()), kSets} {}

void RemovalTable::note(ChunkKey const& key, Removal removal) const noexcept {
  std::uint64_t const prefix = key.prefix64();
  auto& set = set_of(prefix);
  auto* place = std::ranges::find_if(
      set, [&](Place const& it) { return it.key.load(std::memory_order_relaxed) == prefix; });
  if (place == set.end()) {
    place = std::ranges::min_element(
        set, {}, [](Place const& it) { return it.removal.load(std::memory_order_relaxed); });
  }
  // Invalid while it changes. Pairs with the loads in find().
  place->removal.store(0, std::memory_order_release);
  place->key.store(prefix, std::memory_order_release);
  place->removal.store(
      (std::uint64_t{removal.unix_s} << 8) | static_cast<std::uint64_t>(removal.reason),
      std::memory_order_release);
}

std::optional<Removal> RemovalTable::find(ChunkKey const& key) const noexcept {
  std::uint64_t const prefix = key.prefix64();
  for (auto const& place : set_of(prefix)) {
    std::uint64_t const before = place.removal.load(std::memory_order_acquire);
    if (before == 0 || place.key.load(std::memory_order_acquire) != prefix) continue;
    if (place.removal.load(std::memory_order_acquire) != before) continue;
    return Removal{.unix_s = static_cast<std::uint32_t>(before >> 8),
                   .reason = static_cast<RemovalReason>(before & 0xff)};
  }
  return std::nullopt;
}

}  // namespace lmcache
