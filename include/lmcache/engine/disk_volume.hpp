// SPDX-License-Identifier: Apache-2.0
// A disk cache without an engine: for those who look after one, and for measuring.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <lmcache/base/log.hpp>
#include <lmcache/base/result.hpp>
#include <lmcache/key/chunk_key.hpp>

namespace lmcache {

class DiskTier;

struct DiskVolumeOptions {
  std::vector<std::string> folders{};
  std::uint64_t limit_bytes = 0;  // 0 = a tenth of the free space
  std::string io = "auto";
  std::string durability = "none";
  std::string memory_folder = "/dev/shm";
  std::uint64_t depth_bytes = 0;  // 0 = as engines do
  bool existing_only = true;      // as it is: neither made nor made smaller
};

struct ScrubReport {
  std::uint64_t chunks = 0;
  std::uint64_t size_bytes = 0;  // that were read
  std::uint64_t corrupt = 0;     // and forgotten
  std::uint64_t unreadable = 0;  // an error of the device
  std::uint64_t gone = 0;        // evicted meanwhile
  // Of the index, since it was read last; free again.
  std::uint64_t damaged_records = 0;
  // Where the first of those lie that are corrupt or unreadable.
  struct Damage {
    std::string folder;
    std::uint32_t slab = 0;
    std::uint64_t offset = 0;
    bool corrupt = false;
  };
  static constexpr std::size_t kMostDamage = 64;
  std::vector<Damage> damage{};
  bool complete = false;
};

struct DiskModelUse {
  std::string model;  // empty: chunks of a namespace that nobody noted
  std::string description;
  std::uint64_t chunks = 0;
  std::uint64_t size_bytes = 0;
  std::uint64_t prefill_ps_per_token = 0;
};

// A batch of chunks in one piece of memory, a slot each.
struct DiskSlots {
  std::byte* data = nullptr;        // aligned to 4 KiB
  std::uint64_t slot_bytes = 0;     // a multiple of it
  std::uint64_t payload_bytes = 0;  // of each chunk
};

// Thread-safe. All calls block.
class DiskVolume {
 public:
  // Errors: those of DiskTier::open().
  [[nodiscard]] static Result<std::unique_ptr<DiskVolume>> open(DiskVolumeOptions options,
                                                                LogHook log);
  ~DiskVolume();
  DiskVolume(DiskVolume&&) = delete;

  // Slot i gets the header of a chunk keys[i] and is written. How many are on disk then.
  [[nodiscard]] std::uint64_t write(std::span<ChunkKey const> keys, DiskSlots const& slots);
  // How many were read and are right.
  [[nodiscard]] std::uint64_t read(std::span<ChunkKey const> keys, DiskSlots const& slots);
  [[nodiscard]] std::uint64_t find(std::span<ChunkKey const> keys);

  // Reads and checks every chunk, in the order in which they lie; forgets those that are damaged.
  // `progress(so far, chunks in all)` false: stop. At the end damaged records of the index are made
  // free ones.
  [[nodiscard]] ScrubReport scrub(
      std::function<bool(ScrubReport const&, std::uint64_t)> const& progress);
  // Forgets what nobody reads. Returns how many chunks.
  std::uint64_t clear();
  [[nodiscard]] std::vector<DiskModelUse> models();
  [[nodiscard]] DiskTier& tier() noexcept { return *tier_; }

 private:
  explicit DiskVolume(std::unique_ptr<DiskTier> tier) noexcept;
  // How many were damaged since the index was read: they are free then, and no longer counted.
  [[nodiscard]] std::uint64_t forget_damaged_records();

  std::unique_ptr<DiskTier> tier_;
};

}  // namespace lmcache
