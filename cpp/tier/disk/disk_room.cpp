// SPDX-License-Identifier: Apache-2.0
// Room for a chunk on disk: a slot that is free, one of a slab that was not filled yet, a new slab
// while the limit allows it, one that another size no longer needs, or that of the chunk that was
// not used for longest.
#include <algorithm>
#include <string>
#include <utility>

#include <lmcache/tier/disk/disk_directory.hpp>

namespace lmcache {
namespace {

// Entries are backed with memory in steps of this many (512 KiB).
constexpr std::uint32_t kEntryStep = 4096;
// How many candidates that are being read an eviction looks past.
constexpr int kMaxRefusals = 64;

}  // namespace

Result<DiskDirectory::Allocation> DiskDirectory::allocate(ChunkKey const& key,
                                                          std::uint64_t slot_bytes) {
  LMC_TRY_ASSIGN(auto const guard, lock());
  auto& space = state_.space;
  if (slot_bytes > space.limit_bytes - std::min(space.limit_bytes, space.fixed_bytes)) {
    return Error{ErrorCode::kInvalidArgument, "a chunk of " + std::to_string(slot_bytes) +
                                                  " bytes is larger than the disk cache"};
  }
  if (std::uint32_t const other = state_.find(key); other != kNoRecord) {
    auto const& entry = state_.entries[other];
    bool const replaceable = entry.state == DiskState::kReady && entry.readers == 0 &&
                             entry.expires_unix_s != 0 &&
                             entry.expires_unix_s <= clock_.unix_seconds();
    if (!replaceable) return Error{ErrorCode::kCancelled, "the chunk is on disk already"};
    state_.free_entry(other);
  }
  LMC_TRY_ASSIGN(auto const id, state_.class_for(slot_bytes));
  auto& disk_class = space.classes[id];
  WriteGrant grant;
  auto index = slot_in(disk_class, disk_class.next_folder);
  if (!index && entries_left() && slab_bytes_for(slot_bytes, {}) != 0) {
    SlabTask task;
    start_slab(id, task);
    if (task.slab != kNoSlab) return Allocation{std::move(task)};
  }
  if (!index) index = slot_anywhere(id);
  if (!index) {
    if (auto task = plan_slab(id)) return Allocation{std::move(*task)};
    index = evict(disk_class);
    if (!index) return Error{ErrorCode::kOutOfMemory, "every chunk that could make room is in use"};
    grant.evicted = state_.entries[*index].key;
    state_.free_entry(*index);
    state_.recency.remove(disk_class.free, *index);
  }
  auto& entry = state_.entries[*index];
  entry.key = key;
  entry.readers = 0;
  entry.sequence = ++space.next_sequence;
  entry.writer = static_cast<std::uint8_t>(state_.process);
  entry.payload_bytes = 0;
  std::atomic_signal_fence(std::memory_order_release);
  entry.state = DiskState::kWriting;
  state_.link(*index);
  ++state_.slabs[entry.slab].live;
  grant.place = place_of(*index);
  return Allocation{std::move(grant)};
}

// In no list when it is returned. In turn, so that neighbours in a prompt are read from different
// drives.
std::optional<std::uint32_t> DiskDirectory::slot_in(DiskClass& disk_class, std::uint32_t folder) {
  if (std::uint32_t const entry = disk_class.free.back; entry != kNoNode) {
    state_.recency.remove(disk_class.free, entry);
    return entry;
  }
  std::uint32_t& slab = disk_class.open_slab[folder];
  if (slab == kNoSlab) return std::nullopt;
  auto const entry = bump(slab);
  if (entry) {
    disk_class.next_folder = (folder + 1) % state_.space.folder_count;
  } else {
    slab = kNoSlab;
  }
  return entry;
}

std::optional<std::uint32_t> DiskDirectory::slot_anywhere(std::uint16_t id) {
  auto& disk_class = state_.space.classes[id];
  for (std::uint32_t folder = 0; folder < state_.space.folder_count; ++folder) {
    if (auto const entry = slot_in(disk_class, folder)) return entry;
  }
  // Two processes may have made a slab each, and only the later became the open one.
  std::uint32_t const slab = unfilled_slab(id);
  if (slab == kNoSlab) return std::nullopt;
  std::uint32_t const folder = state_.slabs[slab].folder;
  disk_class.open_slab[folder] = slab;
  return slot_in(disk_class, folder);
}

std::uint32_t DiskDirectory::unfilled_slab(std::uint16_t id) const noexcept {
  for (std::uint32_t slab = 0; slab < state_.space.slab_limit; ++slab) {
    auto const& record = state_.slabs[slab];
    bool const ours = record.state == SlabState::kReady && record.disk_class == id;
    if (ours && record.bound < record.slots) return slab;
  }
  return kNoSlab;
}

std::optional<std::uint32_t> DiskDirectory::bump(std::uint32_t slab_number) {
  auto& slab = state_.slabs[slab_number];
  if (slab.bound == slab.slots) return std::nullopt;
  auto const index = unbound_entry();
  if (!index) return std::nullopt;
  auto& entry = state_.entries[*index];
  entry.slab = slab_number;
  entry.offset = slab.bound * slab.slot_bytes;
  entry.slab_next = slab.first_entry;
  entry.sequence = 0;
  std::atomic_signal_fence(std::memory_order_release);
  entry.state = DiskState::kFree;
  slab.first_entry = *index;
  ++slab.bound;
  return index;
}

std::optional<std::uint32_t> DiskDirectory::unbound_entry() {
  auto& space = state_.space;
  if (std::uint32_t const entry = space.unbound.front; entry != kNoNode) {
    state_.recency.remove(space.unbound, entry);
    return entry;
  }
  auto const capacity = static_cast<std::uint32_t>(state_.entries.size());
  if (space.entry_limit == capacity) return std::nullopt;
  if (space.entry_limit == space.backed_entries) {
    std::uint64_t const first = space.entry_limit;
    std::uint32_t const step = std::min(kEntryStep, capacity - space.entry_limit);
    if (!segment_->reserve_region(Region::kEntries, first * sizeof(DiskEntry),
                                  step * sizeof(DiskEntry)) ||
        !segment_->reserve_region(Region::kRecency, first * sizeof(RecencyNode),
                                  step * sizeof(RecencyNode))) {
      return std::nullopt;
    }
    space.backed_entries += step;
  }
  return space.entry_limit++;
}

// Still in the list of the used.
std::optional<std::uint32_t> DiskDirectory::evict(DiskClass& disk_class) {
  std::uint32_t at = disk_class.used.back;
  for (int refused = 0; at != kNoNode && refused < kMaxRefusals; ++refused) {
    if (state_.entries[at].readers == 0) return at;
    at = state_.recency.at(at).previous;
  }
  return std::nullopt;
}

std::uint64_t DiskDirectory::slab_bytes_for(std::uint64_t slot_bytes, SlabTask const& task) const {
  auto const& space = state_.space;
  std::uint64_t taken = space.fixed_bytes + space.slab_bytes;
  for (auto const& emptied : task.emptied) taken -= state_.slabs[emptied.slab].size_bytes;
  std::uint64_t const room = space.limit_bytes - std::min(space.limit_bytes, taken);
  std::uint64_t const target = std::max(space.slab_target_bytes, slot_bytes);
  return std::min(room, target) / slot_bytes * slot_bytes;
}

std::optional<SlabTask> DiskDirectory::plan_slab(std::uint16_t id) {
  auto const& disk_class = state_.space.classes[id];
  SlabTask task;
  auto const room = [&] {
    return entries_left() && slab_bytes_for(disk_class.slot_bytes, task) != 0;
  };
  // Several small slabs of another size may be needed for one of ours.
  while (!room()) {
    auto const slab = slab_to_take(id);
    if (!slab) break;
    empty_slab(*slab, task);
    if (!task.dropped.empty() && !entries_left()) break;  // they are there when the task is done
  }
  if (room()) start_slab(id, task);
  if (task.slab == kNoSlab && task.emptied.empty()) return std::nullopt;
  return task;
}

bool DiskDirectory::entries_left() const noexcept {
  return state_.space.unbound.front != kNoNode || state_.space.entry_limit < state_.entries.size();
}

bool DiskDirectory::is_idle(std::uint32_t slab) const {
  for (std::uint32_t at = state_.slabs[slab].first_entry; at != kNoRecord;
       at = state_.entries[at].slab_next) {
    auto const& entry = state_.entries[at];
    if (entry.state == DiskState::kWriting || entry.readers != 0) return false;
  }
  return true;
}

// A slab of another size: an empty one, else that of the chunk that was used longest ago, if that
// is a full turn over all chunks longer than for any of ours, or we have nothing to evict.
std::optional<std::uint32_t> DiskDirectory::slab_to_take(std::uint16_t for_class) const {
  auto const& space = state_.space;
  for (std::uint32_t slab = 0; slab < space.slab_limit; ++slab) {
    auto const& record = state_.slabs[slab];
    if (record.state == SlabState::kReady && record.live == 0 && record.disk_class != for_class) {
      return slab;
    }
  }
  std::uint32_t oldest = kNoRecord;
  for (std::uint32_t id = 1; id <= space.class_count; ++id) {
    std::uint32_t const candidate = space.classes[id].used.back;
    if (id == for_class || candidate == kNoNode) continue;
    if (oldest == kNoRecord ||
        state_.entries[candidate].last_use < state_.entries[oldest].last_use) {
      oldest = candidate;
    }
  }
  if (oldest == kNoRecord) return std::nullopt;
  std::uint32_t const own = space.classes[for_class].used.back;
  bool const worthwhile = own == kNoNode || state_.entries[oldest].last_use + space.entry_limit <
                                                state_.entries[own].last_use;
  if (!worthwhile) return std::nullopt;
  if (std::uint32_t const slab = state_.entries[oldest].slab; is_idle(slab)) return slab;
  if (own != kNoNode) return std::nullopt;
  for (std::uint32_t slab = 0; slab < space.slab_limit; ++slab) {
    auto const& record = state_.slabs[slab];
    if (record.state == SlabState::kReady && record.disk_class != for_class && is_idle(slab)) {
      return slab;
    }
  }
  return std::nullopt;
}

// Its entries keep their numbers until their records on disk are free: finish_slab().
void DiskDirectory::empty_slab(std::uint32_t slab_number, SlabTask& task) {
  auto& slab = state_.slabs[slab_number];
  auto& disk_class = state_.space.classes[slab.disk_class];
  for (std::uint32_t at = slab.first_entry; at != kNoRecord; at = state_.entries[at].slab_next) {
    auto& entry = state_.entries[at];
    if (entry.state == DiskState::kReady) {
      task.evicted.push_back(entry.key);
      state_.free_entry(at);
    }
    state_.recency.remove(disk_class.free, at);
    entry.writer = static_cast<std::uint8_t>(state_.process);
    entry.state = DiskState::kDropped;
    task.dropped.push_back(at);
  }
  for (auto& open : disk_class.open_slab) {
    if (open == slab_number) open = kNoSlab;
  }
  slab.first_entry = kNoRecord;
  // Nobody may make it anew before its file was cut.
  slab.owner = static_cast<std::uint8_t>(state_.process);
  std::atomic_signal_fence(std::memory_order_release);
  slab.state = SlabState::kPreparing;
  task.emptied.push_back({.slab = slab_number, .folder = slab.folder});
}

// The number of a new slab, in that folder if possible. One that was used stays in its folder: its
// file may still be there.
std::uint32_t DiskDirectory::slab_number(std::uint32_t folder) const noexcept {
  auto const& space = state_.space;
  std::uint32_t other = kMaxSlabs;
  for (std::uint32_t number = 0; number < space.slab_limit; ++number) {
    if (state_.slabs[number].state != SlabState::kNone) continue;
    if (state_.slabs[number].folder == folder) return number;
    other = std::min(other, number);
  }
  return space.slab_limit < kMaxSlabs ? space.slab_limit : other;
}

void DiskDirectory::start_slab(std::uint16_t id, SlabTask& task) {
  auto& space = state_.space;
  auto& disk_class = space.classes[id];
  std::uint64_t const size_bytes = slab_bytes_for(disk_class.slot_bytes, task);
  if (size_bytes == 0) return;
  std::uint32_t const number = slab_number(disk_class.next_folder);
  if (number == kMaxSlabs) return;
  // Room passes from the emptied slabs to this one, so that their sum is never above the limit.
  std::uint64_t wanted = size_bytes;
  for (auto const& emptied : task.emptied) {
    auto& old = state_.slabs[emptied.slab];
    std::uint64_t const part = std::min(old.size_bytes, wanted);
    old.size_bytes -= part;
    wanted -= part;
    space.slab_bytes -= part;
  }
  auto& slab = state_.slabs[number];
  if (number == space.slab_limit) slab.folder = static_cast<std::uint8_t>(disk_class.next_folder);
  slab.size_bytes = size_bytes;
  slab.slot_bytes = disk_class.slot_bytes;
  slab.slots = static_cast<std::uint32_t>(size_bytes / disk_class.slot_bytes);
  slab.bound = slab.live = 0;
  slab.first_entry = kNoRecord;
  slab.disk_class = id;
  slab.owner = static_cast<std::uint8_t>(state_.process);
  ++slab.incarnation;
  std::atomic_signal_fence(std::memory_order_release);
  slab.state = SlabState::kPreparing;
  if (number == space.slab_limit) ++space.slab_limit;
  space.slab_bytes += size_bytes;
  task.slab = number;
  task.folder = slab.folder;
  task.size_bytes = size_bytes;
  task.slot_bytes = disk_class.slot_bytes;
}

void DiskDirectory::release_emptied(SlabTask const& task) {
  for (std::uint32_t const index : task.dropped) {
    if (state_.entries[index].state != DiskState::kDropped) continue;
    state_.entries[index].state = DiskState::kNoSlot;
    state_.recency.push_front(state_.space.unbound, index);
  }
  for (auto const& emptied : task.emptied) {
    auto& slab = state_.slabs[emptied.slab];
    slab.state = SlabState::kNone;
    state_.space.slab_bytes -= std::exchange(slab.size_bytes, 0);
  }
}

void DiskDirectory::finish_slab(SlabTask const& task, SlabOutcome outcome) {
  auto const guard = state_.lock(std::chrono::seconds{5});
  if (!guard) return;  // reap() does it when we are gone
  auto& space = state_.space;
  release_emptied(task);
  if (task.slab == kNoSlab) return;
  auto& slab = state_.slabs[task.slab];
  if (outcome == SlabOutcome::kMade) {
    slab.state = SlabState::kReady;
    space.classes[slab.disk_class].open_slab[slab.folder] = task.slab;
    return;
  }
  slab.state = SlabState::kNone;
  space.slab_bytes -= std::exchange(slab.size_bytes, 0);
  // What there is must do.
  if (outcome == SlabOutcome::kNoSpace) space.limit_bytes = space.fixed_bytes + space.slab_bytes;
}

}  // namespace lmcache
