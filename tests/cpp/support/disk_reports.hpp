// SPDX-License-Identifier: Apache-2.0
// What a process that writes chunks tells the test that will kill it.
#pragma once

#include <cstdint>
#include <vector>

#include <lmcache/tier/disk/disk_tier.hpp>

#include "support/disk_scene.hpp"

namespace lmcache::test {

struct DiskReport {
  enum class Kind : std::uint32_t { kOpened, kCommitted, kEvicted };
  Kind kind;
  std::uint32_t seed;
};

inline constexpr std::uint32_t kKillSeeds = 400;

// Two sizes: one that goes around the page cache, one that goes through it.
[[nodiscard]] inline DiskShape kill_shape(std::uint64_t limit_bytes) {
  return {.limit_bytes = limit_bytes, .sizes = {70'000, 9'000}};
}

[[nodiscard]] inline DiskOptions kill_options(std::string const& root, std::uint64_t limit_bytes) {
  DiskOptions out;
  out.volume.folders = {root + "/d0", root + "/d1"};
  out.volume.limit_bytes = limit_bytes;
  out.volume.memory_folder = root;
  out.checkpoint_every = std::chrono::milliseconds{3};
  return out;
}

}  // namespace lmcache::test
