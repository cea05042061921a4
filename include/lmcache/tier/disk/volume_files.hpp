// SPDX-License-Identifier: Apache-2.0
// The files of a volume, as one process has them open.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <lmcache/base/result.hpp>
#include <lmcache/base/unique_fd.hpp>
#include <lmcache/io/io_file.hpp>
#include <lmcache/tier/disk/disk_format.hpp>

namespace lmcache {

// One folder: its descriptor, and the file `volume` in it, by whose locks nodes keep apart (OFD
// locks, fcntl(2): they hold across processes of a machine, and across machines where the file
// system supports it).
class VolumeFolder {
 public:
  // kAllowed makes the folder, mode 0700, and the file when they are not there. Errors:
  // kInvalidArgument (another user's, no folder), kUnavailable (no disk cache there),
  // kOutOfMemory (disk or inodes full), kIo.
  [[nodiscard]] static Result<VolumeFolder> open(std::string const& path, IoCreate create);

  // Held while a process opens the volume or writes `order` or `models`. Blocks. Errors: kTimeout,
  // kIo (no locks on this file system).
  [[nodiscard]] Result<void> lock_setup(std::chrono::milliseconds timeout);
  void unlock_setup() noexcept;
  // Held by every process that uses the volume. Errors: kUnavailable when another node holds it.
  enum class Use : std::uint8_t { kShared, kExclusive };
  [[nodiscard]] Result<void> lock_use(Use use);
  // Gives the locks up, also when a fork has the file open; in that fork it does not.
  ~VolumeFolder();
  VolumeFolder(VolumeFolder&&) noexcept = default;
  VolumeFolder& operator=(VolumeFolder&&) noexcept = default;

  // Nothing: a new file. Errors: those of parse_volume_header().
  [[nodiscard]] Result<std::optional<VolumeHeader>> read_header() const;
  [[nodiscard]] Result<void> write_header(VolumeHeader const& header) const;

  // Of the file `volume`: a copy of the folder has another one.
  struct FileIdentity {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    bool removed = false;  // the name was taken away since it was opened
  };
  [[nodiscard]] FileIdentity identity() const noexcept;

  [[nodiscard]] std::string const& path() const noexcept { return path_; }
  [[nodiscard]] int fd() const noexcept { return folder_.get(); }

 private:
  VolumeFolder() = default;

  std::string path_;
  UniqueFd folder_;
  UniqueFd volume_;
  std::int32_t opened_by_{0};  // process
};

// The other files. Thread-safe but for open and the slabs, which are the business of one thread.
class VolumeFiles {
 public:
  // `folders` by their number in the volume.
  [[nodiscard]] static Result<VolumeFiles> open(std::vector<VolumeFolder> folders,
                                                std::uint32_t record_capacity);

  [[nodiscard]] Result<void> write_record(std::uint32_t number, IndexRecord record) const;
  [[nodiscard]] Result<void> free_record(std::uint32_t number) const;
  [[nodiscard]] Result<void> sync_index() const;
  // That files were made in it.
  [[nodiscard]] Result<void> sync_folder(std::uint32_t folder) const;
  // All of the index, in pieces of whole records; the next ones are read meanwhile.
  using Consume = std::function<void(std::uint32_t first, std::span<std::byte const> bytes)>;
  [[nodiscard]] Result<void> read_index(std::uint32_t records, Consume const& consume) const;
  // Lets the kernel read so many records into its page cache, so that writing some does not wait
  // for what lies beside them. Returns before they are there.
  void warm_index(std::uint32_t records) const noexcept;

  [[nodiscard]] Result<OpenedFile> open_slab(std::uint32_t folder, std::uint32_t slab,
                                             IoCaching caching) const;
  // Makes it anew, with all its room. Errors: kOutOfMemory, kIo.
  [[nodiscard]] Result<void> make_slab(std::uint32_t folder, std::uint32_t slab,
                                       std::uint64_t size_bytes) const;
  // Gives its room back, also when others have it open.
  void remove_slab(std::uint32_t folder, std::uint32_t slab) const noexcept;

  [[nodiscard]] Result<UseOrder> read_order() const;
  // Of how many entries it tells, by its size.
  [[nodiscard]] std::uint64_t order_records() const noexcept;
  enum class Sync : std::uint8_t { kNo, kYes };
  // In one step, so that a crash leaves the old one or the new one.
  [[nodiscard]] Result<void> write_order(UseOrder const& order, Sync sync) const;

  [[nodiscard]] std::vector<ModelRecord> read_models() const;
  // Adds it, or replaces that of the same root. One caller at a time (the setup lock).
  [[nodiscard]] Result<void> write_model(ModelRecord record) const;

  [[nodiscard]] std::vector<VolumeFolder>& folders() noexcept { return folders_; }
  [[nodiscard]] std::vector<VolumeFolder> const& folders() const noexcept { return folders_; }

 private:
  VolumeFiles(std::vector<VolumeFolder> folders, UniqueFd index) noexcept
      : folders_{std::move(folders)}, index_{std::move(index)} {}

  std::vector<VolumeFolder> folders_;
  UniqueFd index_;
};

struct FoundSlab {
  std::uint32_t folder;
  std::uint32_t slab;
  std::uint64_t size_bytes;
};
[[nodiscard]] std::vector<FoundSlab> list_slabs(std::span<VolumeFolder const> folders);
// Bytes that the file systems of the folders have free.
[[nodiscard]] std::uint64_t free_bytes(std::span<VolumeFolder const> folders);

// How many records the folder's index has room for; 0 = it has none.
[[nodiscard]] std::uint64_t index_records(VolumeFolder const& folder);

inline constexpr std::size_t kMaxModels = 64;
// Bytes of the files that are no slabs.
[[nodiscard]] constexpr std::uint64_t fixed_file_bytes(std::uint32_t folders,
                                                       std::uint32_t records) noexcept {
  constexpr std::uint64_t kModels = 2 * kMaxModels * sizeof(ModelRecord);  // the old and the new
  std::uint64_t const index = disk_slot_bytes(std::uint64_t{records} * sizeof(IndexRecord));
  return folders * kDiskPageBytes + index + 2 * order_file_bytes(records) + kModels;
}

}  // namespace lmcache
