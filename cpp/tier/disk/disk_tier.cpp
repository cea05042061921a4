// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/disk/disk_tier.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <lmcache/base/fixed_text.hpp>
#include <lmcache/base/worker_thread.hpp>
#include <lmcache/index/chunk_record.hpp>
#include <lmcache/io/throttled_io.hpp>

namespace lmcache {
namespace {

constexpr std::chrono::seconds kCloseTimeout{5};
// From here on a read fills a request of the device by itself. Virtual disks were up to a tenth
// faster when such reads came from all over the file than from one place after the other.
constexpr std::uint64_t kWholeRequestBytes = 1u << 20;

}  // namespace

Result<Durability> parse_durability(std::string_view text) {
  if (text == "none") return Durability::kNone;
  if (text == "data") return Durability::kData;
  return Error{ErrorCode::kInvalidArgument,
               "durability '" + std::string{text} + "': none and data are there"};
}

// Reads that were asked for together. Lives until the last of them is answered.
struct DiskTier::ReadBatch {
  struct Item {
    DiskRead read;
    DiskPlace place;
    std::uint32_t number;  // in the caller's list
    std::uint64_t size_bytes;
  };
  std::vector<Item> items;
  ReadDone done;
};

DiskTier::DiskTier(DiskOptions options, Clock const& clock, LogHook log, OpenVolume volume,
                   std::unique_ptr<AsyncFileIo> io, DiskHooks hooks)
    : options_{std::move(options)},
      clock_{clock},
      log_{std::move(log)},
      volume_{std::move(volume)},
      io_{std::move(io)},
      slabs_{volume_.files, *io_},
      hooks_{std::move(hooks)},
      reads_{clock},
      writes_{clock},
      read_errors_{clock},
      write_errors_{clock},
      checkpoint_ns_{clock.monotonic_ns()},
      index_is_cold_{volume_.loaded} {}

Result<std::unique_ptr<DiskTier>> DiskTier::open(DiskOptions options, Clock const& clock,
                                                 LogHook log, DiskHooks hooks,
                                                 Decorate const& decorate) {
  LMC_TRY_ASSIGN(auto io, make_io(options.io, log));
  if (options.bytes_per_second != 0) {
    LMC_TRY_ASSIGN(
        io, ThrottledIo::create(std::move(io), {.bytes_per_second = options.bytes_per_second,
                                                .burst_bytes = std::max<std::uint64_t>(
                                                    64u << 10, options.bytes_per_second / 20)}));
  }
  if (decorate) io = decorate(std::move(io));
  LMC_TRY_ASSIGN(auto volume, open_volume(options.volume, clock, log));
  std::unique_ptr<DiskTier> tier{new DiskTier{std::move(options), clock, std::move(log),
                                              std::move(volume), std::move(io), std::move(hooks)}};
  copy_text(tier->volume_.directory->state().space.io_engine, tier->io_->traits().name);
  LMC_TRY(tier->start());
  return tier;
}

Result<void> DiskTier::start() {
  if (options_.durability == Durability::kData) {
    for (std::uint32_t folder = 0; folder < volume_.files.folders().size(); ++folder) {
      LMC_TRY(volume_.files.sync_folder(folder));
    }
  }
  // Nice: what it does is checksums, behind the step loop's back.
  auto thread = start_worker_thread({.name = "lmc-disk", .nice = 10}, [this] { run(); });
  if (!thread) return std::move(thread).error();
  thread_ = std::move(thread).value();
  return {};
}

DiskTier::~DiskTier() {
  {
    std::lock_guard const lock{mutex_};
    stop_ = true;
    give_up_ns_ = clock_.monotonic_ns() + std::chrono::nanoseconds{kCloseTimeout}.count();
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  stop_io();
}

// Reads that are under way hold slots and leases, and so do writes that the thread gave up.
void DiskTier::stop_io() {
  while (io_->open_requests() != 0 && clock_.monotonic_ns() < give_up_ns_) {
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  slabs_.forget_io();
  io_.reset();  // answers the rest
  commit(std::exchange(written_, {}));
}

void DiskTier::find(std::span<ChunkKey const> keys, std::span<std::optional<DiskPlace>> out) {
  if (read_errors_.paused()) {
    std::ranges::fill(out, std::nullopt);
    return;
  }
  volume_.directory->find(keys, out);
}

void DiskTier::read(std::vector<DiskRead> reads, ReadDone done) {
  auto batch = std::make_shared<ReadBatch>();
  batch->done = std::move(done);
  std::vector<ChunkKey> keys;
  for (auto const& read : reads) keys.push_back(read.key);
  std::vector<std::optional<DiskPlace>> places(keys.size());
  volume_.directory->begin_reads(keys, places);
  for (std::uint32_t i = 0; i < reads.size(); ++i) {
    if (!places[i]) {
      batch->done(i, TierOutcome::kMissing);
      continue;
    }
    auto const& place = *places[i];
    std::uint64_t const size_bytes =
        transfer_bytes(place.slot_bytes, record_bytes(place.payload_bytes, place.valid_tokens));
    batch->items.push_back(
        {.read = reads[i], .place = place, .number = i, .size_bytes = size_bytes});
  }
  bool const small = std::ranges::any_of(batch->items, [](ReadBatch::Item const& item) {
    return item.size_bytes < kWholeRequestBytes;
  });
  if (small) {
    std::ranges::sort(batch->items, {}, [](ReadBatch::Item const& item) {
      return std::pair{item.place.slab, item.place.offset};
    });
  }
  std::vector<IoRequest> requests;
  std::vector<std::uint32_t> items;
  for (std::uint32_t i = 0; i < batch->items.size(); ++i) {
    auto const& item = batch->items[i];
    reads_.begin(item.size_bytes);
    auto const slab = slabs_.get(item.place);
    if (!slab) {
      finish_read(*batch, i, slab.error().os_error() != 0 ? slab.error().os_error() : EMFILE);
      continue;
    }
    if (item.size_bytes > item.read.slot_bytes) {
      finish_read(*batch, i, EMSGSIZE);
      continue;
    }
    items.push_back(i);
    requests.push_back({.op = IoOp::kRead,
                        .file = slab.value().file,
                        .offset = item.place.offset,
                        .data = item.read.slot,
                        .size_bytes = item.size_bytes});
  }
  if (requests.empty()) return;
  io_->submit(std::move(requests),
              [this, batch, items = std::move(items)](std::uint32_t request, IoAnswer answer) {
                finish_read(*batch, items[request], answer.os_error);
              });
}

TierOutcome DiskTier::check(ReadBatch const& batch, std::uint32_t number, int os_error) {
  auto const& item = batch.items[number];
  if (os_error == ECANCELED) return TierOutcome::kClosed;
  if (os_error == EMSGSIZE) return TierOutcome::kMissing;  // of another geometry
  // The file is shorter than the index says: damage, not a failing device.
  if (os_error != 0 && os_error != ENODATA) {
    if (read_errors_.failed()) {
      lmcache::log(log_, LogLevel::kWarning,
                   "disk cache " + volume_.files.folders()[item.place.folder].path() +
                       ": reads fail (" + std::strerror(os_error) +
                       "): it is left alone for a minute");
    }
    return TierOutcome::kIoError;
  }
  read_errors_.succeeded();
  if (os_error == 0) {
    std::span<std::byte const> const record{item.read.slot,
                                            std::min(item.size_bytes, item.read.slot_bytes)};
    auto const header =
        check_record(record, {.key = item.read.key, .generation = item.place.sequence});
    if (header && header.value().payload_bytes == item.place.payload_bytes &&
        header.value().valid_tokens == item.place.valid_tokens) {
      return TierOutcome::kDone;
    }
  }
  return TierOutcome::kCorrupt;
}

void DiskTier::finish_read(ReadBatch& batch, std::uint32_t number, int os_error) {
  auto const& item = batch.items[number];
  auto const outcome = check(batch, number, os_error);
  if (auto const speed = reads_.end(item.size_bytes); speed && outcome == TierOutcome::kDone) {
    volume_.directory->record_speed(&DirectorySpace::read_bytes_per_s, speed->bytes_per_s);
  }
  if (outcome == TierOutcome::kCorrupt && volume_.directory->remove(item.place)) {
    free_on_disk(item.place);
  } else {
    volume_.directory->end_read(item.place);
  }
  batch.done(item.number, outcome);
}

void DiskTier::free_on_disk(DiskPlace const& place) {
  {
    std::lock_guard const lock{mutex_};
    to_free_.push_back(place);
  }
  changed_.notify_all();
}

std::uint64_t DiskTier::clear(std::optional<ChunkKey> const& root) {
  std::optional<Id128> first_half;
  if (root)
    std::copy_n(root->bytes.begin(), std::tuple_size_v<Id128>, first_half.emplace().begin());
  auto const freed = volume_.directory->clear(first_half);
  for (auto const& place : freed) free_on_disk(place);
  return freed.size();
}

DiskStatus DiskTier::status() {
  DiskStatus out;
  out.use = volume_.directory->use();
  for (auto const& folder : volume_.files.folders()) out.folders.push_back(folder.path());
  auto const traits = io_->traits();
  out.engine = traits.name;
  out.registered_buffers = traits.registered_buffers;
  out.direct = !slabs_.fell_back();
  out.directory = volume_.directory->segment().path();
  return out;
}

void DiskTier::describe_model(ModelRecord const& record) {
  std::lock_guard const one{setup_mutex_};
  auto& folder = volume_.files.folders().front();
  if (!folder.lock_setup(std::chrono::seconds{1})) return;
  auto wanted = record;
  bool known = false;
  for (auto const& model : volume_.files.read_models()) {
    if (model.root != record.root) continue;
    known = wanted.prefill_ps_per_token == 0 ||
            wanted.prefill_ps_per_token == model.prefill_ps_per_token;
    if (wanted.prefill_ps_per_token == 0) {
      wanted.prefill_ps_per_token = model.prefill_ps_per_token;
    }
  }
  if (!known) {
    if (auto const written = volume_.files.write_model(wanted); !written) {
      lmcache::log(log_, LogLevel::kInfo, "disk cache: " + written.error().message());
    }
  }
  folder.unlock_setup();
}

void DiskTier::report_slow(std::uint64_t arrived_bytes, std::uint64_t elapsed_ns) {
  auto const bytes_per_s = static_cast<double>(arrived_bytes) * 1e9 /
                           static_cast<double>(std::max<std::uint64_t>(1, elapsed_ns));
  auto& known = volume_.directory->state().space.read_bytes_per_s;
  auto const slow = static_cast<std::uint64_t>(std::max(1.0, bytes_per_s));
  if (slow < known.load(std::memory_order_relaxed)) known.store(slow, std::memory_order_relaxed);
  doubt_speed();
}

std::uint64_t DiskTier::read_bytes_per_s() const noexcept {
  return volume_.directory->state().space.read_bytes_per_s.load(std::memory_order_relaxed);
}

}  // namespace lmcache
