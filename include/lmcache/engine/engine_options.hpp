// SPDX-License-Identifier: Apache-2.0
// What an engine is opened with. Plain data: whoever fills it in has read the configuration.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <lmcache/base/cuda_api.hpp>
#include <lmcache/base/result.hpp>
#include <lmcache/device/cuda_issue.hpp>

namespace lmcache {

class TransportQueue;

struct EngineOptions {
  // "private": memory of this process alone. Otherwise a name (file lmcache-<uid>-<name> in
  // `directory`) or an absolute path, shared by all processes that open the same.
  std::string segment = "private";
  std::string directory = "/dev/shm";
  std::uint64_t capacity_bytes = 0;  // of a new segment; an existing one keeps its own
  bool keep = false;                 // false: the last process to leave cleanly removes the segment
  std::uint64_t chunk_bytes_hint =
      0;  // slot of a full chunk, so that extents hold whole ones; 0 = unknown
  std::uint32_t max_entries = 0;   // chunks at most; 0 = by capacity
  std::uint32_t copy_threads = 0;  // 0 = by the number of CPUs, 4 at most
  std::uint32_t ttl_seconds = 0;   // 0 = for ever
  std::string eviction = "lru";
  std::string role = "engine";  // shown in status: scheduler, worker, ...
  std::string instance_id{};

  // The disk tier; no folders: none. One that cannot be opened is told to the log, and the engine
  // goes on without it.
  std::vector<std::string> disk_folders{};
  std::uint64_t disk_bytes = 0;  // of all its files; 0 = a tenth of the free space
  std::string disk_io = "auto";  // "io_uring", "threads"
  // "none": safe against the death of any process; "data": against a lost power supply too.
  std::string disk_durability = "none";
  // Stored in memory and not on disk yet, at most; what exceeds it is not written.
  std::uint64_t write_behind_bytes = 256u << 20;
  std::uint64_t disk_bytes_per_second = 0;  // reads and writes together; 0 = no limit
  // The remote tier; no URL: none (net/redis_url.hpp). One that does not answer is left alone until
  // it does.
  std::string remote_url{};
  std::string remote_user{};  // where the URL names none
  std::string remote_password{};
  std::string remote_serde = "msgpack";  // "naive"
  std::uint32_t remote_connections = 4;
  std::uint32_t remote_lookup_timeout_ms = 200;
  std::uint32_t remote_timeout_ms = 10'000;     // of one transfer
  std::uint32_t remote_lookup_kept_ms = 5'000;  // answers are believed so long
  // Instead of a URL, user, password and serde: other threads serve the remote tier through this
  // (tier/remote/transport_queue.hpp), which the engine closes. Of one engine only.
  std::shared_ptr<TransportQueue> remote_calls{};

  // Fetch whatever is there, also where computing it would be faster.
  bool always_fetch = false;
  std::string disk_memory_folder = "/dev/shm";  // of the directory that processes share

  // Where the calls of the CUDA driver come from; empty: the driver of this machine. Asked when a
  // view of CUDA memory is first registered.
  std::function<Result<CudaApi>()> cuda_source{};
  // When copies go by the copy engine; nothing: measured on each device, once.
  std::optional<CopyChoice> cuda_choice{};
  // Memory of each CUDA device that copies of chunks may lie in, besides the segment; 0: none.
  // Taken when its first view is registered; one that cannot be had is told to the log.
  std::uint64_t device_pool_bytes = 0;
};

}  // namespace lmcache
