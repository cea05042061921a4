// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/device_side.hpp>

#include <utility>

namespace lmcache {

DeviceSide::DeviceSide(DramTier& tier, DeviceCopier& copier, std::span<std::byte> memory)
    : tier_{tier},
      copier_{copier},
      pool_{memory,
            {.gauges = tier.state().processes.record(tier.state().process).device,
             .counters = tier.counters()}} {}

std::byte* DeviceSide::begin_store(ChunkRef chunk, std::uint64_t payload_bytes) {
  return pool_.begin_write(chunk, payload_bytes);
}

void DeviceSide::end_store(ChunkRef chunk, std::uint64_t payload_bytes,
                           DevicePool::Written written) {
  pool_.end_write(chunk, written);
  if (written == DevicePool::Written::kNot) return;
  count(tier_.counters().device_stored_chunks);
  count(tier_.counters().device_stored_bytes, payload_bytes);
}

std::byte* DeviceSide::begin_load(ChunkRef chunk, std::uint64_t payload_bytes) {
  return pool_.begin_read(chunk, payload_bytes);
}

void DeviceSide::end_load(ChunkRef chunk) { pool_.end_read(chunk); }

void DeviceSide::loaded_from_dram(ChunkRef chunk) {
  std::lock_guard const lock{mutex_};
  if (stopped_ || promotions_ == kMostPromotions || !is_second_load(chunk)) return;
  auto const slot = tier_.begin_read(chunk);
  if (slot) promote(chunk, *slot);
}

// Forgotten then: a pool that is too small shall not be filled anew at each load.
bool DeviceSide::is_second_load(ChunkRef chunk) {
  if (seen_.erase(chunk.packed()) != 0) return true;
  if (seen_order_.size() == kRemembered) {
    seen_.erase(seen_order_.front());
    seen_order_.pop_front();
  }
  seen_.insert(chunk.packed());
  seen_order_.push_back(chunk.packed());
  return false;
}

// The lease is held until the copy is over.
void DeviceSide::promote(ChunkRef chunk, ChunkSlot const& slot) {
  std::uint64_t const bytes = slot.payload_bytes;
  std::byte* const room = pool_.begin_write(chunk, bytes);
  if (room == nullptr) {
    ChunkRef const refs[] = {chunk};
    tier_.release(refs);
    return;
  }
  ++promotions_;
  CopyBatch batch{.direction = CopyDirection::kSlotToEngine,
                  .priority = CopyPriority::kBackground,
                  .plane_count = 1,
                  .items = {{.slot = slot.payload, .runs = {{.engine = room, .bytes = bytes}}}},
                  .on_item = [this, chunk, bytes](std::uint32_t, CopyStatus status) {
                    std::lock_guard const lock{mutex_};
                    end_promotion(chunk, bytes, status);
                  }};
  if (auto const ticket = copier_.submit(std::move(batch))) {
    copier_.retire(ticket.value());
  } else {
    end_promotion(chunk, bytes, CopyStatus::kFailed);
  }
}

void DeviceSide::end_promotion(ChunkRef chunk, std::uint64_t payload_bytes, CopyStatus status) {
  --promotions_;
  end_store(
      chunk, payload_bytes,
      status == CopyStatus::kCopied ? DevicePool::Written::kWhole : DevicePool::Written::kNot);
  ChunkRef const refs[] = {chunk};
  tier_.release(refs);
}

void DeviceSide::stop() {
  std::lock_guard const lock{mutex_};
  stopped_ = true;
}

void DeviceSide::close() {
  stop();
  pool_.close();
}

}  // namespace lmcache
