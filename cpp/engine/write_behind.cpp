// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/write_behind.hpp>

#include <lmcache/index/chunk_record.hpp>

namespace lmcache {

void WriteBehind::offer(ChunkRef ref) {
  auto const slot = dram_.begin_read(ref);
  if (!slot) return;
  auto const header = peek_header({slot->record, sizeof(ChunkHeader)});
  std::uint64_t const size_bytes = record_bytes(header.payload_bytes, header.valid_tokens);
  auto const before = open_bytes_.fetch_add(size_bytes);
  // One chunk may always go, or a large one never would.
  if (before != 0 && before + size_bytes > budget_bytes_) {
    open_bytes_.fetch_sub(size_bytes);
    count(counts_.dropped_writes);
    dram_.release({&ref, 1});
    return;
  }
  send_(header, *slot,
        [this, ref, size_bytes, started = clock_.monotonic_ns()](TierOutcome outcome) {
          written(ref, size_bytes, started, outcome);
        });
}

void WriteBehind::written(ChunkRef ref, std::uint64_t size_bytes, std::int64_t started_ns,
                          TierOutcome outcome) {
  switch (outcome) {
    case TierOutcome::kDone:
      count(counts_.written_chunks);
      count(counts_.written_bytes, size_bytes);
      count(counts_.write_ns, static_cast<std::uint64_t>(clock_.monotonic_ns() - started_ns));
      if (on_there_) on_there_(ref);
      break;
    case TierOutcome::kDuplicate:
      if (counts_.known_chunks != nullptr) count(*counts_.known_chunks);
      if (on_there_) on_there_(ref);
      break;
    case TierOutcome::kIoError:
      count(counts_.write_errors);
      break;
    default:
      count(counts_.dropped_writes);
  }
  dram_.release({&ref, 1});
  open_bytes_.fetch_sub(size_bytes);
}

}  // namespace lmcache
