// SPDX-License-Identifier: Apache-2.0
// Takes back what processes left behind in a directory.
#include <unistd.h>

#include <utility>

#include <lmcache/tier/disk/disk_directory.hpp>

namespace lmcache {

// The process is dead, or it is us and we are leaving.
void DiskDirectory::reclaim(std::uint32_t process, SlabTask& orphans) {
  std::uint64_t const bit = std::uint64_t{1} << process;
  auto& space = state_.space;
  for (std::uint32_t index = 0; index < space.entry_limit; ++index) {
    auto& entry = state_.entries[index];
    if (entry.state == DiskState::kNoSlot) continue;
    entry.readers &= ~bit;
    // Its record on disk was freed before the slot was touched.
    if (entry.state == DiskState::kWriting && entry.writer == process) state_.free_entry(index);
    if (entry.state == DiskState::kDropped && entry.writer == process) {
      entry.writer = static_cast<std::uint8_t>(state_.process);
      orphans.dropped.push_back(index);
    }
  }
  for (std::uint32_t slab = 0; slab < space.slab_limit; ++slab) {
    auto& record = state_.slabs[slab];
    if (record.state != SlabState::kPreparing || record.owner != process) continue;
    record.owner = static_cast<std::uint8_t>(state_.process);
    orphans.emptied.push_back({.slab = slab, .folder = record.folder});
  }
  state_.processes.release(process);
}

bool DiskDirectory::others_live() const noexcept {
  for (std::uint32_t process = 0; process < kMaxProcesses; ++process) {
    if (state_.processes.alive(process)) return true;
  }
  return false;
}

SlabTask DiskDirectory::reap() {
  SlabTask orphans = std::exchange(orphans_, {});
  for (std::uint32_t process = 0; process < kMaxProcesses; ++process) {
    if (process == state_.process || !state_.processes.attached(process) ||
        state_.processes.alive(process)) {
      continue;
    }
    auto const guard = lock();
    if (!guard) break;
    // Somebody else may have been quicker, and the record be in use again.
    if (!state_.processes.attached(process) || state_.processes.alive(process)) continue;
    reclaim(process, orphans);
  }
  return orphans;
}

}  // namespace lmcache
