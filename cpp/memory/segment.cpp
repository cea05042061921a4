// SPDX-License-Identifier: Apache-2.0
#include <lmcache/memory/segment.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <new>
#include <utility>

#include <lmcache/memory/segment_file.hpp>

namespace lmcache {
namespace {

constexpr std::uint64_t align_up_to(std::uint64_t value, std::uint64_t step) {
  return (value + step - 1) / step * step;
}

constexpr std::uint64_t kMaxExtents = 1u << 24;  // 32 TiB of the smallest ones

struct FileLayout {
  std::array<RegionSpan, kRegionCount> regions;
  std::uint64_t payload_offset;
  std::uint64_t extent_bytes;
  std::uint32_t extent_count;
  std::uint64_t file_bytes;
};

Result<FileLayout> plan(SegmentOptions const& options) {
  FileLayout layout{};
  std::uint64_t offset = align_up_to(sizeof(SegmentHeader), kPageBytes);
  for (std::size_t i = 0; i < kRegionCount; ++i) {
    std::uint64_t const size_bytes = align_up_to(options.regions[i].size_bytes, kPageBytes);
    layout.regions[i] = {offset, size_bytes};
    offset += size_bytes;
  }
  layout.payload_offset = align_up_to(offset, kExtentAlignBytes);
  layout.extent_bytes = align_up_to(options.extent_bytes, kExtentAlignBytes);
  if (layout.extent_bytes == 0 || options.payload_bytes < layout.extent_bytes) {
    return Error{ErrorCode::kInvalidArgument,
                 "a segment of " + std::to_string(options.payload_bytes) +
                     " bytes is too small: it needs room for at least one extent of " +
                     std::to_string(layout.extent_bytes) + " bytes"};
  }
  std::uint64_t const extents = options.payload_bytes / layout.extent_bytes;
  if (extents > kMaxExtents) {
    return Error{ErrorCode::kInvalidArgument,
                 "a segment of " + std::to_string(options.payload_bytes) + " bytes has " +
                     std::to_string(extents) + " extents, " + std::to_string(kMaxExtents) +
                     " are allowed"};
  }
  layout.extent_count = static_cast<std::uint32_t>(extents);
  layout.file_bytes = layout.payload_offset + layout.extent_bytes * layout.extent_count;
  return layout;
}

// The whole capacity must be there when we start, not when the last chunk arrives: a tmpfs that is
// too small is reported here, with numbers.
Result<void> check_space(std::string const& path, std::uint64_t file_bytes) {
  std::string const directory = segment_directory(path);
  LMC_TRY_ASSIGN(auto const available, free_bytes(directory));
  if (file_bytes <= available) return {};
  auto const megabytes = [](std::uint64_t bytes) {
    return std::to_string(bytes / 1'000'000) + " MB";
  };
  return Error{
      ErrorCode::kOutOfMemory,
      directory + " has " + megabytes(available) + " free, the segment needs " +
          megabytes(file_bytes) +
          ": lower max_local_cpu_size, or enlarge it (mount -o remount,size=..., docker run "
          "--shm-size=...)"};
}

// A header can be trusted when nothing that it points to lies outside of the file.
bool consistent(SegmentHeader const& header, std::uint64_t file_bytes) {
  if (header.file_bytes != file_bytes || header.payload_offset > file_bytes) return false;
  if (header.payload_offset % kExtentAlignBytes != 0) return false;
  if (header.extent_bytes == 0 || header.extent_bytes % kExtentAlignBytes != 0) return false;
  std::uint64_t const payload_bytes = file_bytes - header.payload_offset;
  if (header.extent_count == 0 || payload_bytes / header.extent_bytes != header.extent_count ||
      payload_bytes % header.extent_bytes != 0) {
    return false;
  }
  return std::ranges::all_of(header.regions, [&](RegionSpan const& span) {
    return span.offset >= sizeof(SegmentHeader) && span.offset <= header.payload_offset &&
           span.size_bytes <= header.payload_offset - span.offset;
  });
}

}  // namespace

Segment::~Segment() {
  if (header_ != nullptr && !stays_mapped_) ::munmap(header_, mapped_bytes_);
}

Result<void> Segment::map(std::uint64_t file_bytes) {
  void* const address =
      ::mmap(nullptr, file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd_.get(), 0);
  if (address == MAP_FAILED) {
    return Error{ErrorCode::kOutOfMemory,
                 "cannot map " + std::to_string(file_bytes) + " bytes: " + std::strerror(errno),
                 errno};
  }
  header_ = static_cast<SegmentHeader*>(address);
  mapped_bytes_ = file_bytes;
  return {};
}

Result<std::unique_ptr<Segment>> Segment::create(SegmentOptions const& options,
                                                 std::string const& path, Initialise initialise,
                                                 void* context) {
  LMC_TRY_ASSIGN(auto const layout, plan(options));
  std::unique_ptr<Segment> segment{new Segment};
  segment->path_ = path;
  segment->created_ = true;
  auto const fill = [&](int fd) -> Result<void> {
    segment->fd_ = UniqueFd{::dup(fd)};
    if (!segment->fd_) return Error{ErrorCode::kIo, "dup", errno};
    LMC_TRY(reserve_bytes(fd, 0, align_up_to(sizeof(SegmentHeader), kPageBytes)));
    for (std::size_t i = 0; i < kRegionCount; ++i) {
      auto const& [offset, size_bytes] = layout.regions[i];
      if (options.regions[i].reserve) LMC_TRY(reserve_bytes(fd, offset, size_bytes));
    }
    LMC_TRY(segment->map(layout.file_bytes));
    auto* const header = new (segment->header_) SegmentHeader{};
    header->magic = kSegmentMagic;
    header->layout_version = kSegmentLayoutVersion;
    header->owner_uid = geteuid();
    header->file_bytes = layout.file_bytes;
    header->payload_offset = layout.payload_offset;
    header->extent_bytes = layout.extent_bytes;
    header->extent_count = layout.extent_count;
    header->remove_when_unused = options.remove_when_unused ? 1 : 0;
    header->created_unix_s = ::time(nullptr);
    header->kind = options.kind;
    header->regions = layout.regions;
    header->usable_extents = layout.extent_count;
    LMC_TRY(header->space_lock.init());
    segment->payload_ = reinterpret_cast<std::byte*>(header) + layout.payload_offset;
    return initialise(*segment, context);
  };
  if (path.empty()) {
    LMC_TRY_ASSIGN(auto const fd, make_private_file(layout.file_bytes));
    LMC_TRY(fill(fd.get()));
  } else {
    LMC_TRY(check_space(path, layout.file_bytes));
    LMC_TRY_ASSIGN(auto const fd, publish_segment_file(path, layout.file_bytes, fill));
  }
  return segment;
}

Result<std::unique_ptr<Segment>> Segment::attach(std::string const& path, SegmentKind kind) {
  std::unique_ptr<Segment> segment{new Segment};
  segment->path_ = path;
  LMC_TRY_ASSIGN(segment->fd_, open_segment_file(path));
  // Read, not mapped: a truncated or foreign file must give an error, not a SIGBUS.
  SegmentHeader const* header = nullptr;
  alignas(SegmentHeader) std::array<std::byte, sizeof(SegmentHeader)> raw;
  struct stat info{};
  if (::fstat(segment->fd_.get(), &info) != 0) return Error{ErrorCode::kIo, "fstat", errno};
  auto const file_bytes = static_cast<std::uint64_t>(info.st_size);
  bool const read_whole =
      ::pread(segment->fd_.get(), raw.data(), raw.size(), 0) == static_cast<ssize_t>(raw.size());
  header = reinterpret_cast<SegmentHeader const*>(raw.data());
  if (!read_whole || header->magic != kSegmentMagic) {
    return Error{ErrorCode::kInvalidArgument, path + " is not a segment of ours"};
  }
  if (header->layout_version != kSegmentLayoutVersion) {
    return Error{ErrorCode::kInvalidArgument,
                 "segment " + path + " has layout version " +
                     std::to_string(header->layout_version) + ", this build reads version " +
                     std::to_string(kSegmentLayoutVersion) +
                     ": remove it with the version that made it, or choose another segment name",
                 kSegmentLayoutMismatch};
  }
  if (header->kind != kind) {
    return Error{ErrorCode::kInvalidArgument, path + " is a segment of ours with other contents"};
  }
  if (!consistent(*header, file_bytes)) {
    return Error{ErrorCode::kCorrupted, "segment " + path + " is damaged: it is " +
                                            std::to_string(file_bytes) +
                                            " bytes long, its header says " +
                                            std::to_string(header->file_bytes) + ": remove it"};
  }
  LMC_TRY(segment->map(file_bytes));
  segment->payload_ =
      reinterpret_cast<std::byte*>(segment->header_) + segment->header_->payload_offset;
  return segment;
}

Result<std::unique_ptr<Segment>> Segment::open_or_create(SegmentOptions const& options,
                                                         Initialise initialise, void* context,
                                                         LogHook const& log) {
  if (options.name.empty()) return create(options, "", initialise, context);
  LMC_TRY_ASSIGN(auto path, segment_path(options.directory, options.name));
  // A loop, because the file may vanish or appear between the two calls.
  for (int attempt = 0; attempt < 16; ++attempt) {
    auto existing = attach(path, options.kind);
    if (existing) return existing;
    if (existing.error().os_error() == kSegmentLayoutMismatch) {
      std::string const suffix = ".v" + std::to_string(kSegmentLayoutVersion);
      if (path.ends_with(suffix)) return existing;
      path += suffix;
      lmcache::log(log, LogLevel::kWarning,
                   existing.error().message() + "; using " + path + " instead");
      continue;
    }
    if (existing.error().code() != ErrorCode::kUnavailable) return existing;
    auto fresh = create(options, path, initialise, context);
    if (fresh || fresh.error().code() != ErrorCode::kCancelled) return fresh;
  }
  return Error{ErrorCode::kUnavailable, "segment " + path + " keeps coming and going"};
}

std::span<std::byte> Segment::region(Region id) const noexcept {
  auto const& span = header_->regions[static_cast<std::size_t>(id)];
  return {reinterpret_cast<std::byte*>(header_) + span.offset, span.size_bytes};
}

std::uint64_t Segment::capacity_bytes() const noexcept {
  return header_->extent_bytes * header_->usable_extents.load(std::memory_order_relaxed);
}

Result<void> Segment::reserve_region(Region id, std::uint64_t offset, std::uint64_t size_bytes) {
  auto const& span = header_->regions[static_cast<std::size_t>(id)];
  return reserve_bytes(fd_.get(), span.offset + offset, size_bytes);
}

void Segment::populate_region(Region id, std::uint64_t offset, std::uint64_t size_bytes,
                              std::stop_token stop) {
#ifdef MADV_POPULATE_WRITE
  constexpr std::uint64_t kPieceBytes = 2u << 20;
  auto const whole = region(id);
  std::uint64_t const end = std::min<std::uint64_t>(whole.size(), offset + size_bytes);
  for (std::uint64_t at = offset / kPageBytes * kPageBytes; at < end; at += kPieceBytes) {
    std::uint64_t const piece = std::min(kPieceBytes, end - at);
    // Reserved first: a full file system is an error here, and a signal in madvise.
    if (stop.stop_requested() || !reserve_region(id, at, piece)) return;
    ::madvise(whole.data() + at, piece, MADV_POPULATE_WRITE);
  }
#else
  static_cast<void>(id), static_cast<void>(offset), static_cast<void>(size_bytes);
  static_cast<void>(stop);
#endif
}

Result<void> Segment::reserve_extent(std::uint32_t extent) {
  return reserve_bytes(fd_.get(), header_->payload_offset + extent * header_->extent_bytes,
                       header_->extent_bytes);
}

Result<bool> Segment::populate_extent(std::uint32_t extent, std::stop_token stop,
                                      std::function<void()> const& before_piece) {
  constexpr std::uint64_t kPieceBytes = 1u << 20;
  std::uint64_t const begin = extent * header_->extent_bytes;
  std::byte* const base = payload_ + begin;
  ::madvise(base, header_->extent_bytes, MADV_HUGEPAGE);
  for (std::uint64_t done = 0; done < header_->extent_bytes; done += kPieceBytes) {
    if (before_piece) before_piece();
    if (stop.stop_requested()) return false;
    std::uint64_t const piece = std::min(kPieceBytes, header_->extent_bytes - done);
    LMC_TRY(reserve_bytes(fd_.get(), header_->payload_offset + begin + done, piece));
#ifdef MADV_POPULATE_WRITE
    // Best effort: Linux < 5.14 does not know it and faults page by page instead.
    ::madvise(base + done, piece, MADV_POPULATE_WRITE);
#endif
  }
  return true;
}

void Segment::release_extent(std::uint32_t extent) noexcept {
  auto const offset = header_->payload_offset + extent * header_->extent_bytes;
  (void)::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    static_cast<off_t>(offset), static_cast<off_t>(header_->extent_bytes));
}

void Segment::unlink() noexcept {
  struct stat named{}, ours{};
  if (path_.empty() || ::lstat(path_.c_str(), &named) != 0 || ::fstat(fd_.get(), &ours) != 0)
    return;
  if (named.st_ino == ours.st_ino && named.st_dev == ours.st_dev) ::unlink(path_.c_str());
}

}  // namespace lmcache
