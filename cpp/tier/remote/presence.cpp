// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/remote/presence.hpp>

#include <algorithm>
#include <vector>

namespace lmcache {

void Presence::find(std::span<ChunkKey const> keys,
                    std::span<std::optional<std::uint64_t>> out) const {
  auto const now = clock_.monotonic_ns();
  std::lock_guard const lock{mutex_};
  for (std::size_t i = 0; i < keys.size(); ++i) {
    auto const found = answers_.find(keys[i]);
    bool const known = found != answers_.end() && now < found->second.until_ns;
    out[i] = known ? std::optional{found->second.size_bytes} : std::nullopt;
  }
}

void Presence::remember(std::span<ChunkKey const> keys, std::span<std::uint64_t const> sizes) {
  auto const until = clock_.monotonic_ns() + keep_ns_;
  std::lock_guard const lock{mutex_};
  if (answers_.size() + keys.size() > kMost) make_room();
  for (std::size_t i = 0; i < keys.size(); ++i) {
    answers_.insert_or_assign(keys[i], Answer{.size_bytes = sizes[i], .until_ns = until});
  }
}

void Presence::correct(ChunkKey const& key, std::uint64_t size_bytes) {
  remember({&key, 1}, {&size_bytes, 1});
}

void Presence::forget_all() {
  std::lock_guard const lock{mutex_};
  answers_.clear();
}

void Presence::make_room() {
  std::vector<std::int64_t> ends;
  ends.reserve(answers_.size());
  for (auto const& [key, answer] : answers_) ends.push_back(answer.until_ns);
  if (ends.empty()) return;
  auto const middle = ends.begin() + static_cast<std::ptrdiff_t>(ends.size() / 2);
  std::ranges::nth_element(ends, middle);
  std::erase_if(answers_, [&](auto const& it) { return it.second.until_ns <= *middle; });
}

}  // namespace lmcache
