// SPDX-License-Identifier: Apache-2.0
// Records of the index that were damaged stay what they are until another chunk takes their number.
// They are freed here, so that they are found once and not by everybody who reads the index.
//
// An entry without a chunk (kNoSlot, kFree) has a free record: whoever takes the chunk away frees
// the record first. So a record of such an entry that is not free is a damaged one. It is written
// under the lock, which nothing else is: the number may be another chunk's a moment later. Records
// are few, and go to the page cache.
#include <chrono>
#include <vector>

#include <lmcache/tier/disk/volume.hpp>

namespace lmcache {
namespace {

constexpr std::chrono::seconds kLockTimeout{5};

// Numbers whose record is not free.
std::vector<std::uint32_t> numbers_in_use(std::uint32_t first, std::span<std::byte const> bytes) {
  std::vector<std::uint32_t> out;
  for (std::uint32_t number = first; bytes.size() >= sizeof(IndexRecord); ++number) {
    std::uint64_t damaged = 0;
    if (parse_index_record(bytes, number, damaged) || damaged != 0) out.push_back(number);
    bytes = bytes.subspan(sizeof(IndexRecord));
  }
  return out;
}

}  // namespace

Result<std::uint64_t> repair_index(DirectoryState& state, VolumeFiles const& files) {
  std::uint64_t repaired = 0;
  auto const free_those_without_chunk =
      [&](std::vector<std::uint32_t> const& numbers) -> Result<void> {
    LMC_TRY_ASSIGN(auto const guard, state.lock(kLockTimeout));
    for (std::uint32_t const number : numbers) {
      auto const entry =
          number < state.space.entry_limit ? state.entries[number].state : DiskState::kNoSlot;
      if (entry != DiskState::kNoSlot && entry != DiskState::kFree) continue;
      LMC_TRY(files.free_record(number));
      ++repaired;
    }
    return {};
  };
  Result<void> done{};
  auto const capacity = static_cast<std::uint32_t>(state.entries.size());
  LMC_TRY(files.read_index(capacity, [&](std::uint32_t first, std::span<std::byte const> bytes) {
    auto const numbers = numbers_in_use(first, bytes);
    if (done && !numbers.empty()) done = free_those_without_chunk(numbers);
  }));
  if (!done) return std::move(done).error();
  if (repaired != 0) LMC_TRY(files.sync_index());
  return repaired;
}

}  // namespace lmcache
