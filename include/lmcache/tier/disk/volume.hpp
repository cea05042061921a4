// SPDX-License-Identifier: Apache-2.0
// Opening a volume: which node may use it, and what is in it.
//
// One node uses a volume at a time, all its processes together, by a directory that they share in
// memory (disk_directory.hpp). The first process makes the directory out of the index on disk,
// without reading a payload, and writes its token into the volume; whoever comes later must find
// the directory with that token, or that nobody uses the volume any more.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <lmcache/base/clock.hpp>
#include <lmcache/base/log.hpp>
#include <lmcache/base/result.hpp>
#include <lmcache/tier/disk/disk_directory.hpp>
#include <lmcache/tier/disk/volume_files.hpp>

namespace lmcache {

struct VolumeOptions {
  std::vector<std::string> folders{};  // absolute paths
  std::uint64_t limit_bytes = 0;       // of all files together; 0 = a tenth of the free space
  // kLook: for those who look after a volume that is there: it is neither made nor made smaller.
  enum class Purpose : std::uint8_t { kUse, kLook } purpose = Purpose::kUse;
  std::string memory_folder = "/dev/shm";
  std::string role = "engine";
};

struct OpenVolume {
  VolumeFiles files;
  std::unique_ptr<DiskDirectory> directory;
  bool loaded = false;  // this process made the directory
};

// Reads the index when this process is the first of the node: 0.1 s per 100,000 chunks. Errors:
// kInvalidArgument (a folder that is not ours or belongs to another volume, a limit too small),
// kUnavailable (another node, or container with a /dev/shm of its own, uses it), kOutOfMemory (no
// room for the index), kTimeout, kIo.
[[nodiscard]] Result<OpenVolume> open_volume(VolumeOptions const& options, Clock const& clock,
                                             LogHook const& log);

// Fills the directory of a new segment out of the volume's files: entries whose slots can be there,
// the newer of two that claim a slot or a key. Slabs that nothing lies in are removed, and those
// used longest ago as far as the limit asks for it.
[[nodiscard]] Result<void> load_directory(DirectoryState& state, VolumeFiles const& files);

// Frees the records on disk that damage left without a chunk, durably. How many those were.
[[nodiscard]] Result<std::uint64_t> repair_index(DirectoryState& state, VolumeFiles const& files);

// The file of the directory of a volume. A copy of a volume has one of its own.
[[nodiscard]] std::string directory_path(std::string const& memory_folder, Id128 const& volume,
                                         VolumeFolder::FileIdentity const& file);

}  // namespace lmcache
