// SPDX-License-Identifier: Apache-2.0
// A volume that is opened without a tier: what lies where is decided, and nothing is written.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <lmcache/tier/disk/volume.hpp>

#include "support/disk_scene.hpp"
#include "support/log_lines.hpp"
#include "support/manual_clock.hpp"
#include "support/must.hpp"
#include "support/temp_directory.hpp"

namespace lmcache::test {

class VolumeScene {
 public:
  explicit VolumeScene(std::uint64_t limit_bytes = 4u << 20, int folders = 1) {
    for (int i = 0; i < folders; ++i) {
      options.folders.push_back(folder_.path() + "/d" + std::to_string(i));
    }
    options.limit_bytes = limit_bytes;
    options.memory_folder = folder_.path();
  }

  [[nodiscard]] Result<OpenVolume> try_open() const {
    return open_volume(options, clock, log.hook());
  }
  DiskDirectory& open() {
    volume_.emplace(must(try_open()));
    return *volume_->directory;
  }
  void close() { volume_.reset(); }
  // The directory in memory is gone, as after a reboot.
  void forget_memory() const {
    for (auto const& file : std::filesystem::directory_iterator{folder_.path()}) {
      if (file.is_regular_file()) std::filesystem::remove(file.path());
    }
  }
  [[nodiscard]] DiskDirectory& directory() { return *volume_->directory; }
  [[nodiscard]] DirectoryState& state() { return volume_->directory->state(); }
  [[nodiscard]] VolumeFiles& files() { return volume_->files; }
  [[nodiscard]] OpenVolume& volume() { return *volume_; }
  [[nodiscard]] std::string const& path(int folder = 0) const {
    return options.folders[static_cast<std::size_t>(folder)];
  }
  [[nodiscard]] std::string const& root() const { return folder_.path(); }

  // Room for a chunk, slabs being made as they are asked for. Nothing: refused.
  [[nodiscard]] std::optional<WriteGrant> allocate(std::uint64_t seed, std::uint64_t slot_bytes) {
    return allocate(directory(), seed, slot_bytes);
  }
  [[nodiscard]] std::optional<WriteGrant> allocate(DiskDirectory& directory, std::uint64_t seed,
                                                   std::uint64_t slot_bytes) {
    for (int tries = 0; tries < 10; ++tries) {
      auto allocation = directory.allocate(disk_key(seed), slot_bytes);
      if (!allocation) {
        refused = allocation.error().code();
        return std::nullopt;
      }
      if (auto* const grant = std::get_if<WriteGrant>(&allocation.value())) return *grant;
      tasks.push_back(std::get<SlabTask>(allocation.value()));
      if (make_files && tasks.back().slab != kNoSlab) {
        must(files().make_slab(tasks.back().folder, tasks.back().slab, tasks.back().size_bytes));
      }
      directory.finish_slab(tasks.back(), DiskDirectory::SlabOutcome::kMade);
    }
    return std::nullopt;
  }
  static DiskChunkFacts facts(std::uint64_t payload_bytes) {
    return {.payload_bytes = payload_bytes, .valid_tokens = 7};
  }
  // A chunk that is there; with make_files, its index record too.
  std::optional<WriteGrant> put(std::uint64_t seed, std::uint64_t slot_bytes) {
    auto const grant = allocate(seed, slot_bytes);
    if (!grant) return grant;
    auto const now = directory().now();
    if (make_files)
      must(files().write_record(grant->place.record, record_of(seed, grant->place, now)));
    directory().commit(grant->place, facts(slot_bytes / 2), now);
    return grant;
  }
  [[nodiscard]] static IndexRecord record_of(std::uint64_t seed, DiskPlace const& place,
                                             std::uint64_t last_use) {
    IndexRecord out{};
    out.used = 1;
    out.sequence = place.sequence;
    out.key = disk_key(seed);
    out.slab = place.slab;
    out.offset = place.offset;
    out.slot_bytes = place.slot_bytes;
    out.payload_bytes = place.slot_bytes / 2;
    out.valid_tokens = 7;
    out.last_use = last_use;
    return out;
  }
  [[nodiscard]] bool has(std::uint64_t seed) { return find(seed).has_value(); }
  [[nodiscard]] std::optional<DiskPlace> find(std::uint64_t seed) {
    ChunkKey const key = disk_key(seed);
    std::optional<DiskPlace> place;
    directory().find({&key, 1}, {&place, 1});
    return place;
  }
  [[nodiscard]] std::optional<DiskPlace> begin_read(std::uint64_t seed) {
    ChunkKey const key = disk_key(seed);
    std::optional<DiskPlace> place;
    directory().begin_reads({&key, 1}, {&place, 1});
    return place;
  }
  void touch(std::uint64_t seed) {
    ChunkKey const key = disk_key(seed);
    directory().touch({&key, 1});
  }

  VolumeOptions options;
  ManualClock clock;
  LogLines log;
  bool make_files = false;
  std::vector<SlabTask> tasks;
  std::optional<ErrorCode> refused;

 private:
  TempDirectory folder_;
  std::optional<OpenVolume> volume_;
};

}  // namespace lmcache::test
