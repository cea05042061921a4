// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/disk/volume.hpp>

#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <functional>
#include <optional>
#include <span>
#include <thread>
#include <utility>

#include <lmcache/base/checksum.hpp>
#include <lmcache/base/fixed_text.hpp>

namespace lmcache {
namespace {

// Chunks smaller than this, on average, use up the index before the room.
constexpr std::uint64_t kBytesPerRecord = 64u << 10;
constexpr std::uint32_t kLeastRecords = 1024;
constexpr std::uint32_t kMostRecords = 1u << 22;
constexpr std::chrono::seconds kSetupTimeout{10};
constexpr std::chrono::seconds kLeavingTimeout{1};
constexpr std::uint64_t kSlabsWanted = 256;
constexpr std::uint64_t kLeastSlabBytes = 1u << 20;
constexpr std::uint64_t kMostSlabBytes = std::uint64_t{4} << 30;

Result<Id128> random_id() {
  Id128 out;
  if (::getrandom(out.data(), out.size(), 0) != static_cast<ssize_t>(out.size())) {
    return Error{ErrorCode::kIo, "getrandom", errno};
  }
  return out;
}

std::string host_name() {
  std::array<char, 64> name{};
  ::gethostname(name.data(), name.size() - 1);
  return name.data();
}

std::string megabytes(std::uint64_t bytes) { return std::to_string(bytes / 1'000'000) + " MB"; }

std::uint32_t records_for(std::uint64_t limit_bytes) {
  std::uint64_t const wanted =
      std::clamp<std::uint64_t>(limit_bytes / kBytesPerRecord, kLeastRecords, kMostRecords);
  return static_cast<std::uint32_t>(wanted);
}

// Opens what the volume is made of, one step after the other.
class Opening {
 public:
  Opening(VolumeOptions const& options, Clock const& clock, LogHook const& log)
      : options_{options}, clock_{clock}, log_{log} {}

  Result<OpenVolume> run() {
    // Who collects what is unused may take a directory away that we made and have not joined yet.
    constexpr int kMostAttempts = 16;
    for (int attempt = 1;; ++attempt) {
      auto opened = open_once();
      bool const taken =
          !opened && folders_.empty() && opened.error().code() == ErrorCode::kCancelled;
      if (!taken || attempt == kMostAttempts) return opened;
    }
  }

 private:
  Result<OpenVolume> open_once() {
    headers_.clear();
    // Whoever clears a volume may have removed its files while we waited for their locks.
    do {
      folders_.clear();
      LMC_TRY(open_folders());
    } while (std::ranges::any_of(
        folders_, [](VolumeFolder const& folder) { return folder.identity().removed; }));
    LMC_TRY(read_headers());
    memory_path_ = directory_path(options_.memory_folder, volume_, folders_.front().identity());
    // The last process of this node may be leaving at this moment: its directory is gone, its locks
    // are not yet.
    auto const deadline = std::chrono::steady_clock::now() + kLeavingTimeout;
    for (;;) {
      auto opened = attach();
      bool const again = !opened && !folders_.empty() &&  // nothing was made yet
                         (opened.error().code() == ErrorCode::kCancelled ||
                          opened.error().code() == ErrorCode::kUnavailable);
      if (!again || std::chrono::steady_clock::now() > deadline) {
        if (!opened) return opened;
        for (auto& folder : opened.value().files.folders()) folder.unlock_setup();
        return opened;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds{5});
    }
  }

  [[nodiscard]] bool looking() const { return options_.purpose == VolumeOptions::Purpose::kLook; }

  Result<void> open_folders() {
    auto paths = options_.folders;
    for (auto& path : paths) {
      while (path.size() > 1 && path.back() == '/') path.pop_back();
    }
    auto sorted = paths;
    std::ranges::sort(sorted);
    if (paths.empty() || paths.size() > kMaxFolders ||
        std::ranges::adjacent_find(sorted) != sorted.end()) {
      return Error{ErrorCode::kInvalidArgument,
                   "a disk cache has 1 to " + std::to_string(kMaxFolders) + " different folders"};
    }
    for (auto const& path : paths) {
      LMC_TRY_ASSIGN(auto folder, VolumeFolder::open(
                                      path, looking() ? IoCreate::kExisting : IoCreate::kAllowed));
      folders_.push_back(std::move(folder));
    }
    // In the same order by whoever opens them, so that two never wait for each other.
    std::vector<VolumeFolder*> order;
    for (auto& folder : folders_) order.push_back(&folder);
    std::ranges::sort(order, {}, [](VolumeFolder const* folder) { return folder->path(); });
    for (auto* const folder : order) LMC_TRY(folder->lock_setup(kSetupTimeout));
    return {};
  }

  Result<void> read_headers() {
    std::vector<std::optional<VolumeHeader>> found;
    for (auto const& folder : folders_) {
      auto header = folder.read_header();
      if (!header && header.error().code() == ErrorCode::kCorrupted) {
        lmcache::log(log_, LogLevel::kWarning,
                     header.error().message() + ": it is made anew, chunks there are kept");
        found.emplace_back();
        continue;
      }
      if (!header) return std::move(header).error();
      found.push_back(header.value());
    }
    auto const known = std::ranges::find_if(found, [](auto const& it) { return it.has_value(); });
    if (known == found.end()) {
      LMC_TRY_ASSIGN(volume_, random_id());
    } else {
      volume_ = (*known)->volume;
    }
    for (std::size_t i = 0; i < found.size(); ++i) {
      if (!found[i] || found[i]->volume == volume_) continue;
      return Error{ErrorCode::kInvalidArgument,
                   folders_[i].path() +
                       " belongs to another disk cache than the first folder: give the folders "
                       "that were used together, or clear one"};
    }
    return number_folders(found);
  }

  // All that ever belonged to the volume must be given, or what lies in the others could not be
  // found. Folders whose header is lost take the numbers that are missing, the one with the index
  // first; those that are new the numbers after.
  Result<void> number_folders(std::span<std::optional<VolumeHeader> const> found) {
    std::vector<std::optional<std::size_t>> given;  // by number
    std::vector<std::size_t> fresh;
    for (std::size_t i = 0; i < found.size(); ++i) {
      if (!found[i]) {
        fresh.push_back(i);
        continue;
      }
      auto const number = found[i]->folder;
      if (number >= given.size()) given.resize(number + 1);
      if (given[number]) {
        return Error{ErrorCode::kInvalidArgument,
                     folders_[i].path() + " is a copy of " + folders_[*given[number]].path()};
      }
      given[number] = i;
      if (given.size() < found[i]->folders) given.resize(found[i]->folders);
    }
    auto const highest = given.size();
    std::ranges::stable_sort(fresh, std::greater{},
                             [&](std::size_t i) { return index_records(folders_[i]) != 0; });
    auto const returning = [&](std::size_t i) {
      return index_records(folders_[i]) != 0 || !list_slabs({&folders_[i], 1}).empty();
    };
    for (auto& place : given) {
      if (place) continue;
      auto const lost = std::ranges::find_if(fresh, returning);
      if (lost == fresh.end()) {
        return Error{ErrorCode::kInvalidArgument, "the disk cache has " + std::to_string(highest) +
                                                      " folders, " + std::to_string(found.size()) +
                                                      " were given: give all of them, or clear it"};
      }
      place = *lost;
      fresh.erase(lost);
    }
    for (std::size_t const i : fresh) given.emplace_back(i);
    std::vector<VolumeFolder> in_order;
    for (auto const& place : given) {
      VolumeHeader header{};
      header.volume = volume_;
      header.folder = static_cast<std::uint32_t>(in_order.size());
      header.created_unix_s = clock_.unix_seconds();
      headers_.push_back(found[*place].value_or(header));
      in_order.push_back(std::move(folders_[*place]));
    }
    folders_ = std::move(in_order);
    return {};
  }

  // kCancelled: once more.
  Result<OpenVolume> attach() {
    auto segment = Segment::attach(memory_path_, SegmentKind::kDiskDirectory);
    if (segment) {
      DirectoryState const state{*segment.value()};
      bool const same = std::ranges::all_of(headers_, [&](VolumeHeader const& header) {
        return header.directory == state.space.directory;
      });
      if (same) return join(std::move(segment).value());
    }
    for (auto& folder : folders_) {
      auto alone = folder.lock_use(VolumeFolder::Use::kExclusive);
      if (alone) continue;
      if (alone.error().code() != ErrorCode::kUnavailable) return std::move(alone).error();
      return Error{ErrorCode::kUnavailable,
                   folder.path() + " is used by another node (" +
                       std::string{text_in(headers_.front().host)} +
                       "), or by a container with a /dev/shm of its own: give each its own folder"};
    }
    // A directory of before a crash, or of another version: nobody uses it.
    if (segment || segment.error().code() != ErrorCode::kUnavailable) {
      ::unlink(memory_path_.c_str());
    }
    return make();
  }

  Result<OpenVolume> join(std::unique_ptr<Segment> segment) {
    for (auto& folder : folders_) LMC_TRY(folder.lock_use(VolumeFolder::Use::kShared));
    LMC_TRY_ASSIGN(auto directory, DiskDirectory::join(std::move(segment), clock_, options_.role));
    if (!looking()) adopt_limit(*directory);
    auto const use = directory->use();
    capacity_ = static_cast<std::uint32_t>(use.record_capacity);
    if (!looking() && options_.limit_bytes != 0 && options_.limit_bytes != use.limit_bytes) {
      lmcache::log(log_, LogLevel::kInfo,
                   "the disk cache " + folders_.front().path() + " is in use with a limit of " +
                       megabytes(use.limit_bytes) + "; the " + megabytes(options_.limit_bytes) +
                       " asked for here do not change it");
    }
    LMC_TRY_ASSIGN(auto files, VolumeFiles::open(std::move(folders_), capacity_));
    return OpenVolume{.files = std::move(files), .directory = std::move(directory)};
  }

  Result<OpenVolume> make() {
    LMC_TRY_ASSIGN(token_, random_id());
    auto const count = static_cast<std::uint32_t>(folders_.size());
    plan_limit();
    fixed_ = fixed_file_bytes(count, capacity_);
    if (looking()) limit_ += fixed_ + kLeastSlabBytes;
    if (limit_ < fixed_ + kLeastSlabBytes) {
      return Error{ErrorCode::kInvalidArgument,
                   "a disk cache of " + std::to_string(limit_) + " bytes is too small: " +
                       std::to_string(fixed_ + kLeastSlabBytes) + " are needed at least"};
    }
    LMC_TRY_ASSIGN(auto files, VolumeFiles::open(std::move(folders_), capacity_));
    files_ = &files;
    SegmentOptions wanted{};
    wanted.name = memory_path_;
    wanted.payload_bytes = wanted.extent_bytes = kExtentAlignBytes;  // none is used
    wanted.remove_when_unused = true;
    wanted.kind = SegmentKind::kDiskDirectory;
    auto const region = [&](Region id) -> RegionRequest& {
      return wanted.regions[static_cast<std::size_t>(id)];
    };
    region(Region::kProcesses) = {ProcessTable::region_bytes(), true};
    region(Region::kExtents) = {kMaxSlabs * sizeof(SlabRecord), true};
    region(Region::kBuckets) = {std::bit_ceil(std::uint64_t{capacity_} * 2) * 4, true};
    region(Region::kEntries) = {capacity_ * sizeof(DiskEntry), false};
    region(Region::kRecency) = {capacity_ * sizeof(RecencyNode), false};
    region(Region::kSpace) = {sizeof(DirectorySpace), true};
    LMC_TRY_ASSIGN(auto segment, Segment::open_or_create(wanted, &Opening::fill, this, log_));
    for (std::uint32_t i = 0; i < count; ++i) {
      headers_[i].directory = token_;
      headers_[i].folders = count;
      headers_[i].record_capacity = capacity_;
      copy_text(headers_[i].host, host_name());
      LMC_TRY(files.folders()[i].write_header(headers_[i]));
      LMC_TRY(files.folders()[i].lock_use(VolumeFolder::Use::kShared));
    }
    LMC_TRY_ASSIGN(auto directory, DiskDirectory::join(std::move(segment), clock_, options_.role));
    if (!looking() && directory->use().damaged_records != 0) {
      LMC_TRY(repair_index(directory->state(), files));
    }
    return OpenVolume{.files = std::move(files), .directory = std::move(directory), .loaded = true};
  }

  void plan_limit() {
    std::uint64_t slabs = 0;
    for (auto const& slab : list_slabs(folders_)) slabs += slab.size_bytes;
    capacity_ = headers_.front().record_capacity;
    if (capacity_ == 0) {  // a new header, of a new volume or of one that lost it
      capacity_ = static_cast<std::uint32_t>(
          std::min<std::uint64_t>(index_records(folders_.front()), kMostRecords));
    }
    limit_ = options_.limit_bytes;
    if (looking()) {
      limit_ = slabs;
      if (capacity_ == 0) capacity_ = kLeastRecords;
      return;
    }
    // What the volume itself took is free for it.
    if (limit_ == 0) limit_ = (free_bytes(folders_) + slabs) / 10;
    capacity_ = std::max(capacity_, records_for(limit_));
  }

  // One who only looks made the directory.
  void adopt_limit(DiskDirectory& directory) {
    plan_limit();
    auto& state = directory.state();
    auto const guard = state.lock(kSetupTimeout);
    if (!guard || state.space.made_to_look.exchange(0) == 0) return;
    auto& space = state.space;
    space.limit_bytes = std::max(limit_, space.fixed_bytes + space.slab_bytes);
    space.slab_target_bytes = slab_target(space.limit_bytes - space.fixed_bytes);
  }

  [[nodiscard]] static std::uint64_t slab_target(std::uint64_t room) {
    return std::clamp(room / kSlabsWanted, kLeastSlabBytes, kMostSlabBytes);
  }

  static Result<void> fill(Segment& fresh, void* context) {
    auto& self = *static_cast<Opening*>(context);
    DirectoryState state{fresh};
    auto& space = state.space;
    space.volume = self.volume_;
    space.directory = self.token_;
    space.limit_bytes = self.limit_;
    space.fixed_bytes = self.fixed_;
    space.folder_count = static_cast<std::uint32_t>(self.files_->folders().size());
    std::string paths;
    for (auto const& folder : self.files_->folders()) paths += folder.path() + "\n";
    copy_text(space.folder_paths, paths);
    space.made_to_look = self.looking() ? 1 : 0;
    space.slab_target_bytes = slab_target(self.limit_ - self.fixed_);
    return load_directory(state, *self.files_);
  }

  VolumeOptions const& options_;
  Clock const& clock_;
  LogHook const& log_;
  std::vector<VolumeFolder> folders_;
  std::vector<VolumeHeader> headers_;
  Id128 volume_{};
  Id128 token_{};
  std::string memory_path_;
  std::uint32_t capacity_ = 0;
  std::uint64_t limit_ = 0;
  std::uint64_t fixed_ = 0;
  VolumeFiles const* files_ = nullptr;
};

}  // namespace

std::string directory_path(std::string const& memory_folder, Id128 const& volume,
                           VolumeFolder::FileIdentity const& file) {
  std::array<std::uint64_t, 4> named{load_le<std::uint64_t>(volume.data()),
                                     load_le<std::uint64_t>(volume.data() + 8), file.device,
                                     file.inode};
  std::array<std::uint8_t, 8> hash;
  store_le(hash.data(), checksum64(std::as_bytes(std::span{named})));
  return memory_folder + "/lmcache-disk-" + std::to_string(::geteuid()) + "-" +
         to_hex(std::span{hash});
}

Result<OpenVolume> open_volume(VolumeOptions const& options, Clock const& clock,
                               LogHook const& log) {
  auto opened = Opening{options, clock, log}.run();
  if (!opened) return std::move(opened).error().with_context("disk cache");
  return opened;
}

}  // namespace lmcache
