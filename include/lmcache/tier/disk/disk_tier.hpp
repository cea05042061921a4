// SPDX-License-Identifier: Apache-2.0
// Chunks on disk: read into and written from slots in memory, without a copy in between, checked on
// the way in.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <lmcache/base/clock.hpp>
#include <lmcache/base/error_pause.hpp>
#include <lmcache/base/log.hpp>
#include <lmcache/base/result.hpp>
#include <lmcache/base/transfer_meter.hpp>
#include <lmcache/io/io_engine.hpp>
#include <lmcache/tier/disk/disk_directory.hpp>
#include <lmcache/tier/disk/slab_cache.hpp>
#include <lmcache/tier/disk/volume.hpp>
#include <lmcache/tier/tier_outcome.hpp>

namespace lmcache {

enum class Durability : std::uint8_t {
  kNone,  // survives the death of any process; a lost power supply costs what was not written back
  kData,  // fdatasync(2) of the slot, then of the index, before a chunk counts as written
};

// "none", "data". Errors: kInvalidArgument.
[[nodiscard]] Result<Durability> parse_durability(std::string_view text);

struct DiskOptions {
  VolumeOptions volume{};
  IoOptions io{};
  Durability durability = Durability::kNone;
  std::uint64_t bytes_per_second = 0;                  // reads and writes together; 0 = no limit
  std::chrono::milliseconds checkpoint_every{10'000};  // of the order of use
};

// Into `slot`, at least `slot_bytes` long, aligned to 4 KiB when it has 64 KiB or more.
struct DiskRead {
  ChunkKey key;
  std::byte* slot = nullptr;
  std::uint64_t slot_bytes = 0;
};
// From `slot`, which holds a record (index/chunk_record.hpp) that this seals. Aligned likewise.
struct DiskWrite {
  ChunkKey key;
  std::byte* slot = nullptr;
  std::uint64_t slot_bytes = 0;
};

struct DiskStatus {
  DiskUse use;
  std::vector<std::string> folders;
  std::string engine;  // "io_uring", "threads"
  bool direct = true;  // false: some slab goes through the page cache against our wish
  bool registered_buffers = false;
  std::string directory;  // its file in shared memory
};

struct DiskHooks {
  // A chunk that was given up to make room.
  std::function<void(ChunkKey const& key)> on_evicted;
  // A chunk that measuring the speed has found to be damaged: it is gone, and nobody asked for it.
  std::function<void(ChunkKey const& key)> on_damaged;
};

// Thread-safe. Callbacks come on a thread of the tier, once each, and must not block.
class DiskTier {
 public:
  using ReadDone = std::function<void(std::uint32_t item, TierOutcome outcome)>;
  using WriteDone = std::function<void(TierOutcome outcome)>;
  // Puts another engine of I/O in front of the one that was made, for tests.
  using Decorate = std::function<std::unique_ptr<AsyncFileIo>(std::unique_ptr<AsyncFileIo>)>;

  // Errors: those of open_volume() and make_io().
  [[nodiscard]] static Result<std::unique_ptr<DiskTier>> open(DiskOptions options,
                                                              Clock const& clock, LogHook log,
                                                              DiskHooks hooks = {},
                                                              Decorate const& decorate = {});
  // Writes what was handed over and reads what was asked for, for 5 s at most; answers everything.
  ~DiskTier();
  DiskTier(DiskTier&&) = delete;

  // Where chunks lie; nothing for those that are not there, and for all while reads fail.
  void find(std::span<ChunkKey const> keys, std::span<std::optional<DiskPlace>> out);
  void touch(std::span<ChunkKey const> keys) { volume_.directory->touch(keys); }

  // Of small chunks neighbours on disk are asked for one after the other, so that the kernel merges
  // them; large ones in the order given. `done` may be called before this returns, for chunks that
  // are not there.
  void read(std::vector<DiskRead> items, ReadDone done);
  // The slot must stay as it is until `done`.
  void write(DiskWrite item, WriteDone done);
  // True: everything handed over before was answered. Blocks.
  [[nodiscard]] bool drain(std::chrono::milliseconds timeout);

  // Memory that slots lie in, for the kernel to know (AsyncFileIo::register_memory).
  void register_memory(std::byte* data, std::uint64_t size_bytes) {
    io_->register_memory(data, size_bytes);
  }
  // Forgets what nobody reads. Returns how many chunks.
  std::uint64_t clear(std::optional<ChunkKey> const& root = std::nullopt);
  [[nodiscard]] DiskStatus status();
  [[nodiscard]] DiskDirectory& directory() noexcept { return *volume_.directory; }
  [[nodiscard]] VolumeFiles const& files() const noexcept { return volume_.files; }
  [[nodiscard]] bool loaded() const noexcept { return volume_.loaded; }

  // What the namespace's chunks belong to, and how long a token of it takes to compute (0 = keep
  // what is known). Blocks on a small file.
  void describe_model(ModelRecord const& record);
  [[nodiscard]] std::vector<ModelRecord> models() const { return volume_.files.read_models(); }

  [[nodiscard]] std::uint64_t read_bytes_per_s() const noexcept;
  [[nodiscard]] std::uint64_t queued_read_bytes() const { return reads_.open_bytes(); }
  // Reads that were given up had brought so much in that time: what is known of the speed is wrong,
  // and they will be measured only when they end.
  void report_slow(std::uint64_t arrived_bytes, std::uint64_t elapsed_ns);
  // Somebody went without a chunk because of that speed: it is measured again soon.
  void doubt_speed() noexcept { doubted_.store(true, std::memory_order_relaxed); }

 private:
  struct Write {
    DiskWrite item;
    WriteDone done;
    DiskPlace place;
    std::uint64_t size_bytes = 0;
    int os_error = 0;
  };
  struct ReadBatch;

  DiskTier(DiskOptions options, Clock const& clock, LogHook log, OpenVolume volume,
           std::unique_ptr<AsyncFileIo> io, DiskHooks hooks);
  [[nodiscard]] Result<void> start();
  void run();
  void finish_read(ReadBatch& batch, std::uint32_t item, int os_error);
  [[nodiscard]] TierOutcome check(ReadBatch const& batch, std::uint32_t item, int os_error);
  void free_on_disk(DiskPlace const& place);
  void stop_io();

  // Writes (disk_writer.cpp): all on the tier's thread.
  struct WriteGroup {
    std::vector<Write> writes;
    std::vector<IoRequest> requests;  // one each
  };
  void begin_writes(std::deque<Write> writes);
  void submit(WriteGroup group);
  [[nodiscard]] std::optional<TierOutcome> prepare(Write& write);
  [[nodiscard]] Result<WriteGrant> room_for(Write const& write);
  [[nodiscard]] Result<void> make_slab(SlabTask const& task);
  void note_write_error(std::string const& what);
  void commit(std::vector<Write> written);
  [[nodiscard]] Result<void> sync_slabs(std::span<Write> written);
  void answer(Write& write, TierOutcome outcome);
  void bury_the_dead();
  void warm_index();
  void keep_house();
  void checkpoint();
  void measure_speed();

  DiskOptions options_;
  Clock const& clock_;
  LogHook log_;
  OpenVolume volume_;
  std::unique_ptr<AsyncFileIo> io_;
  SlabCache slabs_;
  DiskHooks hooks_;
  TransferMeter reads_;
  TransferMeter writes_;
  ErrorPause read_errors_;
  ErrorPause write_errors_;
  std::atomic<bool> said_full_{false};
  std::atomic<bool> doubted_{false};
  std::int64_t measured_ns_{0};  // when measure_speed() last ran
  std::atomic<std::uint32_t> probe_in_flight_{0};
  std::uint64_t order_written_at_{0};  // logical clock of the last checkpoint
  std::int64_t checkpoint_ns_{0};
  bool index_is_cold_{false};  // the tier's thread: this process read it
  std::mutex setup_mutex_;     // the file lock of the same name does not keep our threads apart

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::deque<Write> inbox_;
  std::vector<Write> written_;
  std::vector<DiskPlace> to_free_;  // whose index records are to be freed, then they themselves
  std::uint64_t open_writes_{0};
  bool stop_{false};
  std::int64_t give_up_ns_{0};  // when stopping
  std::thread thread_;
};

}  // namespace lmcache
