// SPDX-License-Identifier: Apache-2.0
// The memory every process of a node maps.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stop_token>
#include <string>

#include <lmcache/base/log.hpp>
#include <lmcache/base/result.hpp>
#include <lmcache/base/unique_fd.hpp>
#include <lmcache/memory/segment_layout.hpp>

namespace lmcache {

struct RegionRequest {
  std::uint64_t size_bytes = 0;
  bool reserve = false;  // false: reserved piece by piece through reserve_region()
};

struct SegmentOptions {
  std::string name;  // empty: private to this process (memfd); a name; or an absolute path
  std::string directory{kDefaultDirectory};
  std::uint64_t payload_bytes = 0;
  std::uint64_t extent_bytes = 0;  // rounded up to 2 MiB
  bool remove_when_unused = false;
  SegmentKind kind = SegmentKind::kChunks;
  std::array<RegionRequest, kRegionCount> regions{};

  static constexpr char const* kDefaultDirectory = "/dev/shm";
};

// A mapped segment. Movable handle is not needed: it lives behind a unique_ptr so that addresses
// into it stay put. Thread-safe for the const methods; the regions' own rules apply to what lies in
// them.
class Segment {
 public:
  // Maps the segment of that name, or makes it: in under a second whatever its size, since only the
  // regions are reserved. `initialise` fills the regions of a new segment, before anybody can see
  // it. A file of another layout version is left alone; a segment named `<name>.v<version>` is used
  // instead, and `log` told. Blocks on file system calls only. Errors: kInvalidArgument (name,
  // owner, mode, not a segment), kOutOfMemory (file system too small: the message says how much
  // there is and how much was asked for), kIo.
  using Initialise = Result<void> (*)(Segment& fresh, void* context);
  [[nodiscard]] static Result<std::unique_ptr<Segment>> open_or_create(
      SegmentOptions const& options, Initialise initialise, void* context, LogHook const& log);
  // Maps an existing one. Errors: kUnavailable when there is none; kInvalidArgument as above.
  [[nodiscard]] static Result<std::unique_ptr<Segment>> attach(
      std::string const& path, SegmentKind kind = SegmentKind::kChunks);

  ~Segment();
  Segment(Segment&&) = delete;

  [[nodiscard]] SegmentHeader& header() const noexcept { return *header_; }
  [[nodiscard]] std::span<std::byte> region(Region id) const noexcept;
  template <class T>
  [[nodiscard]] std::span<T> region_of(Region id) const noexcept {
    auto const bytes = region(id);
    return {reinterpret_cast<T*>(bytes.data()), bytes.size() / sizeof(T)};
  }
  [[nodiscard]] std::byte* payload(std::uint64_t offset) const noexcept {
    return payload_ + offset;
  }
  [[nodiscard]] std::uint64_t capacity_bytes() const noexcept;
  // All slots there are or will be: one range of addresses, of which memory backs what is in use.
  [[nodiscard]] std::span<std::byte> all_payload() const noexcept {
    return {payload_, header_->file_bytes - header_->payload_offset};
  }

  // Touches memory that will be reserved and used soon, so that who uses it does not wait for the
  // kernel. Best effort; blocks until it is there or `stop`.
  void populate_region(Region id, std::uint64_t offset, std::uint64_t size_bytes,
                       std::stop_token stop);
  // Backs [offset, offset + size) of a region with memory. Errors: kOutOfMemory.
  [[nodiscard]] Result<void> reserve_region(Region id, std::uint64_t offset,
                                            std::uint64_t size_bytes);
  // Backs extent `extent` with memory. Errors: kOutOfMemory.
  [[nodiscard]] Result<void> reserve_extent(std::uint32_t extent);
  // The same, and clears it and fills this process's page tables, so that the first copy does not
  // fault. Takes 0.1 to 0.7 ms per MB, and 2 ms in a virtual machine that has never touched it; in
  // small pieces, since the kernel's locks are held meanwhile. `before_piece` is called before each
  // of 1 MB. True: all of it. False: stopped. On an error what it had reserved stays.
  [[nodiscard]] Result<bool> populate_extent(std::uint32_t extent, std::stop_token stop = {},
                                             std::function<void()> const& before_piece = {});
  // Gives the memory of an extent that holds nothing back to the system.
  void release_extent(std::uint32_t extent) noexcept;

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  [[nodiscard]] std::string const& path() const noexcept { return path_; }  // empty when private
  [[nodiscard]] bool created() const noexcept { return created_; }
  // Takes the name away; processes that map it go on. Does nothing when the name is another file's
  // by now.
  void unlink() noexcept;
  // Leaves the memory mapped when this goes: somebody has addresses into it and does not give them
  // back. Lost until the process ends.
  void keep_mapped() noexcept { stays_mapped_ = true; }

 private:
  Segment() = default;
  static Result<std::unique_ptr<Segment>> create(SegmentOptions const& options,
                                                 std::string const& path, Initialise initialise,
                                                 void* context);
  [[nodiscard]] Result<void> map(std::uint64_t file_bytes);

  UniqueFd fd_;
  std::string path_;
  SegmentHeader* header_{nullptr};
  std::byte* payload_{nullptr};
  std::uint64_t mapped_bytes_{0};
  bool created_{false};
  bool stays_mapped_{false};
};

}  // namespace lmcache
