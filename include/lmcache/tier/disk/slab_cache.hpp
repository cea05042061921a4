// SPDX-License-Identifier: Apache-2.0
// The slabs that a process has open, known to its I/O engine.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <unordered_map>

#include <lmcache/io/async_file_io.hpp>
#include <lmcache/tier/disk/disk_directory.hpp>
#include <lmcache/tier/disk/volume_files.hpp>

namespace lmcache {

// Thread-safe. Both must outlive it; nothing of a slab may be under way when another incarnation of
// it is asked for (who empties a slab makes sure that nobody reads it).
class SlabCache {
 public:
  SlabCache(VolumeFiles const& files, AsyncFileIo& io) noexcept : files_{files}, io_{&io} {}
  ~SlabCache();
  SlabCache(SlabCache&&) = delete;

  struct Slab {
    IoFile file;
    int fd;
    bool direct;
  };
  // Opens it when it is not open yet. May block on the file system. Errors: kIo, kOutOfMemory.
  [[nodiscard]] Result<Slab> get(DiskPlace const& place);
  // The engine goes before what it has under way has ended: the files stay open until we go too,
  // and no other is opened.
  void forget_io() noexcept;
  // Some slab goes through the page cache, since its file system has no O_DIRECT.
  [[nodiscard]] bool fell_back() const noexcept { return fell_back_.load(); }

 private:
  struct Open {
    std::uint32_t incarnation;
    OpenedFile opened;
    IoFile file;
  };

  VolumeFiles const& files_;
  std::atomic<bool> fell_back_{false};
  std::mutex mutex_;  // guards what follows
  AsyncFileIo* io_;
  std::unordered_map<std::uint32_t, Open> open_;
};

}  // namespace lmcache
