// SPDX-License-Identifier: Apache-2.0
// A disk tier in a folder of its own, and chunk records that can be told apart bit by bit.
#pragma once

#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <mutex>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <lmcache/index/chunk_record.hpp>
#include <lmcache/tier/disk/disk_tier.hpp>

#include "support/log_lines.hpp"
#include "support/must.hpp"
#include "support/temp_directory.hpp"

namespace lmcache::test {

// Memory as slots are: aligned to pages.
class SlotMemory {
 public:
  explicit SlotMemory(std::uint64_t size_bytes)
      : size_bytes_{(size_bytes + kDiskPageBytes - 1) / kDiskPageBytes * kDiskPageBytes},
        data_{static_cast<std::byte*>(std::aligned_alloc(kDiskPageBytes, size_bytes_))} {
    std::memset(data_.get(), 0xEE, size_bytes_);
  }
  [[nodiscard]] std::byte* data() const noexcept { return data_.get(); }
  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return size_bytes_; }

 private:
  struct Free {
    void operator()(std::byte* memory) const noexcept { std::free(memory); }
  };
  std::uint64_t size_bytes_;
  std::unique_ptr<std::byte, Free> data_;
};

[[nodiscard]] inline ChunkKey disk_key(std::uint64_t seed) {
  ChunkKey key;
  std::mt19937_64 random{seed * 2 + 1};
  for (auto& byte : key.bytes) byte = static_cast<std::uint8_t>(random());
  return key;
}

inline constexpr std::uint32_t kDiskTokens = 64;

// The record of chunk `seed`, payload and all, as the memory tier would hand it over.
inline void fill_record(std::span<std::byte> slot, std::uint64_t seed,
                        std::uint64_t payload_bytes) {
  ChunkHeader header{};
  header.magic = kChunkMagic;
  header.format_version = kChunkFormatVersion;
  header.key = disk_key(seed);
  header.root = disk_key(1'000'000'007);
  header.payload_bytes = payload_bytes;
  header.valid_tokens = kDiskTokens;
  std::memcpy(slot.data(), &header, sizeof header);
  std::mt19937_64 random{seed};
  auto const whole = record_bytes(payload_bytes, kDiskTokens);
  for (std::uint64_t at = sizeof header; at < whole; at += 8) {
    std::uint64_t const word = random();
    std::memcpy(slot.data() + at, &word, std::min<std::uint64_t>(8, whole - at));
  }
}

[[nodiscard]] inline bool has_record(std::span<std::byte const> slot, std::uint64_t seed,
                                     std::uint64_t payload_bytes) {
  auto const whole = record_bytes(payload_bytes, kDiskTokens);
  std::mt19937_64 random{seed};
  for (std::uint64_t at = sizeof(ChunkHeader); at < whole; at += 8) {
    std::uint64_t const word = random();
    if (std::memcmp(slot.data() + at, &word, std::min<std::uint64_t>(8, whole - at)) != 0) {
      return false;
    }
  }
  return true;
}

struct DiskShape {
  std::uint64_t payload_bytes = 100'000;
  std::uint64_t limit_bytes = 32u << 20;
  IoKind io = IoKind::kAuto;
  Durability durability = Durability::kNone;
  std::vector<std::uint64_t> sizes{};  // instead of payload_bytes: chunk i has sizes[i % count]
  Clock const* clock = nullptr;        // instead of the system's

  [[nodiscard]] std::uint64_t payload_of(std::uint64_t seed) const {
    return sizes.empty() ? payload_bytes : sizes[seed % sizes.size()];
  }
};

[[nodiscard]] inline std::uint64_t slot_bytes_of(std::uint64_t payload_bytes) {
  return disk_slot_bytes(record_bytes(payload_bytes, kDiskTokens));
}

// Waits for a number of answers and keeps them.
class Outcomes {
 public:
  explicit Outcomes(std::size_t count) : outcomes_(count), open_{count} {}
  void set(std::uint32_t item, TierOutcome outcome) {
    std::lock_guard const lock{mutex_};
    outcomes_[item] = outcome;
    if (--open_ == 0) all_.notify_all();
  }
  [[nodiscard]] std::vector<TierOutcome> wait() {
    std::unique_lock lock{mutex_};
    EXPECT_TRUE(all_.wait_for(lock, std::chrono::seconds{60}, [this] { return open_ == 0; }));
    return outcomes_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable all_;
  std::vector<TierOutcome> outcomes_;
  std::size_t open_;
};

[[nodiscard]] inline std::uint64_t bytes_of_folder(std::string const& path) {
  std::uint64_t sum = 0;
  for (auto const& file : std::filesystem::directory_iterator{path}) {
    struct stat info{};
    if (::lstat(file.path().c_str(), &info) == 0) {
      sum += static_cast<std::uint64_t>(info.st_blocks) * 512;
    }
  }
  return sum;
}

class DiskScene {
 public:
  explicit DiskScene(DiskShape shape = {}, int folders = 1) : shape_{shape} {
    for (int i = 0; i < folders; ++i) paths_.push_back(folder_.path() + "/d" + std::to_string(i));
  }

  [[nodiscard]] DiskOptions options() const {
    DiskOptions out;
    out.volume.folders = paths_;
    out.volume.limit_bytes = shape_.limit_bytes;
    out.volume.memory_folder = folder_.path();
    out.io.kind = shape_.io;
    out.durability = shape_.durability;
    return out;
  }
  [[nodiscard]] Clock const& clock() const {
    return shape_.clock != nullptr ? *shape_.clock : clock_;
  }
  DiskTier& open(DiskTier::Decorate const& decorate = {}) { return open(options(), decorate); }
  DiskTier& open(DiskOptions const& options, DiskTier::Decorate const& decorate = {}) {
    tier_ = must(DiskTier::open(options, clock(), log_.hook(),
                                {.on_evicted = [this](ChunkKey const&) { ++evicted_; },
                                 .on_damaged = [this](ChunkKey const&) { ++damaged_; }},
                                decorate));
    return *tier_;
  }
  void close() { tier_.reset(); }
  // The tier goes on beside the one that is opened next.
  [[nodiscard]] std::unique_ptr<DiskTier> release() { return std::move(tier_); }
  [[nodiscard]] DiskTier& tier() { return *tier_; }

  [[nodiscard]] std::vector<TierOutcome> write(std::vector<std::uint64_t> const& seeds) {
    auto const outcomes = std::make_shared<Outcomes>(seeds.size());
    std::vector<std::shared_ptr<SlotMemory>> slots;
    for (std::uint32_t i = 0; i < seeds.size(); ++i) {
      auto const payload_bytes = shape_.payload_of(seeds[i]);
      auto slot = std::make_shared<SlotMemory>(slot_bytes_of(payload_bytes));
      fill_record({slot->data(), slot->size_bytes()}, seeds[i], payload_bytes);
      tier_->write(
          {.key = disk_key(seeds[i]), .slot = slot->data(), .slot_bytes = slot->size_bytes()},
          [outcomes, slot, i](TierOutcome outcome) { outcomes->set(i, outcome); });
    }
    return outcomes->wait();
  }
  // kDone only if every byte is right.
  [[nodiscard]] std::vector<TierOutcome> read(std::vector<std::uint64_t> const& seeds) {
    auto const outcomes = std::make_shared<Outcomes>(seeds.size());
    std::vector<SlotMemory> slots;
    std::vector<DiskRead> reads;
    for (auto const seed : seeds) {
      slots.emplace_back(slot_bytes_of(shape_.payload_of(seed)));
      reads.push_back({.key = disk_key(seed),
                       .slot = slots.back().data(),
                       .slot_bytes = slots.back().size_bytes()});
    }
    tier_->read(std::move(reads), [outcomes](std::uint32_t item, TierOutcome outcome) {
      outcomes->set(item, outcome);
    });
    auto out = outcomes->wait();
    for (std::size_t i = 0; i < seeds.size(); ++i) {
      if (out[i] != TierOutcome::kDone) continue;
      EXPECT_TRUE(has_record({slots[i].data(), slots[i].size_bytes()}, seeds[i],
                             shape_.payload_of(seeds[i])))
          << "wrong bytes of chunk " << seeds[i];
    }
    return out;
  }
  [[nodiscard]] std::size_t count_there(std::vector<std::uint64_t> const& seeds) {
    auto const outcomes = read(seeds);
    return static_cast<std::size_t>(std::ranges::count(outcomes, TierOutcome::kDone));
  }

  // What the files really take.
  [[nodiscard]] std::uint64_t bytes_on_disk() const {
    std::uint64_t sum = 0;
    for (auto const& path : paths_) sum += bytes_of_folder(path);
    return sum;
  }
  // Of files that lie in it, sorted by name.
  [[nodiscard]] std::vector<std::string> files(int folder = 0) const {
    std::vector<std::string> out;
    for (auto const& file : std::filesystem::directory_iterator{path(folder)}) {
      out.push_back(file.path().filename());
    }
    std::ranges::sort(out);
    return out;
  }
  [[nodiscard]] LogLines const& log() const { return log_; }
  [[nodiscard]] DiskShape const& shape() const { return shape_; }
  [[nodiscard]] std::string const& path(int folder = 0) const {
    return paths_[static_cast<std::size_t>(folder)];
  }
  [[nodiscard]] std::string const& memory_folder() const { return folder_.path(); }
  [[nodiscard]] int evicted() const { return evicted_; }
  [[nodiscard]] int damaged() const { return damaged_; }

 private:
  TempDirectory folder_;
  DiskShape shape_;
  std::vector<std::string> paths_;
  SystemClock clock_;
  LogLines log_;
  std::atomic<int> evicted_{0};
  std::atomic<int> damaged_{0};
  std::unique_ptr<DiskTier> tier_;
};

[[nodiscard]] inline std::vector<std::uint64_t> seeds(std::uint64_t first, std::uint64_t count) {
  std::vector<std::uint64_t> out(count);
  for (std::uint64_t i = 0; i < count; ++i) out[i] = first + i;
  return out;
}

}  // namespace lmcache::test
