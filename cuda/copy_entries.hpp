// SPDX-License-Identifier: Apache-2.0
// The body of the copy kernel (its contract: copy_kernel.hpp).
//
// A block walks its entries, every kGrid-th of the launch, and deals their pieces of 2 KiB to its
// warps in turn, going on where the entry before ended: small entries keep all warps busy too, and
// no warp waits for another. A warp has a piece in flight at once (4 x 16 bytes a thread), so a
// block of 512 threads has 32 KiB: PCIe 5 needs some 80 KiB for its latency, three blocks.
//
// The copier cuts runs to entries of one size, so the blocks need no prefix sum over unequal
// entries. That was the other choice: one long entry a run and a search for the first byte of each
// warp. It balances as well, but puts 10 to 17 dependent loads before the first byte, and the
// launch could not be ordered by planes.
#pragma once

#include <cstdint>

#include "cuda/copy_kernel.hpp"
#include "cuda/lane.hpp"

namespace lmcache::detail {

inline constexpr std::uint32_t kUnroll = 4;
inline constexpr std::uint32_t kPieceBytes = kWarpThreads * kUnroll * sizeof(Vector);

template <class T>
LMC_KERNEL_BODY T* as_pointer(std::uint64_t address) {
  return reinterpret_cast<T*>(static_cast<std::uintptr_t>(address));
}

// Byte by byte: the ends of a piece that whole words do not reach. Fewer than a warp has threads.
LMC_KERNEL_BODY void copy_edge(std::uint64_t to, std::uint64_t from, std::uint32_t bytes,
                               std::uint32_t lane) {
  if (lane < bytes) {
    store_once(as_pointer<std::uint8_t>(to + lane),
               load_once(as_pointer<std::uint8_t const>(from + lane)));
  }
}

// `to` and `from` lie equally far from a multiple of the word.
template <class T>
LMC_KERNEL_BODY void copy_words(std::uint64_t to, std::uint64_t from, std::uint32_t bytes,
                                std::uint32_t lane) {
  std::uint32_t const to_boundary = static_cast<std::uint32_t>(-to % sizeof(T));
  std::uint32_t const head = to_boundary < bytes ? to_boundary : bytes;
  copy_edge(to, from, head, lane);
  std::uint32_t const words = (bytes - head) / static_cast<std::uint32_t>(sizeof(T));
  T* const out = as_pointer<T>(to + head);
  T const* const in = as_pointer<T const>(from + head);
  std::uint32_t i = lane;
  LMC_ROLLED
  for (; i + (kUnroll - 1) * kWarpThreads < words; i += kUnroll * kWarpThreads) {
    T values[kUnroll];
    LMC_UNROLL
    for (std::uint32_t k = 0; k < kUnroll; ++k) values[k] = load_once(in + i + k * kWarpThreads);
    LMC_UNROLL
    for (std::uint32_t k = 0; k < kUnroll; ++k) store_once(out + i + k * kWarpThreads, values[k]);
  }
  LMC_ROLLED
  for (; i < words; i += kWarpThreads) store_once(out + i, load_once(in + i));
  std::uint32_t const done = head + words * static_cast<std::uint32_t>(sizeof(T));
  copy_edge(to + done, from + done, bytes - done, lane);
}

LMC_KERNEL_BODY void copy_piece(std::uint64_t to, std::uint64_t from, std::uint32_t bytes,
                                std::uint32_t lane) {
  std::uint64_t const apart = to ^ from;
  if (apart % sizeof(Vector) == 0) {
    copy_words<Vector>(to, from, bytes, lane);
  } else if (apart % sizeof(Word) == 0) {
    copy_words<Word>(to, from, bytes, lane);
  } else {
    copy_words<std::uint8_t>(to, from, bytes, lane);
  }
}

LMC_KERNEL_BODY void copy_entries(Lane lane, CopyEntry const* entries, std::uint32_t count) {
  std::uint32_t const warps = lane.threads / kWarpThreads;
  std::uint32_t const warp = lane.thread / kWarpThreads;
  std::uint32_t turn = 0;  // the warp that gets the next piece
  // 64 bits: the index may pass 2^32 by a grid.
  LMC_ROLLED
  for (std::uint64_t e = lane.block; e < count; e += lane.grid) {
    CopyEntry const entry = entries[e];
    std::uint64_t const pieces = (entry.bytes + kPieceBytes - 1) / kPieceBytes;
    LMC_ROLLED
    for (std::uint64_t p = (warp + warps - turn) % warps; p < pieces; p += warps) {
      std::uint64_t const begin = p * kPieceBytes;
      std::uint64_t const left = entry.bytes - begin;
      copy_piece(entry.to + begin, entry.from + begin,
                 left < kPieceBytes ? static_cast<std::uint32_t>(left) : kPieceBytes,
                 lane.thread % kWarpThreads);
    }
    // Pieces are counted in 32 bits where it only matters who is next: a 64-bit remainder is slow.
    turn = (turn + static_cast<std::uint32_t>(pieces) % warps) % warps;
  }
}

}  // namespace lmcache::detail
