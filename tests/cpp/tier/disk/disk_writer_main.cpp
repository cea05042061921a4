// SPDX-License-Identifier: Apache-2.0
// Writes chunks to a disk cache for ever and reports each that is committed or evicted.
// Usage: tier_disk_writer ROOT LIMIT_BYTES FIRST_CHOICE REPORT_FD
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <random>

#include "support/disk_reports.hpp"

namespace {

using namespace lmcache;
using namespace lmcache::test;

class Writer {
 public:
  Writer(char** arguments)
      : report_fd_{std::atoi(arguments[4])}, random_{std::strtoull(arguments[3], nullptr, 10)} {
    for (std::uint32_t seed = 0; seed < kKillSeeds; ++seed) seeds_[disk_key(seed)] = seed;
    auto const limit = std::strtoull(arguments[2], nullptr, 10);
    shape_ = kill_shape(limit);
    tier_ = must(DiskTier::open(
        kill_options(arguments[1], limit), clock_, {},
        {.on_evicted =
             [this](ChunkKey const& key) { report(DiskReport::Kind::kEvicted, seeds_.at(key)); },
         .on_damaged = {}}));
    report(DiskReport::Kind::kOpened, 0);
  }

  void run() {
    for (;;) {
      auto const seed = static_cast<std::uint32_t>(random_() % kKillSeeds);
      auto const payload_bytes = shape_.payload_of(seed);
      auto const slot = std::make_shared<SlotMemory>(slot_bytes_of(payload_bytes));
      fill_record({slot->data(), slot->size_bytes()}, seed, payload_bytes);
      tier_->write({.key = disk_key(seed), .slot = slot->data(), .slot_bytes = slot->size_bytes()},
                   [this, slot, seed](TierOutcome outcome) {
                     if (outcome == TierOutcome::kDone) report(DiskReport::Kind::kCommitted, seed);
                   });
      // A few on their way at a time.
      if (++written_ % 6 == 0) (void)tier_->drain(std::chrono::seconds{10});
    }
  }

 private:
  void report(DiskReport::Kind kind, std::uint32_t seed) const {
    DiskReport const out{.kind = kind, .seed = seed};
    if (::write(report_fd_, &out, sizeof out) != sizeof out) ::_exit(3);
  }

  int report_fd_;
  std::mt19937_64 random_;
  DiskShape shape_;
  std::map<ChunkKey, std::uint32_t> seeds_;
  SystemClock clock_;
  std::unique_ptr<DiskTier> tier_;
  std::uint64_t written_ = 0;
};

}  // namespace

int main(int count, char** arguments) {
  if (count != 5) return 2;
  Writer{arguments}.run();
}
