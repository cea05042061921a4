// SPDX-License-Identifier: Apache-2.0
// Where the chunks of a volume lie, for all processes of a node: found, leased for a read, given
// room for a write, evicted least recently used first.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include <lmcache/base/result.hpp>
#include <lmcache/tier/disk/directory_state.hpp>

namespace lmcache {

// The slot of a chunk. A value: it stays right while it is leased or written.
struct DiskPlace {
  std::uint32_t record = kNoRecord;
  std::uint32_t slab = kNoSlab;
  std::uint32_t incarnation = 0;  // of the slab
  std::uint32_t folder = 0;
  std::uint64_t offset = 0;
  std::uint64_t slot_bytes = 0;
  std::uint64_t payload_bytes = 0;
  std::uint64_t sequence = 0;
  std::uint32_t valid_tokens = 0;
};

// What commit() adds to a place that was written.
struct DiskChunkFacts {
  std::uint64_t payload_bytes = 0;
  std::uint32_t valid_tokens = 0;
  std::uint32_t fingerprint = 0;
  std::uint32_t expires_unix_s = 0;
  std::uint16_t lane = 0;
  std::uint8_t flags = 0;
  Id128 root{};
};

// Room for a chunk. `evicted` lost its place for it.
struct WriteGrant {
  DiskPlace place;
  std::optional<ChunkKey> evicted;
};

// A slab that must be made before there is room: its file gets `size_bytes`, the index records
// `dropped` are freed on disk first.
struct SlabTask {
  std::uint32_t slab = kNoSlab;
  std::uint32_t folder = 0;
  std::uint64_t size_bytes = 0;
  std::uint64_t slot_bytes = 0;
  // Slabs whose files go, because another size needs their room, or their maker died. What the new
  // slab does not take of their room counts until they are gone.
  struct Emptied {
    std::uint32_t slab;
    std::uint32_t folder;
  };
  std::vector<Emptied> emptied;
  std::vector<std::uint32_t> dropped;
  std::vector<ChunkKey> evicted;
};

struct DiskUse {
  std::uint64_t limit_bytes = 0;
  std::uint64_t file_bytes = 0;  // all files of the volume
  std::uint64_t used_bytes = 0;  // payload
  std::uint64_t chunks = 0;
  std::uint64_t slabs = 0;
  std::uint64_t record_capacity = 0;
  std::uint64_t damaged_records = 0;
  std::uint64_t read_bytes_per_s = 0;
  std::uint64_t write_bytes_per_s = 0;
  std::uint32_t folders = 0;
  std::uint32_t processes = 0;
};

// The lock is held.
[[nodiscard]] DiskUse measure_use(DirectoryState const& state);

// A directory seen from outside, without joining it. Errors: kUnavailable (none), kInvalidArgument,
// kTimeout.
struct DirectoryView {
  DiskUse use;
  std::vector<std::string> folders;
  std::string io_engine;
};
[[nodiscard]] Result<DirectoryView> inspect_directory(std::string const& path);

// Thread-safe. No call waits for more than the lock: 50 ms, after which the answer is a miss, a
// write that is not made, or a lease that is given back later.
class DiskDirectory {
 public:
  // Joins as a process of the node. Errors: kUnavailable (64 are there), kTimeout, kCancelled (the
  // last one has just left: make it anew).
  [[nodiscard]] static Result<std::unique_ptr<DiskDirectory>> join(std::unique_ptr<Segment> segment,
                                                                   Clock const& clock,
                                                                   std::string_view role);
  // Gives back what it holds; the last one to leave removes the segment. In a fork of the process
  // that joined: nothing.
  ~DiskDirectory();
  DiskDirectory(DiskDirectory&&) = delete;

  // Without leasing anything.
  void find(std::span<ChunkKey const> keys, std::span<std::optional<DiskPlace>> out);
  // Leases what is there; each needs an end_read().
  void begin_reads(std::span<ChunkKey const> keys, std::span<std::optional<DiskPlace>> out);
  void end_read(DiskPlace const& place);
  // From the last to the first, so that a prefix is never older than what follows it.
  void touch(std::span<ChunkKey const> keys);
  // Forgets a chunk that turned out to be damaged, and the caller's lease with it. False: somebody
  // else reads it, or it is gone. The slot is the caller's, who frees the index record, then calls
  // abandon(): freed later, the record could be another chunk's by then.
  [[nodiscard]] bool remove(DiskPlace const& place);

  // Errors: kCancelled (it is there, or being written), kOutOfMemory (no room can be made),
  // kInvalidArgument (larger than the volume), kTimeout.
  using Allocation = std::variant<WriteGrant, SlabTask>;
  [[nodiscard]] Result<Allocation> allocate(ChunkKey const& key, std::uint64_t slot_bytes);
  // kNoSpace: nothing more is asked of the file system from now on. kFailed: another time, maybe.
  enum class SlabOutcome : std::uint8_t { kMade, kNoSpace, kFailed };
  void finish_slab(SlabTask const& task, SlabOutcome outcome);
  // The chunk can be read from now on. Returns the logical time of its use.
  [[nodiscard]] std::uint64_t now();
  void commit(DiskPlace const& place, DiskChunkFacts const& facts, std::uint64_t last_use);
  void abandon(DiskPlace const& place);

  // Forgets what nobody reads. The slots are the caller's, as after remove().
  [[nodiscard]] std::vector<DiskPlace> clear(std::optional<Id128> const& root = std::nullopt);
  // Takes back what dead processes held. Files of slabs that they were making or emptying are
  // `emptied`: the caller removes them and calls finish_slab().
  [[nodiscard]] SlabTask reap();
  // Leases that a lock refused to take back.
  void settle_debts();

  [[nodiscard]] UseOrder order();
  [[nodiscard]] DiskUse use();
  // All places that hold a chunk, in the order in which they lie.
  struct Listed {
    DiskPlace place;
    ChunkKey key;
    Id128 root;
  };
  [[nodiscard]] std::vector<Listed> list();
  // Of each size, those used last.
  [[nodiscard]] std::vector<Listed> most_recent(std::size_t count);
  void record_speed(std::atomic<std::uint64_t> DirectorySpace::* speed, double bytes_per_s);
  [[nodiscard]] DirectoryState& state() noexcept { return state_; }
  [[nodiscard]] Segment& segment() noexcept { return *segment_; }

 private:
  explicit DiskDirectory(std::unique_ptr<Segment> segment, Clock const& clock);
  [[nodiscard]] Result<RobustGuard> lock();
  [[nodiscard]] DiskPlace place_of(std::uint32_t index) const noexcept;
  [[nodiscard]] bool holds(DiskPlace const& place) const noexcept;
  [[nodiscard]] std::uint32_t readable(ChunkKey const& key) const noexcept;
  void drop_reader(std::uint32_t index);

  // Room (disk_room.cpp). The lock is held.
  [[nodiscard]] std::optional<std::uint32_t> slot_in(DiskClass& disk_class, std::uint32_t folder);
  [[nodiscard]] std::optional<std::uint32_t> slot_anywhere(std::uint16_t disk_class);
  [[nodiscard]] std::optional<std::uint32_t> bump(std::uint32_t slab);
  [[nodiscard]] std::uint32_t unfilled_slab(std::uint16_t disk_class) const noexcept;
  [[nodiscard]] std::optional<std::uint32_t> unbound_entry();
  [[nodiscard]] std::optional<std::uint32_t> evict(DiskClass& disk_class);
  [[nodiscard]] std::optional<SlabTask> plan_slab(std::uint16_t disk_class);
  [[nodiscard]] std::optional<std::uint32_t> slab_to_take(std::uint16_t for_class) const;
  [[nodiscard]] bool is_idle(std::uint32_t slab) const;
  void empty_slab(std::uint32_t slab, SlabTask& task);
  void release_emptied(SlabTask const& task);
  void start_slab(std::uint16_t disk_class, SlabTask& task);
  [[nodiscard]] bool entries_left() const noexcept;
  [[nodiscard]] std::uint32_t slab_number(std::uint32_t folder) const noexcept;
  // Of a new slab, given the room of those that the task empties.
  [[nodiscard]] std::uint64_t slab_bytes_for(std::uint64_t slot_bytes, SlabTask const& task) const;

  // Death (disk_death.cpp). The lock is held.
  void reclaim(std::uint32_t process, SlabTask& orphans);
  [[nodiscard]] bool others_live() const noexcept;

  std::unique_ptr<Segment> segment_;
  Clock const& clock_;
  DirectoryState state_;
  std::int32_t joined_pid_{0};
  SlabTask orphans_;  // taken over from the dead when we joined; for reap()
  // How often this process reads each slot. Guarded by the space lock.
  std::unordered_map<std::uint32_t, std::uint32_t> reading_;
  std::mutex debts_mutex_;  // guards debts_
  std::vector<DiskPlace> debts_;
};

}  // namespace lmcache
