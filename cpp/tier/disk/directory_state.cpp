// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/disk/directory_state.hpp>

#include <string>

namespace lmcache {

DirectoryState::DirectoryState(Segment& mapped)
    : segment{mapped},
      processes{mapped.region(Region::kProcesses), mapped.fd()},
      slabs{mapped.region_of<SlabRecord>(Region::kExtents).first(kMaxSlabs)},
      buckets{mapped.region_of<std::uint32_t>(Region::kBuckets)},
      entries{mapped.region_of<DiskEntry>(Region::kEntries)},
      recency{mapped.region(Region::kRecency)},
      space{*reinterpret_cast<DirectorySpace*>(mapped.region(Region::kSpace).data())} {}

Result<RobustGuard> DirectoryState::lock(std::chrono::milliseconds timeout) {
  auto& mutex = segment.header().space_lock;
  LMC_TRY_ASSIGN(auto const found, mutex.lock(timeout));
  RobustGuard guard{mutex};
  if (found == LockState::kOwnerDied) {
    rebuild_directory(*this);
    space.repaired.fetch_add(1, std::memory_order_relaxed);
    mutex.mark_consistent();
  }
  return guard;
}

std::uint32_t DirectoryState::find(ChunkKey const& key) const noexcept {
  std::uint32_t at = buckets[key.prefix64() & (buckets.size() - 1)];
  while (at != kNoRecord && entries[at].key != key) at = entries[at].hash_next;
  return at;
}

void DirectoryState::link(std::uint32_t index) const noexcept {
  auto& head = buckets[entries[index].key.prefix64() & (buckets.size() - 1)];
  entries[index].hash_next = head;
  head = index;
}

void DirectoryState::unlink(std::uint32_t index) const noexcept {
  auto* at = &buckets[entries[index].key.prefix64() & (buckets.size() - 1)];
  while (*at != kNoRecord && *at != index) at = &entries[*at].hash_next;
  if (*at == index) *at = entries[index].hash_next;
}

void DirectoryState::retire_entry(std::uint32_t index) const noexcept {
  auto& entry = entries[index];
  entry.writer = static_cast<std::uint8_t>(process);
  std::atomic_signal_fence(std::memory_order_release);
  entry.state = DiskState::kWriting;
  recency.remove(class_of(entry).used, index);
  space.used_bytes.fetch_sub(entry.payload_bytes, std::memory_order_relaxed);
  space.chunks.fetch_sub(1, std::memory_order_relaxed);
}

void DirectoryState::free_entry(std::uint32_t index) const noexcept {
  auto& entry = entries[index];
  auto& disk_class = class_of(entry);
  bool const ready = entry.state == DiskState::kReady;
  // First: whoever dies after it leaves an entry that counts as free.
  entry.state = DiskState::kFree;
  unlink(index);
  if (ready) {
    recency.remove(disk_class.used, index);
    space.used_bytes.fetch_sub(entry.payload_bytes, std::memory_order_relaxed);
    space.chunks.fetch_sub(1, std::memory_order_relaxed);
  }
  entry.readers = 0;
  recency.push_front(disk_class.free, index);
  --slabs[entry.slab].live;
}

Result<std::uint16_t> DirectoryState::class_for(std::uint64_t slot_bytes) const {
  for (std::uint16_t id = 1; id <= space.class_count; ++id) {
    if (space.classes[id].slot_bytes == slot_bytes) return id;
  }
  if (space.class_count == kMaxDiskClasses) {
    return Error{
        ErrorCode::kInvalidArgument,
        "the disk cache holds " + std::to_string(kMaxDiskClasses) + " chunk sizes already"};
  }
  auto const id = static_cast<std::uint16_t>(space.class_count + 1);
  auto& fresh = space.classes[id];
  fresh.slot_bytes = slot_bytes;
  fresh.free.clear();
  fresh.used.clear();
  fresh.open_slab.fill(kNoSlab);
  fresh.next_folder = 0;
  // Last: whoever rebuilds after our death trusts the classes that are counted.
  std::atomic_signal_fence(std::memory_order_release);
  space.class_count = id;
  return id;
}

}  // namespace lmcache
