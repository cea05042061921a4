// SPDX-License-Identifier: Apache-2.0
#include "cuda/copy_entries.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "cuda/launch.hpp"

namespace lmcache::detail {
namespace {

std::uint64_t address(void const* pointer) { return reinterpret_cast<std::uintptr_t>(pointer); }

// Two buffers, and the entries that lead from one to the other. What no entry names must not be
// touched.
struct Scene {
  explicit Scene(std::size_t bytes) : from(bytes + 64), to(bytes + 64, std::byte{0xee}) {
    for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::byte>(i % 251);
    expected = to;
  }

  static std::size_t aligned(std::vector<std::byte> const& buffer) {
    return -address(buffer.data()) % 64;
  }

  void add(std::size_t to_offset, std::size_t from_offset, std::size_t bytes) {
    to_offset += aligned(to);
    from_offset += aligned(from);
    entries.push_back({.to = address(to.data() + to_offset),
                       .from = address(from.data() + from_offset),
                       .bytes = bytes});
    std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(from_offset), bytes,
                expected.begin() + static_cast<std::ptrdiff_t>(to_offset));
  }

  void launch(unsigned grid, unsigned block) {
    CopyEntry const* list = entries.data();
    auto count = static_cast<std::uint32_t>(entries.size());
    void* args[] = {&list, &count};
    launch_on_host(copy_entries, grid, block, args);
  }

  std::vector<std::byte> from, to, expected;
  std::vector<CopyEntry> entries;
};

TEST(CopyEntries, EveryAlignmentAndManySizes) {
  for (std::size_t to = 0; to < 17; ++to) {
    for (std::size_t from = 0; from < 17; ++from) {
      for (std::size_t bytes :
           {0, 1, 3, 4, 15, 16, 17, 63, 100, 511, 512, 2047, 2048, 2049, 4100}) {
        Scene scene{8192};
        scene.add(to, from, bytes);
        scene.launch(1, 32);
        ASSERT_EQ(scene.to, scene.expected) << to << " " << from << " " << bytes;
      }
    }
  }
}

Scene random_scene() {
  Scene scene{1 << 20};
  std::mt19937 random{11};
  for (std::size_t at = 0; at < (1 << 20) - 40000;) {
    std::size_t const limit = random() % 4 == 0 ? 33000 : 300;
    std::size_t const bytes = random() % limit;
    std::size_t const from = random() % 2 == 0 ? at : random() % ((1 << 20) - 40000);
    scene.add(at, from, bytes);
    at += bytes + random() % 3;  // neighbours that touch are among them
  }
  return scene;
}

TEST(CopyEntries, AnyGridAndBlockGiveTheSameBytes) {
  for (auto [grid, block] :
       {std::pair{1u, 32u}, {1u, 1024u}, {3u, 96u}, {8u, 512u}, {108u, 64u}, {5000u, 32u}}) {
    Scene scene = random_scene();
    scene.launch(grid, block);
    EXPECT_EQ(scene.to, scene.expected) << grid << " x " << block;
  }
}

// Under ThreadSanitizer: no byte belongs to two blocks.
TEST(CopyEntries, BlocksAreIndependent) {
  Scene scene = random_scene();
  Lane const shape{.grid = 16, .threads = 64};
  std::vector<std::thread> threads;
  for (std::uint32_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      run_blocks<CopyEntry const*, std::uint32_t>(copy_entries, t * 4, t * 4 + 4, shape,
                                                  scene.entries.data(),
                                                  static_cast<std::uint32_t>(scene.entries.size()));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(scene.to, scene.expected);
}

// Threads of a block run at once on a device, so none may write what another writes.
TEST(CopyEntries, EachByteIsWrittenByOneThread) {
  constexpr std::size_t kBytes = 3 * (kPieceBytes + 2);
  for (std::size_t from : {0, 3, 4}) {
    std::size_t written = 0;
    for (std::uint32_t block = 0; block < 2; ++block) {
      for (std::uint32_t thread = 0; thread < 96; ++thread) {
        Scene scene{16384};
        std::fill(scene.from.begin(), scene.from.end(), std::byte{1});
        scene.add(5, 5 + from, kBytes / 3);
        scene.add(5 + kBytes / 3, 5 + from, kBytes / 3);
        scene.add(5 + kBytes / 3 * 2, 5 + from, kBytes / 3);
        copy_entries({.block = block, .thread = thread, .grid = 2, .threads = 96},
                     scene.entries.data(), 3);
        written +=
            static_cast<std::size_t>(std::count(scene.to.begin(), scene.to.end(), std::byte{1}));
      }
    }
    EXPECT_EQ(written, kBytes) << from;
  }
}

// Small entries keep all warps of a block busy: the pieces go round.
TEST(CopyEntries, PiecesAreDealtToTheWarpsInTurn) {
  constexpr std::uint32_t kWarps = 4;
  std::vector<std::size_t> by_warp(kWarps);
  for (std::uint32_t warp = 0; warp < kWarps; ++warp) {
    Scene scene{64 * kPieceBytes};
    std::fill(scene.from.begin(), scene.from.end(), std::byte{1});
    for (std::size_t e = 0; e < 16; ++e) scene.add(e * 3 * kPieceBytes, 0, 3 * kPieceBytes);
    for (std::uint32_t i = 0; i < kWarpThreads; ++i) {
      copy_entries({.thread = warp * kWarpThreads + i, .threads = kWarps * kWarpThreads},
                   scene.entries.data(), 16);
    }
    by_warp[warp] =
        static_cast<std::size_t>(std::count(scene.to.begin(), scene.to.end(), std::byte{1}));
  }
  EXPECT_EQ(by_warp, std::vector<std::size_t>(kWarps, 12 * kPieceBytes));
}

TEST(CopyEntries, NoEntriesAreNothingToDo) {
  copy_entries({}, nullptr, 0);
  Scene scene{100};
  scene.launch(4, 32);
  EXPECT_EQ(scene.to, scene.expected);
}

}  // namespace
}  // namespace lmcache::detail
