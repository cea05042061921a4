// SPDX-License-Identifier: Apache-2.0
// From the index on disk to a directory in memory. Nothing in the index is believed but what checks
// by itself: a crash may have left records of different times side by side.
#include <algorithm>
#include <stop_token>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <lmcache/tier/disk/volume.hpp>

#include "tier/disk/key_groups.hpp"

namespace lmcache {
namespace {

class Loading {
 public:
  Loading(DirectoryState& state, VolumeFiles const& files)
      : state_{state}, space_{state.space}, files_{files} {}

  Result<void> run() {
    found_ = list_slabs(files_.folders());
    for (auto const& found : found_) file_bytes_[found.slab] = found.size_bytes;
    {
      auto const ahead = populate_ahead();
      LMC_TRY_ASSIGN(order_, files_.read_order());
      LMC_TRY(read_records());
    }
    find_slabs();
    if (odd_) drop_unfit();
    drop_twins_of_keys();
    if (odd_) drop_twins_of_slots();
    remove_unused_slabs();
    fill_holes();
    LMC_TRY(respect_limit());
    rebuild_directory(state_);
    // A lost record may have been of a higher sequence than any that is left.
    space_.next_sequence += kSequenceGap;
    return {};
  }

 private:
  static constexpr std::uint64_t kSequenceGap = 1u << 20;

  // A thread that touches the memory of as many entries as there were at last: of a million that
  // takes as long as reading them.
  std::jthread populate_ahead() {
    constexpr std::size_t kWorthAThread = 1u << 14;
    auto const count = std::min<std::uint64_t>(files_.order_records(), state_.entries.size());
    if (count < kWorthAThread) return {};
    try {
      return std::jthread{[&segment = state_.segment, count](std::stop_token const& stop) {
        segment.populate_region(Region::kEntries, 0, count * sizeof(DiskEntry), stop);
        segment.populate_region(Region::kRecency, 0, count * sizeof(RecencyNode), stop);
      }};
    } catch (std::system_error const&) {
      return {};  // it only takes longer
    }
  }

  // Each record becomes the entry of its number at once: a million of them are read in one pass.
  Result<void> read_records() {
    space_.now = order_.now;
    space_.read_bytes_per_s = order_.read_bytes_per_s;
    space_.write_bytes_per_s = order_.write_bytes_per_s;
    std::uint64_t damaged = 0;
    Result<void> backed{};
    auto const capacity = static_cast<std::uint32_t>(state_.entries.size());
    LMC_TRY(files_.read_index(capacity, [&](std::uint32_t first, std::span<std::byte const> bytes) {
      auto const last = first + static_cast<std::uint32_t>(bytes.size() / sizeof(IndexRecord));
      for (std::uint32_t number = first; number < last && backed; ++number) {
        auto const record = parse_index_record(bytes, number, damaged);
        bytes = bytes.subspan(sizeof(IndexRecord));
        if (!record) continue;
        if (number >= space_.backed_entries) backed = back_entries(last);
        if (backed) fill_entry(number, *record);
      }
    }));
    space_.damaged_records = damaged;
    return backed;
  }

  Result<void> back_entries(std::uint32_t count) {
    std::uint64_t const first = space_.backed_entries;
    std::uint64_t const more = count - first;
    LMC_TRY(state_.segment.reserve_region(Region::kEntries, first * sizeof(DiskEntry),
                                          more * sizeof(DiskEntry)));
    LMC_TRY(state_.segment.reserve_region(Region::kRecency, first * sizeof(RecencyNode),
                                          more * sizeof(RecencyNode)));
    space_.backed_entries = count;
    return {};
  }

  void fill_entry(std::uint32_t number, IndexRecord const& record) {
    auto& entry = state_.entries[number];
    entry.key = record.key;
    entry.sequence = record.sequence;
    entry.offset = record.offset;
    entry.slab = record.slab;
    entry.payload_bytes = record.payload_bytes;
    entry.last_use = record.last_use;
    if (number < order_.last_use.size()) {
      entry.last_use = std::max(entry.last_use, order_.last_use[number]);
    }
    entry.root = record.root;
    entry.valid_tokens = record.valid_tokens;
    entry.fingerprint = record.fingerprint;
    entry.expires_unix_s = record.expires_unix_s;
    entry.lane = record.lane;
    entry.flags = record.flags;
    entry.state = DiskState::kReady;
    // Until rebuild_directory().
    entry.slab_next = static_cast<std::uint32_t>(record.slot_bytes / kDiskPageBytes);
    keys_.add(record.key, number);
    space_.entry_limit = number + 1;
    space_.next_sequence = std::max(space_.next_sequence, record.sequence);
    space_.now = std::max(space_.now, entry.last_use);
    if (record.sequence >= newest_[record.slab]) {
      newest_[record.slab] = record.sequence;
      auto const before = std::exchange(state_.slabs[record.slab].slot_bytes, record.slot_bytes);
      odd_ = odd_ || (before != 0 && before != record.slot_bytes);
    }
    claim_slot(number, record.slot_bytes);
  }

  // As it is when nothing is wrong: all records of a slab tell one size, and no two the same slot.
  // If not, all entries are gone through again, which costs as much as reading them.
  void claim_slot(std::uint32_t number, std::uint64_t slot_bytes) {
    auto const& entry = state_.entries[number];
    auto& slots = slots_[entry.slab];
    if (slots.empty()) slots.assign(file_bytes_[entry.slab] / slot_bytes, kNoRecord);
    std::uint64_t const slot = entry.offset / slot_bytes;
    if (slot >= slots.size() || slots[slot] != kNoRecord ||
        slot_bytes != state_.slabs[entry.slab].slot_bytes) {
      odd_ = true;
      return;
    }
    slots[slot] = number;
    last_use_[entry.slab] = std::max(last_use_[entry.slab], entry.last_use);
  }

  // The newest record of a slab says what size its slots have.
  void find_slabs() {
    auto const folders = static_cast<std::uint32_t>(files_.folders().size());
    for (std::uint32_t slab = 0; slab < kMaxSlabs; ++slab) {
      state_.slabs[slab].folder = static_cast<std::uint8_t>(slab % folders);
    }
    for (auto const& found : found_) {
      auto& slab = state_.slabs[found.slab];
      bool const named = slab.slot_bytes != 0 && slab.state == SlabState::kNone;
      std::uint64_t const slots = named ? found.size_bytes / slab.slot_bytes : 0;
      auto const disk_class =
          slots != 0 ? state_.class_for(slab.slot_bytes) : Result<std::uint16_t>{0};
      if (slots == 0 || !disk_class) {
        files_.remove_slab(found.folder, found.slab);
        continue;
      }
      slab.size_bytes = found.size_bytes;
      slab.slots = static_cast<std::uint32_t>(slots);
      slab.disk_class = disk_class.value();
      slab.folder = static_cast<std::uint8_t>(found.folder);
      slab.incarnation = 1;
      slab.first_entry = kNoRecord;
      slab.state = SlabState::kReady;
      space_.slab_limit = std::max(space_.slab_limit, found.slab + 1);
    }
    for (std::uint32_t slab = 0; slab < kMaxSlabs; ++slab) {
      bool const ready = state_.slabs[slab].state == SlabState::kReady;
      odd_ = odd_ || (!slots_[slab].empty() && !ready);
    }
  }

  void drop(std::uint32_t index) {
    state_.entries[index].state = DiskState::kNoSlot;
    ++space_.damaged_records;
  }

  // Entries whose slot is not there: their slab was made anew since, or is shorter than they say.
  void drop_unfit() {
    for (std::uint32_t index = 0; index < space_.entry_limit; ++index) {
      auto const& entry = state_.entries[index];
      if (entry.state != DiskState::kReady) continue;
      std::uint64_t const slot_bytes = std::uint64_t{entry.slab_next} * kDiskPageBytes;
      auto const& slab = state_.slabs[entry.slab];
      bool const fits = slab.state == SlabState::kReady && slab.slot_bytes == slot_bytes &&
                        entry.offset / slot_bytes < slab.slots;
      if (!fits) drop(index);
    }
  }

  // Of two that claim one key or one slot, the newer is right.
  [[nodiscard]] std::uint32_t older(std::uint32_t a, std::uint32_t b) const {
    return state_.entries[a].sequence < state_.entries[b].sequence ? a : b;
  }

  void drop_twins_of_keys() {
    keys_.for_each_pair([this](std::uint32_t a, std::uint32_t b) {
      bool const both = state_.entries[a].state == DiskState::kReady &&
                        state_.entries[b].state == DiskState::kReady;
      if (!both || state_.entries[a].key != state_.entries[b].key) return;
      drop(older(a, b));
      odd_ = true;
    });
  }

  void drop_twins_of_slots() {
    std::ranges::fill(last_use_, 0);
    for (std::uint32_t slab = 0; slab < kMaxSlabs; ++slab) {
      auto const& record = state_.slabs[slab];
      slots_[slab].assign(record.state == SlabState::kReady ? record.slots : 0, kNoRecord);
    }
    for (std::uint32_t index = 0; index < space_.entry_limit; ++index) {
      auto const& entry = state_.entries[index];
      if (entry.state != DiskState::kReady) continue;
      last_use_[entry.slab] = std::max(last_use_[entry.slab], entry.last_use);
      auto& holder = slots_[entry.slab][entry.offset / state_.slabs[entry.slab].slot_bytes];
      if (holder == kNoRecord) {
        holder = index;
        continue;
      }
      std::uint32_t const gone = older(holder, index);
      holder = gone == index ? holder : index;
      drop(gone);
    }
  }

  void remove_unused_slabs() {
    for (std::uint32_t slab = 0; slab < space_.slab_limit; ++slab) {
      bool const used = std::ranges::any_of(
          slots_[slab], [](std::uint32_t holder) { return holder != kNoRecord; });
      if (state_.slabs[slab].state == SlabState::kReady && !used) remove_slab(slab);
    }
  }

  void remove_slab(std::uint32_t slab) {
    files_.remove_slab(state_.slabs[slab].folder, slab);
    state_.slabs[slab].state = SlabState::kNone;
  }

  // Slots below others that are there, whose record is gone: free, as far as there are numbers.
  void fill_holes() {
    std::uint32_t spare = 0;
    for (std::uint32_t slab = 0; slab < space_.slab_limit; ++slab) {
      auto const& slots = slots_[slab];
      auto const last = std::ranges::find_if(
          slots.rbegin(), slots.rend(), [](std::uint32_t holder) { return holder != kNoRecord; });
      auto const bound = static_cast<std::size_t>(slots.rend() - last);
      for (std::size_t slot = 0; slot < bound; ++slot) {
        if (slots[slot] != kNoRecord) continue;
        while (spare < space_.entry_limit && state_.entries[spare].state != DiskState::kNoSlot) {
          ++spare;
        }
        if (spare == space_.entry_limit) return;
        auto& hole = state_.entries[spare];
        hole.slab = slab;
        hole.offset = slot * state_.slabs[slab].slot_bytes;
        hole.sequence = 0;
        hole.state = DiskState::kFree;
      }
    }
  }

  // A limit that was lowered: the slabs whose last use is longest ago go.
  Result<void> respect_limit() {
    std::uint64_t total = space_.fixed_bytes;
    std::vector<std::uint32_t> by_age;
    for (std::uint32_t slab = 0; slab < space_.slab_limit; ++slab) {
      if (state_.slabs[slab].state != SlabState::kReady) continue;
      total += state_.slabs[slab].size_bytes;
      by_age.push_back(slab);
    }
    std::ranges::sort(by_age, {}, [&](std::uint32_t slab) { return last_use_[slab]; });
    if (total <= space_.limit_bytes) return {};
    std::vector<bool> gone(space_.slab_limit);
    for (std::uint32_t const slab : by_age) {
      if (total <= space_.limit_bytes) break;
      total -= state_.slabs[slab].size_bytes;
      gone[slab] = true;
    }
    for (std::uint32_t index = 0; index < space_.entry_limit; ++index) {
      auto& entry = state_.entries[index];
      if (entry.state == DiskState::kNoSlot || !gone[entry.slab]) continue;
      if (entry.state == DiskState::kReady) LMC_TRY(files_.free_record(index));
      entry.state = DiskState::kNoSlot;
    }
    for (std::uint32_t slab = 0; slab < space_.slab_limit; ++slab) {
      if (gone[slab]) remove_slab(slab);
    }
    return {};
  }

  DirectoryState& state_;
  DirectorySpace& space_;
  VolumeFiles const& files_;
  UseOrder order_;
  std::vector<FoundSlab> found_;
  detail::KeyGroups keys_{files_.order_records()};
  bool odd_ = false;  // some records contradict each other, or the slabs
  // By slab: the size of its file, the highest sequence, who holds which slot, the last use.
  std::vector<std::uint64_t> file_bytes_ = std::vector<std::uint64_t>(kMaxSlabs);
  std::vector<std::uint64_t> newest_ = std::vector<std::uint64_t>(kMaxSlabs);
  std::vector<std::vector<std::uint32_t>> slots_{kMaxSlabs};
  std::vector<std::uint64_t> last_use_ = std::vector<std::uint64_t>(kMaxSlabs);
};

}  // namespace

Result<void> load_directory(DirectoryState& state, VolumeFiles const& files) {
  return Loading{state, files}.run();
}

}  // namespace lmcache
