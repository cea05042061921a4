// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/write_behind.hpp>

#include <lmcache/index/chunk_record.hpp>

namespace lmcache {

void WriteBehind::offer(ChunkRef ref, Attempt attempt) {
  auto const slot = dram_.begin_read(ref);
  if (!slot) return;
  auto const header = peek_header({slot->record, sizeof(ChunkHeader)});
  Offered const chunk{.ref = ref,
                      .attempt = attempt,
                      .size_bytes = record_bytes(header.payload_bytes, header.valid_tokens),
                      .started_ns = clock_.monotonic_ns()};
  auto const before = open_bytes_.fetch_add(chunk.size_bytes);
  // One chunk may always go, or a large one never would.
  if (before != 0 && before + chunk.size_bytes > budget_bytes_) {
    open_bytes_.fetch_sub(chunk.size_bytes);
    count(counts_.dropped_writes);
    dram_.release({&ref, 1});
    return left(chunk);
  }
  send_(header, *slot, [this, chunk](TierOutcome outcome) { written(chunk, outcome); });
}

void WriteBehind::written(Offered const& chunk, TierOutcome outcome) {
  switch (outcome) {
    case TierOutcome::kDone:
      count(counts_.written_chunks);
      count(counts_.written_bytes, chunk.size_bytes);
      count(counts_.write_ns, static_cast<std::uint64_t>(clock_.monotonic_ns() - chunk.started_ns));
      if (hooks_.on_there) hooks_.on_there(chunk.ref);
      break;
    case TierOutcome::kDuplicate:
      if (counts_.known_chunks != nullptr) count(*counts_.known_chunks);
      if (hooks_.on_there) hooks_.on_there(chunk.ref);
      break;
    case TierOutcome::kIoError:
      count(counts_.write_errors);
      break;
    case TierOutcome::kClosed:
      count(counts_.dropped_writes);
      left(chunk);
      break;
    default:
      count(counts_.dropped_writes);
  }
  dram_.release({&chunk.ref, 1});
  open_bytes_.fetch_sub(chunk.size_bytes);
}

void WriteBehind::left(Offered const& chunk) {
  if (hooks_.on_left && chunk.attempt == Attempt::kFirst) hooks_.on_left(chunk.ref);
}

}  // namespace lmcache
