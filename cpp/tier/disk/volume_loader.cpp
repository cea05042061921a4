// SPDX-License-Identifier: Apache-2.0
// From the index on disk to a directory in memory. Nothing in the index is believed but what checks
// by itself: a crash may have left records of different times side by side.
#include <algorithm>
#include <array>
#include <utility>

#include <lmcache/tier/disk/volume.hpp>

namespace lmcache {
namespace {

class Loading {
 public:
  Loading(DirectoryState& state, VolumeFiles const& files)
      : state_{state}, space_{state.space}, files_{files} {}

  Result<void> run() {
    LMC_TRY(read_records());
    find_slabs();
    LMC_TRY(fill_entries());
    drop_twins();
    remove_unused_slabs();
    LMC_TRY(fill_holes());
    LMC_TRY(respect_limit());
    rebuild_directory(state_);
    // A lost record may have been of a higher sequence than any that is left.
    space_.next_sequence += kSequenceGap;
    return {};
  }

 private:
  static constexpr std::uint64_t kSequenceGap = 1u << 20;
  struct Numbered {
    std::uint32_t number;
    IndexRecord record;
  };

  Result<void> read_records() {
    std::uint64_t damaged = 0;
    auto const capacity = static_cast<std::uint32_t>(state_.entries.size());
    LMC_TRY(files_.read_index(capacity, [&](std::uint32_t first, std::span<std::byte const> bytes) {
      for (std::uint32_t number = first; bytes.size() >= sizeof(IndexRecord);
           ++number, bytes = bytes.subspan(sizeof(IndexRecord))) {
        if (auto const record = parse_index_record(bytes, number, damaged)) {
          records_.push_back({number, *record});
        }
      }
    }));
    space_.damaged_records = damaged;
    LMC_TRY_ASSIGN(order_, files_.read_order());
    space_.now = order_.now;
    space_.read_bytes_per_s = order_.read_bytes_per_s;
    space_.write_bytes_per_s = order_.write_bytes_per_s;
    return {};
  }

  // The newest record of a slab says what size its slots have.
  void find_slabs() {
    std::vector<std::uint64_t> newest(kMaxSlabs);
    for (auto const& [number, record] : records_) {
      if (record.sequence < newest[record.slab]) continue;
      newest[record.slab] = record.sequence;
      state_.slabs[record.slab].slot_bytes = record.slot_bytes;
    }
    auto const folders = static_cast<std::uint32_t>(files_.folders().size());
    for (std::uint32_t slab = 0; slab < kMaxSlabs; ++slab) {
      state_.slabs[slab].folder = static_cast<std::uint8_t>(slab % folders);
    }
    for (auto const& found : list_slabs(files_.folders())) {
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
  }

  Result<void> back_entries(std::uint32_t count) {
    LMC_TRY(state_.segment.reserve_region(Region::kEntries, 0, count * sizeof(DiskEntry)));
    LMC_TRY(state_.segment.reserve_region(Region::kRecency, 0, count * sizeof(RecencyNode)));
    space_.entry_limit = space_.backed_entries = count;
    return {};
  }

  [[nodiscard]] bool fits(IndexRecord const& record) const {
    auto const& slab = state_.slabs[record.slab];
    return slab.state == SlabState::kReady && slab.slot_bytes == record.slot_bytes &&
           record.offset / record.slot_bytes < slab.slots;
  }

  Result<void> fill_entries() {
    std::uint32_t highest = 0;
    for (auto const& it : records_) highest = std::max(highest, it.number + 1);
    LMC_TRY(back_entries(highest));
    for (auto const& [number, record] : records_) {
      space_.next_sequence = std::max(space_.next_sequence, record.sequence);
      if (!fits(record)) {
        ++space_.damaged_records;
        continue;
      }
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
      space_.now = std::max(space_.now, entry.last_use);
      entry.root = record.root;
      entry.valid_tokens = record.valid_tokens;
      entry.fingerprint = record.fingerprint;
      entry.expires_unix_s = record.expires_unix_s;
      entry.lane = record.lane;
      entry.flags = record.flags;
      entry.state = DiskState::kReady;
      filled_.push_back(number);
    }
    return {};
  }

  // Of two that claim one slot or one key, the newer is right.
  void drop_twins() {
    auto const drop_older = [&](auto const& same, auto const& less) {
      std::ranges::sort(filled_, less);
      std::size_t kept = 0;
      for (std::size_t i = 0; i < filled_.size(); ++i) {
        if (kept != 0 && same(filled_[kept - 1], filled_[i])) {
          state_.entries[filled_[i]].state = DiskState::kNoSlot;
          ++space_.damaged_records;
        } else {
          filled_[kept++] = filled_[i];
        }
      }
      filled_.resize(kept);
    };
    auto const at = [&](std::uint32_t index) -> DiskEntry const& { return state_.entries[index]; };
    drop_older([&](auto a, auto b) { return at(a).key == at(b).key; },
               [&](auto a, auto b) {
                 return std::pair{at(a).key, at(b).sequence} < std::pair{at(b).key, at(a).sequence};
               });
    drop_older(
        [&](auto a, auto b) { return at(a).slab == at(b).slab && at(a).offset == at(b).offset; },
        [&](auto a, auto b) {
          return std::tuple{at(a).slab, at(a).offset, at(b).sequence} <
                 std::tuple{at(b).slab, at(b).offset, at(a).sequence};
        });
  }

  void remove_unused_slabs() {
    std::vector<bool> used(kMaxSlabs);
    for (std::uint32_t const index : filled_) used[state_.entries[index].slab] = true;
    for (std::uint32_t slab = 0; slab < space_.slab_limit; ++slab) {
      if (state_.slabs[slab].state == SlabState::kReady && !used[slab]) remove_slab(slab);
    }
  }

  void remove_slab(std::uint32_t slab) {
    files_.remove_slab(state_.slabs[slab].folder, slab);
    state_.slabs[slab].state = SlabState::kNone;
  }

  // Slots below others that are there, whose record is gone: free. Sorted by place already.
  Result<void> fill_holes() {
    std::vector<std::uint32_t> spare;
    for (std::uint32_t index = space_.entry_limit; index-- > 0;) {
      if (state_.entries[index].state == DiskState::kNoSlot) spare.push_back(index);
    }
    std::uint32_t slab = kNoSlab;
    std::uint64_t next = 0;
    for (std::uint32_t const index : filled_) {
      auto const& entry = state_.entries[index];
      auto const slot_bytes = state_.slabs[entry.slab].slot_bytes;
      if (entry.slab != slab) next = 0;
      slab = entry.slab;
      for (; next < entry.offset && !spare.empty(); next += slot_bytes) {
        auto& hole = state_.entries[spare.back()];
        spare.pop_back();
        hole.slab = slab;
        hole.offset = next;
        hole.sequence = 0;
        hole.state = DiskState::kFree;
      }
      next = entry.offset + slot_bytes;
    }
    return {};
  }

  // A limit that was lowered: the slabs whose last use is longest ago go.
  Result<void> respect_limit() {
    std::uint64_t total = space_.fixed_bytes;
    std::vector<std::uint64_t> last_use(space_.slab_limit);
    for (std::uint32_t const index : filled_) {
      auto const& entry = state_.entries[index];
      last_use[entry.slab] = std::max(last_use[entry.slab], entry.last_use);
    }
    std::vector<std::uint32_t> by_age;
    for (std::uint32_t slab = 0; slab < space_.slab_limit; ++slab) {
      if (state_.slabs[slab].state != SlabState::kReady) continue;
      total += state_.slabs[slab].size_bytes;
      by_age.push_back(slab);
    }
    std::ranges::sort(by_age, {}, [&](std::uint32_t slab) { return last_use[slab]; });
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
  std::vector<Numbered> records_;
  std::vector<std::uint32_t> filled_;  // entries that hold a chunk
};

}  // namespace

Result<void> load_directory(DirectoryState& state, VolumeFiles const& files) {
  return Loading{state, files}.run();
}

}  // namespace lmcache
