// SPDX-License-Identifier: Apache-2.0
// Which chunks lie in the memory of a device too, in this process: the hottest tier.
//
// The index knows nothing of it. A copy here belongs to one entry of the index and is asked for by
// whoever holds a lease on that entry, so what the index forgot is never found here; its copy ages
// out. Bytes of a published chunk never change, so a copy that became resident stays right.
//
// Invariants, under mutex_:
//  * each copy has its own range of the memory, and no range is given away while `users` of its
//  copy
//    is not 0: somebody writes it, or somebody reads it;
//  * only a copy whose writing ended well is resident, and only a resident one is ever read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <span>
#include <unordered_map>

#include <lmcache/device/free_ranges.hpp>
#include <lmcache/index/chunk_ref.hpp>
#include <lmcache/memory/process_table.hpp>
#include <lmcache/metrics/counters.hpp>

namespace lmcache {

// Does no copies: hands out addresses, which may be those of a device and are never read here.
// Thread-safe, but for the destructor: then no copy may be under way.
class DevicePool {
 public:
  // What is told to others; both outlive the pool. Pools may share them.
  struct Report {
    DeviceGauges& gauges;
    Counters& counters;
  };
  DevicePool(std::span<std::byte> memory, Report report);
  ~DevicePool();
  DevicePool(DevicePool const&) = delete;
  DevicePool& operator=(DevicePool const&) = delete;

  // Room for a copy of a chunk, made by evicting those that were not read for longest. Then
  // end_write(). Null: it is here, comes, or there is no room that is not in use.
  [[nodiscard]] std::byte* begin_write(ChunkRef chunk, std::uint64_t size_bytes);
  enum class Written : std::uint8_t { kWhole, kNot };
  // No copy into it is under way any more.
  void end_write(ChunkRef chunk, Written written);

  // The copy of a chunk, if it is resident and has this size; then end_read().
  [[nodiscard]] std::byte* begin_read(ChunkRef chunk, std::uint64_t size_bytes);
  // No copy out of it is under way any more.
  void end_read(ChunkRef chunk);

  // The device is lost: nothing is resident, and nothing will be.
  void close();

  // So many chunks at most make room for one: a large one shall not empty a pool of small ones.
  static constexpr std::uint32_t kMostEvicted = 64;

 private:
  enum class State : std::uint8_t { kWriting, kResident };
  struct Copy {
    std::uint64_t chunk = 0;  // packed ref
    std::uint64_t begin = 0;
    std::uint64_t size_bytes = 0;
    std::uint32_t users = 0;
    State state = State::kWriting;
  };
  using Copies = std::list<Copy>;

  [[nodiscard]] Copies::iterator find(ChunkRef chunk);
  [[nodiscard]] std::optional<std::uint64_t> make_room(std::uint64_t size_bytes);
  void drop(Copies::iterator copy);

  std::span<std::byte> const memory_;
  Report const report_;
  std::mutex mutex_;  // guards all below
  detail::FreeRanges free_;
  Copies copies_;  // latest use first
  std::unordered_map<std::uint64_t, Copies::iterator> by_chunk_;
  bool closed_ = false;
};

}  // namespace lmcache
