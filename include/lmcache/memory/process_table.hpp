// SPDX-License-Identifier: Apache-2.0
// Who has the segment mapped. A process's index here is its bit in every lease mask.
//
// A record is claimed and released under the segment's space lock. A process counts as dead when
// its pid is gone, is a zombie, or was given to another process (start time differs); across pid
// namespaces (two containers that share /dev/shm), when the kernel has dropped its lock on the
// record's byte of the file.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include <lmcache/base/result.hpp>
#include <lmcache/metrics/counters.hpp>
#include <lmcache/metrics/histogram.hpp>

namespace lmcache {

inline constexpr std::uint32_t kMaxProcesses = 64;

// How a process finds its remote store. Plain atomics, valid when zeroed.
struct RemoteGauges {
  std::atomic<std::uint32_t> state;  // 0 = has none, 1 = leaves it alone, 2 = uses it
  std::atomic<std::uint32_t> failures;
  std::atomic<std::uint64_t> lookup_ns;  // the last round trip
  std::atomic<std::uint64_t> read_bytes_per_s;
  std::atomic<std::uint64_t> write_bytes_per_s;
  // Text, filled up with 0; in words, since others may read it while it changes.
  std::array<std::atomic<std::uint64_t>, 20> last_error;

  void set_last_error(std::string_view text) noexcept;
  [[nodiscard]] std::string last_error_text() const;
};

// What lies in GPU memory for a process, over all its devices. Plain atomics, valid when zeroed.
struct DeviceGauges {
  std::atomic<std::uint64_t> capacity_bytes;  // 0: it has no pool there
  std::atomic<std::uint64_t> used_bytes;
  std::atomic<std::uint64_t> chunks;
};

struct ProcessRecord {
  std::atomic<std::uint32_t> attached;
  std::int32_t pid;
  std::uint64_t start_ticks;    // field 22 of /proc/<pid>/stat
  std::uint64_t pid_namespace;  // inode of /proc/self/ns/pid; 0 = unknown
  std::int64_t attached_unix_s;
  std::array<char, 32> role;
  std::array<char, 96> instance_id;
  Counters counters;
  Latencies latencies;
  RemoteGauges remote;
  DeviceGauges device;
};

// A view of the table in a segment; cheap to copy. Externally synchronised (the space lock), except
// alive() and the counters.
class ProcessTable {
 public:
  ProcessTable(std::span<std::byte> region, int segment_fd) noexcept;

  struct Claim {
    std::string_view role;
    std::string_view instance_id;
    std::int64_t now_unix_s;
  };
  // Takes a free record for the calling process. Errors: kUnavailable when all 64 are taken,
  // kIo when the file cannot be locked.
  [[nodiscard]] Result<std::uint32_t> claim(Claim const& claim);
  void release(std::uint32_t index) noexcept;

  [[nodiscard]] bool attached(std::uint32_t index) const noexcept;
  // Blocks on a read of /proc only.
  [[nodiscard]] bool alive(std::uint32_t index) const noexcept;
  [[nodiscard]] std::uint32_t attached_count() const noexcept;
  [[nodiscard]] ProcessRecord& record(std::uint32_t index) const noexcept {
    return records_[index];
  }

  [[nodiscard]] static constexpr std::size_t region_bytes() noexcept {
    return sizeof(ProcessRecord) * kMaxProcesses;
  }

 private:
  [[nodiscard]] bool claimed_here(std::uint32_t index) const noexcept {
    return (own_ >> index & 1) != 0;
  }

  std::span<ProcessRecord> records_;
  int fd_;
  std::uint64_t own_{0};  // bit i: this view claimed record i; its own lock does not show
};

}  // namespace lmcache
