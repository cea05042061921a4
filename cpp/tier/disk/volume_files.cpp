// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/disk/volume_files.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string_view>

#include "tier/disk/index_reader.hpp"

namespace lmcache {
namespace {

Error failure(std::string const& what) {
  int const error = errno;
  bool const room = error == ENOSPC || error == EDQUOT;
  return {room ? ErrorCode::kOutOfMemory : ErrorCode::kIo, what + ": " + std::strerror(error),
          error};
}

std::string slab_name(std::uint32_t slab) { return "slab-" + std::to_string(slab); }

std::optional<std::uint32_t> slab_number(std::string_view name) {
  constexpr std::string_view kPrefix = "slab-";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  std::uint32_t number = 0;
  auto const [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  bool const whole = error == std::errc{} && end == name.data() + name.size();
  return whole && number < kMaxSlabs ? std::optional{number} : std::nullopt;
}

struct CloseFolder {
  void operator()(DIR* folder) const noexcept { ::closedir(folder); }
};

Result<void> write_whole(int fd, std::span<std::byte const> bytes, std::uint64_t offset,
                         char const* what) {
  while (!bytes.empty()) {
    ssize_t const put = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return failure(what);
    bytes = bytes.subspan(static_cast<std::size_t>(put));
    offset += static_cast<std::uint64_t>(put);
  }
  return {};
}

// As far as the file goes.
Result<std::vector<std::byte>> read_up_to(int fd, std::uint64_t offset, std::uint64_t size_bytes,
                                          char const* what) {
  std::vector<std::byte> out(size_bytes);
  std::uint64_t done = 0;
  while (done < size_bytes) {
    ssize_t const got =
        ::pread(fd, out.data() + done, size_bytes - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failure(what);
    if (got == 0) break;
    done += static_cast<std::uint64_t>(got);
  }
  out.resize(done);
  return out;
}

UniqueFd open_file(int folder, char const* name, int flags) {
  return UniqueFd{::openat(folder, name, flags | O_CLOEXEC | O_NOFOLLOW, 0600)};
}

Result<std::vector<std::byte>> read_file(int folder, char const* name, std::uint64_t most_bytes) {
  auto const fd = open_file(folder, name, O_RDONLY);
  if (!fd && errno == ENOENT) return std::vector<std::byte>{};
  if (!fd) return failure(name);
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return failure(name);
  auto const size_bytes =
      std::min<std::uint64_t>(static_cast<std::uint64_t>(info.st_size), most_bytes);
  return read_up_to(fd.get(), 0, size_bytes, name);
}

}  // namespace

Result<VolumeFiles> VolumeFiles::open(std::vector<VolumeFolder> folders,
                                      std::uint32_t record_capacity) {
  LMC_TRY_ASSIGN(auto opened,
                 open_io_file(folders.front().fd(), "index", {.caching = IoCaching::kBuffered}));
  auto allocated = allocate_file(opened.fd.get(), disk_slot_bytes(index_offset(record_capacity)));
  if (!allocated) {
    return std::move(allocated).error().with_context(folders.front().path() + "/index");
  }
  return VolumeFiles{std::move(folders), std::move(opened.fd)};
}

Result<void> VolumeFiles::write_record(std::uint32_t number, IndexRecord record) const {
  seal(record, number);
  return write_whole(index_.get(), std::as_bytes(std::span{&record, 1}), index_offset(number),
                     "cannot write the index");
}

Result<void> VolumeFiles::free_record(std::uint32_t number) const {
  return write_record(number, IndexRecord{});
}

Result<void> VolumeFiles::sync_index() const {
  if (::fdatasync(index_.get()) != 0) return failure("cannot sync the index");
  return {};
}

Result<void> VolumeFiles::sync_folder(std::uint32_t folder) const {
  if (::fsync(folders_[folder].fd()) != 0) {
    return failure("cannot sync the folder " + folders_[folder].path());
  }
  return {};
}

Result<void> VolumeFiles::read_index(std::uint32_t records, Consume const& consume) const {
  // A failure means that there is no way past the page cache.
  auto const direct = open_io_file(
      folders_.front().fd(), "index",
      {.access = IoAccess::kRead, .create = IoCreate::kExisting, .caching = IoCaching::kDirect});
  bool const usable =
      direct && direct.value().direct && direct.value().alignment_bytes <= kDiskPageBytes;
  detail::IndexReader reader{{.fd = index_.get(),
                              .direct_fd = usable ? direct.value().fd.get() : -1,
                              .size_bytes = disk_slot_bytes(index_offset(records))}};
  for (std::uint32_t first = 0; first < records;) {
    LMC_TRY_ASSIGN(auto piece, reader.next());
    piece = piece.first(std::min<std::uint64_t>(piece.size(), index_offset(records - first)));
    auto const count = static_cast<std::uint32_t>(piece.size() / sizeof(IndexRecord));
    if (count == 0) return {};
    consume(first, piece);
    first += count;
  }
  return {};
}

void VolumeFiles::warm_index(std::uint32_t records) const noexcept {
  (void)::posix_fadvise(index_.get(), 0, static_cast<off_t>(index_offset(records)),
                        POSIX_FADV_WILLNEED);
}

Result<OpenedFile> VolumeFiles::open_slab(std::uint32_t folder, std::uint32_t slab,
                                          IoCaching caching) const {
  return open_io_file(folders_[folder].fd(), slab_name(slab),
                      {.create = IoCreate::kExisting, .caching = caching});
}

Result<void> VolumeFiles::make_slab(std::uint32_t folder, std::uint32_t slab,
                                    std::uint64_t size_bytes) const {
  remove_slab(folder, slab);
  LMC_TRY_ASSIGN(auto const opened,
                 open_io_file(folders_[folder].fd(), slab_name(slab),
                              {.create = IoCreate::kNew, .caching = IoCaching::kBuffered}));
  auto allocated = allocate_file(opened.fd.get(), size_bytes);
  if (allocated) return {};
  remove_slab(folder, slab);
  return std::move(allocated).error().with_context(folders_[folder].path());
}

void VolumeFiles::remove_slab(std::uint32_t folder, std::uint32_t slab) const noexcept {
  // Cut first: a process that has it open would keep its room otherwise.
  if (auto const fd = open_file(folders_[folder].fd(), slab_name(slab).c_str(), O_RDWR)) {
    (void)::ftruncate(fd.get(), 0);
  }
  ::unlinkat(folders_[folder].fd(), slab_name(slab).c_str(), 0);
}

std::vector<FoundSlab> list_slabs(std::span<VolumeFolder const> folders) {
  std::vector<FoundSlab> out;
  for (std::uint32_t folder = 0; folder < folders.size(); ++folder) {
    int const copy = ::openat(folders[folder].fd(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    std::unique_ptr<DIR, CloseFolder> const listing{copy >= 0 ? ::fdopendir(copy) : nullptr};
    if (!listing) continue;
    while (auto const* entry = ::readdir(listing.get())) {
      auto const number = slab_number(entry->d_name);
      struct stat info{};
      if (!number ||
          ::fstatat(folders[folder].fd(), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 ||
          !S_ISREG(info.st_mode)) {
        continue;
      }
      out.push_back({.folder = folder,
                     .slab = *number,
                     .size_bytes = static_cast<std::uint64_t>(info.st_size)});
    }
  }
  return out;
}

Result<UseOrder> VolumeFiles::read_order() const {
  constexpr std::uint64_t kMostBytes = std::uint64_t{64} << 20;
  LMC_TRY_ASSIGN(auto const bytes, read_file(folders_.front().fd(), "order", kMostBytes));
  return parse_order(bytes);
}

std::uint64_t VolumeFiles::order_records() const noexcept {
  struct stat info{};
  if (::fstatat(folders_.front().fd(), "order", &info, AT_SYMLINK_NOFOLLOW) != 0) return 0;
  return static_cast<std::uint64_t>(info.st_size) / sizeof(std::uint64_t);
}

Result<void> VolumeFiles::write_order(UseOrder const& order, Sync sync) const {
  auto const bytes = encode_order(order);
  int const folder = folders_.front().fd();
  auto const fd = open_file(folder, "order.new", O_WRONLY | O_CREAT | O_TRUNC);
  if (!fd) return failure("cannot make the file order.new");
  auto written = write_whole(fd.get(), bytes, 0, "cannot write the file order.new");
  if (written && sync == Sync::kYes && ::fdatasync(fd.get()) != 0) {
    written = failure("cannot sync the file order.new");
  }
  if (!written) {
    ::unlinkat(folder, "order.new", 0);
    return written;
  }
  if (::renameat(folder, "order.new", folder, "order") != 0) {
    return failure("cannot rename the file order.new");
  }
  return {};
}

std::vector<ModelRecord> VolumeFiles::read_models() const {
  std::vector<ModelRecord> out;
  auto const bytes = read_file(folders_.front().fd(), "models", kMaxModels * sizeof(ModelRecord));
  if (!bytes) return out;
  std::span<std::byte const> rest{bytes.value()};
  for (; rest.size() >= sizeof(ModelRecord); rest = rest.subspan(sizeof(ModelRecord))) {
    if (auto const record = parse_model_record(rest)) out.push_back(*record);
  }
  return out;
}

Result<void> VolumeFiles::write_model(ModelRecord record) const {
  auto models = read_models();
  std::erase_if(models, [&](ModelRecord const& known) { return known.root == record.root; });
  // The one that was written longest ago gives way.
  if (models.size() == kMaxModels) models.erase(models.begin());
  seal(record);
  models.push_back(record);
  int const folder = folders_.front().fd();
  auto const fd = open_file(folder, "models.new", O_WRONLY | O_CREAT | O_TRUNC);
  if (!fd) return failure("cannot make the file models.new");
  LMC_TRY(write_whole(fd.get(), std::as_bytes(std::span{models}), 0,
                      "cannot write the file models.new"));
  if (::renameat(folder, "models.new", folder, "models") != 0) {
    return failure("cannot rename the file models.new");
  }
  return {};
}

std::uint64_t index_records(VolumeFolder const& folder) {
  struct stat info{};
  if (::fstatat(folder.fd(), "index", &info, AT_SYMLINK_NOFOLLOW) != 0) return 0;
  return static_cast<std::uint64_t>(info.st_size) / sizeof(IndexRecord);
}

std::uint64_t free_bytes(std::span<VolumeFolder const> folders) {
  std::uint64_t sum = 0;
  std::vector<unsigned long> seen;
  for (auto const& folder : folders) {
    struct statvfs info{};
    if (::fstatvfs(folder.fd(), &info) != 0) continue;
    // Two folders of one file system share its room.
    if (std::ranges::find(seen, info.f_fsid) != seen.end()) continue;
    seen.push_back(info.f_fsid);
    sum += std::uint64_t{info.f_bavail} * info.f_frsize;
  }
  return sum;
}

}  // namespace lmcache
