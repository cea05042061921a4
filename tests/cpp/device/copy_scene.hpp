// SPDX-License-Identifier: Apache-2.0
// An engine's paged KV of random shape, chunks scattered over its blocks, their slots, and what
// every byte must be after a copy, worked out here by plain loops.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include <lmcache/device/copy_batch.hpp>

namespace lmcache::test {

using Bytes = std::vector<std::byte>;

inline Bytes random_bytes(std::size_t bytes, std::mt19937_64& random) {
  Bytes out(bytes);
  for (std::size_t at = 0; at < bytes; at += sizeof(std::uint64_t)) {
    std::uint64_t const word = random();
    std::memcpy(out.data() + at, &word, std::min(sizeof(word), bytes - at));
  }
  return out;
}

// Where the serving engine's memory lies: here the host's. Another device brings its own class.
class HostEngineMemory {
 public:
  using Slot = Bytes;  // where slots lie
  explicit HostEngineMemory(std::size_t bytes) : bytes_(bytes) {}
  std::byte* data() { return bytes_.data(); }
  void write(Bytes const& bytes) { std::copy(bytes.begin(), bytes.end(), bytes_.begin()); }
  [[nodiscard]] Bytes read() const { return bytes_; }

 private:
  Bytes bytes_;
};

struct SceneShape {
  std::uint32_t planes = 4;
  std::uint32_t blocks_per_chunk = 4;
  std::uint32_t chunks = 6;
  std::uint32_t largest_page = 5000;
};

template <class EngineMemory>
class CopyScene {
 public:
  using Slot = typename EngineMemory::Slot;

  CopyScene(SceneShape shape, std::uint64_t seed)
      : shape_{shape}, random_{seed}, engine_{lay_out()}, slots_(shape.chunks) {
    refill_engine();
    for (Slot& slot : slots_) {
      Bytes const bytes = random_bytes(slot_bytes_, random_);
      slot.assign(bytes.begin(), bytes.end());
    }
  }

  // Gives the engine's memory new random content, and every chunk other blocks.
  void refill_engine() {
    image_ = random_bytes(engine_bytes_, random_);
    engine_.write(image_);
    std::shuffle(block_ids_.begin(), block_ids_.end(), random_);
  }

  // The runs of every chunk, in random order, some of them without bytes.
  CopyBatch batch(CopyDirection direction, CopyPriority priority = CopyPriority::kForeground) {
    CopyBatch made{.direction = direction,
                   .priority = priority,
                   .plane_count = shape_.planes,
                   .items = {},
                   .on_item = {}};
    for (std::uint32_t chunk = 0; chunk < shape_.chunks; ++chunk) {
      CopyItem item{.slot = slots_[chunk].data(), .runs = {}};
      each_page(chunk, [&](std::size_t at_engine, std::size_t at_slot, std::size_t bytes,
                           std::uint32_t plane) {
        item.runs.push_back({.engine = engine_.data() + at_engine,
                             .slot_offset = at_slot,
                             .bytes = bytes,
                             .plane = plane});
        if (random_() % 8 == 0) item.runs.push_back({.plane = plane});
      });
      std::shuffle(item.runs.begin(), item.runs.end(), random_);
      made.items.push_back(std::move(item));
    }
    return made;
  }

  // Of planes below `planes`: is the chunk's page in the slot what the engine holds?
  [[nodiscard]] bool same(std::uint32_t chunk, std::uint32_t planes) const {
    return same(chunk, planes, engine_.read());
  }
  [[nodiscard]] bool all_same() const {
    Bytes const held = engine_.read();
    for (std::uint32_t chunk = 0; chunk < shape_.chunks; ++chunk) {
      if (!same(chunk, shape_.planes, held)) return false;
    }
    return true;
  }
  [[nodiscard]] bool same(std::uint32_t chunk, std::uint32_t planes, Bytes const& held) const {
    bool equal = true;
    each_page(chunk, [&](std::size_t at_engine, std::size_t at_slot, std::size_t bytes,
                         std::uint32_t plane) {
      if (plane >= planes) return;
      equal =
          equal && std::memcmp(held.data() + at_engine, slots_[chunk].data() + at_slot, bytes) == 0;
    });
    return equal;
  }

  // The engine's bytes between the pages and of blocks no chunk uses: a copy must not change them.
  [[nodiscard]] bool rest_of_engine_untouched() const {
    Bytes held = engine_.read();
    for (std::uint32_t chunk = 0; chunk < shape_.chunks; ++chunk) {
      each_page(chunk, [&](std::size_t at_engine, std::size_t, std::size_t bytes, std::uint32_t) {
        std::copy_n(image_.begin() + static_cast<std::ptrdiff_t>(at_engine), bytes,
                    held.begin() + static_cast<std::ptrdiff_t>(at_engine));
      });
    }
    return held == image_;
  }

  void poison(std::byte value) {
    engine_.write(Bytes(engine_bytes_, value));
    for (Slot& slot : slots_) std::fill(slot.begin(), slot.end(), value);
  }
  [[nodiscard]] bool is_poisoned(std::byte value) const {
    auto const all = [value](auto const& bytes) {
      return std::memcmp(bytes.data(), Bytes(bytes.size(), value).data(), bytes.size()) == 0;
    };
    return all(engine_.read()) && std::all_of(slots_.begin(), slots_.end(), all);
  }

  [[nodiscard]] SceneShape const& shape() const { return shape_; }

 private:
  struct Plane {
    std::size_t base = 0;
    std::size_t stride = 0;
    std::size_t page = 0;
    std::size_t slot_base = 0;
  };

  // Fills planes_ and block_ids_; the engine's bytes.
  std::size_t lay_out() {
    block_ids_.resize(std::size_t{shape_.chunks} * shape_.blocks_per_chunk + 3);
    std::iota(block_ids_.begin(), block_ids_.end(), 0U);
    for (std::uint32_t i = 0; i < shape_.planes; ++i) {
      Plane plane{.base = engine_bytes_,
                  .page = 1 + random_() % shape_.largest_page,
                  .slot_base = slot_bytes_};
      plane.stride = plane.page + random_() % 100;
      engine_bytes_ += plane.stride * block_ids_.size();
      slot_bytes_ += plane.page * shape_.blocks_per_chunk;
      planes_.push_back(plane);
    }
    return engine_bytes_;
  }

  template <class Visit>
  void each_page(std::uint32_t chunk, Visit visit) const {
    for (std::uint32_t p = 0; p < shape_.planes; ++p) {
      Plane const& plane = planes_[p];
      for (std::uint32_t b = 0; b < shape_.blocks_per_chunk; ++b) {
        std::size_t const id = block_ids_[std::size_t{chunk} * shape_.blocks_per_chunk + b];
        visit(plane.base + id * plane.stride, plane.slot_base + b * plane.page, plane.page, p);
      }
    }
  }

  SceneShape shape_;
  std::mt19937_64 random_;
  std::vector<Plane> planes_;
  std::vector<std::uint32_t> block_ids_;
  std::size_t engine_bytes_ = 0;
  std::size_t slot_bytes_ = 0;
  Bytes image_;
  EngineMemory engine_;
  std::vector<Slot> slots_;
};

}  // namespace lmcache::test
