// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/device_pool.hpp>

#include <iterator>

namespace lmcache {
namespace {

// A figure that others read: relaxed, since no memory is read on the strength of it.
void add(std::atomic<std::uint64_t>& gauge, std::uint64_t by) noexcept {
  gauge.fetch_add(by, std::memory_order_relaxed);
}
void subtract(std::atomic<std::uint64_t>& gauge, std::uint64_t by) noexcept {
  gauge.fetch_sub(by, std::memory_order_relaxed);
}

}  // namespace

DevicePool::DevicePool(std::span<std::byte> memory, Report report)
    : memory_{memory}, report_{report}, free_{memory.size()} {
  add(report_.gauges.capacity_bytes, memory_.size());
}

DevicePool::~DevicePool() {
  close();
  subtract(report_.gauges.capacity_bytes, memory_.size());
}

DevicePool::Copies::iterator DevicePool::find(ChunkRef chunk) {
  auto const found = by_chunk_.find(chunk.packed());
  return found == by_chunk_.end() ? copies_.end() : found->second;
}

std::byte* DevicePool::begin_write(ChunkRef chunk, std::uint64_t size_bytes) {
  std::lock_guard const lock{mutex_};
  if (closed_ || find(chunk) != copies_.end()) return nullptr;
  auto const begin = make_room(size_bytes);
  if (!begin) return nullptr;
  copies_.push_front(
      {.chunk = chunk.packed(), .begin = *begin, .size_bytes = size_bytes, .users = 1});
  by_chunk_.emplace(chunk.packed(), copies_.begin());
  return memory_.data() + *begin;
}

std::optional<std::uint64_t> DevicePool::make_room(std::uint64_t size_bytes) {
  if (size_bytes > memory_.size()) return std::nullopt;
  auto begin = free_.take(size_bytes);
  auto oldest = copies_.end();
  for (std::uint32_t evicted = 0; !begin && evicted < kMostEvicted; ++evicted) {
    // Those in use were used lately: few are passed over.
    do {
      if (oldest == copies_.begin()) return std::nullopt;
      --oldest;
    } while (oldest->users != 0);
    count(report_.counters.device_evicted_chunks);
    auto const victim = oldest++;
    drop(victim);
    begin = free_.take(size_bytes);
  }
  return begin;
}

void DevicePool::drop(Copies::iterator copy) {
  if (copy->state == State::kResident) {
    subtract(report_.gauges.chunks, 1);
    subtract(report_.gauges.used_bytes, copy->size_bytes);
  }
  free_.give_back(copy->begin, copy->size_bytes);
  by_chunk_.erase(copy->chunk);
  copies_.erase(copy);
}

void DevicePool::end_write(ChunkRef chunk, Written written) {
  std::lock_guard const lock{mutex_};
  auto const copy = find(chunk);
  if (copy == copies_.end() || copy->state != State::kWriting) return;
  copy->users = 0;
  if (written == Written::kNot || closed_) {
    drop(copy);
    return;
  }
  copy->state = State::kResident;
  add(report_.gauges.chunks, 1);
  add(report_.gauges.used_bytes, copy->size_bytes);
}

std::byte* DevicePool::begin_read(ChunkRef chunk, std::uint64_t size_bytes) {
  std::lock_guard const lock{mutex_};
  auto const copy = find(chunk);
  if (closed_ || copy == copies_.end() || copy->state != State::kResident ||
      copy->size_bytes != size_bytes) {
    return nullptr;
  }
  ++copy->users;
  copies_.splice(copies_.begin(), copies_, copy);
  return memory_.data() + copy->begin;
}

void DevicePool::end_read(ChunkRef chunk) {
  std::lock_guard const lock{mutex_};
  auto const copy = find(chunk);
  if (copy == copies_.end() || copy->state != State::kResident || copy->users == 0) return;
  if (--copy->users == 0 && closed_) drop(copy);
}

void DevicePool::close() {
  std::lock_guard const lock{mutex_};
  closed_ = true;
  for (auto at = copies_.begin(); at != copies_.end();) {
    auto const copy = at++;
    if (copy->users == 0) drop(copy);
  }
}

}  // namespace lmcache
