// SPDX-License-Identifier: Apache-2.0
// All that an engine does with its disk tier.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include <lmcache/base/clock.hpp>
#include <lmcache/base/log.hpp>
#include <lmcache/engine/engine_options.hpp>
#include <lmcache/engine/write_behind.hpp>
#include <lmcache/tier/disk/disk_tier.hpp>
#include <lmcache/tier/dram/dram_tier.hpp>

namespace lmcache {

// Thread-safe. The DRAM tier must outlive it.
class DiskSide {
 public:
  // Errors: those of DiskTier::open(); kInvalidArgument (durability, engine of I/O).
  [[nodiscard]] static Result<std::unique_ptr<DiskSide>> open(EngineOptions const& options,
                                                              DramTier& dram, Clock const& clock,
                                                              LogHook const& log);
  // Writes what was handed over, for 5 s at most.
  ~DiskSide();
  DiskSide(DiskSide&&) = delete;

  // A chunk of a namespace was stored in memory.
  void stored(ChunkRef ref) { writes_.offer(ref); }
  // What engines before this one measured, picoseconds per token; 0 = not known.
  [[nodiscard]] std::uint64_t known_prefill(ChunkKey const& root);
  // Forgets the chunks of a namespace, or all. Returns how many.
  std::uint64_t clear(std::optional<ChunkKey> const& root) { return disk_->clear(root); }
  // A namespace was opened: what is known on disk of its speed is learnt; its name is noted there
  // by the housekeeper, since that writes a file.
  void opened(DramNamespace const& space);
  // An extent of the segment has memory: the kernel may know it for good, since holes are punched
  // only into extents that nobody will use.
  void memory_ready(std::uint32_t extent);
  // Every now and then, by the housekeeper.
  void keep_house();
  [[nodiscard]] bool drain(std::chrono::milliseconds timeout) { return disk_->drain(timeout); }
  [[nodiscard]] DiskTier& tier() noexcept { return *disk_; }

 private:
  DiskSide(DramTier& dram, Clock const& clock, std::uint64_t budget_bytes);
  void note_in_segment();
  void describe_opened();
  void remember_speed();

  DramTier& dram_;
  Clock const& clock_;
  WriteBehind writes_;
  std::unique_ptr<DiskTier> disk_;  // goes before what its callbacks use

  std::mutex mutex_;                                                        // guards what follows
  std::unordered_map<ChunkKey, ModelRecord, ChunkKeyHash> models_;          // by root
  std::unordered_map<ChunkKey, std::uint64_t, ChunkKeyHash> known_speeds_;  // of earlier engines
  std::vector<ChunkKey> to_describe_;                                       // of models_
  std::uint64_t remembered_prefill_{0};
  std::int64_t remember_at_ns_{0};
};

}  // namespace lmcache
