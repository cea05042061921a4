// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/write_behind.hpp>

#include <lmcache/index/chunk_record.hpp>

namespace lmcache {

void WriteBehind::offer(DiskTier& disk, ChunkRef ref) {
  auto const slot = dram_.begin_read(ref);
  if (!slot) return;
  auto const header = peek_header({slot->record, sizeof(ChunkHeader)});
  std::uint64_t const size_bytes = record_bytes(header.payload_bytes, header.valid_tokens);
  auto const before = open_bytes_.fetch_add(size_bytes);
  // One chunk may always go, or a large one never would.
  if (before != 0 && before + size_bytes > budget_bytes_) {
    open_bytes_.fetch_sub(size_bytes);
    count(dram_.counters().disk_dropped_writes);
    dram_.release({&ref, 1});
    return;
  }
  disk.write({.key = header.key, .slot = slot->record, .slot_bytes = slot->slot_bytes},
             [this, ref, size_bytes, started = clock_.monotonic_ns()](DiskOutcome outcome) {
               written(ref, size_bytes, started, outcome);
             });
}

void WriteBehind::written(ChunkRef ref, std::uint64_t size_bytes, std::int64_t started_ns,
                          DiskOutcome outcome) {
  auto& counters = dram_.counters();
  switch (outcome) {
    case DiskOutcome::kDone:
      count(counters.disk_written_chunks);
      count(counters.disk_written_bytes, size_bytes);
      count(counters.disk_write_ns, static_cast<std::uint64_t>(clock_.monotonic_ns() - started_ns));
      [[fallthrough]];
    case DiskOutcome::kDuplicate:
      dram_.note_on_disk(ref);
      break;
    case DiskOutcome::kIoError:
      count(counters.disk_write_errors);
      break;
    default:
      count(counters.disk_dropped_writes);
  }
  dram_.release({&ref, 1});
  open_bytes_.fetch_sub(size_bytes);
}

}  // namespace lmcache
