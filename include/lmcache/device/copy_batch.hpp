// SPDX-License-Identifier: Apache-2.0
// What is to be copied, and how its end is told: plain data between the engine and a DeviceCopier.
// Addresses on the engine side may be device addresses; only the copier that gets them reads them.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include <lmcache/layout/copy_plan.hpp>

namespace lmcache {

enum class CopyDirection : std::uint8_t {
  kEngineToSlot,  // store
  kSlotToEngine,  // load
};

enum class CopyPriority : std::uint8_t {
  kForeground,  // a request waits for it: loads
  kBackground,  // nobody waits for it, and it must not slow the decode down: stores
};

enum class CopyStatus : std::uint8_t {
  kPending,    // not all bytes have arrived
  kCopied,     // every byte arrived, and is visible to whoever was told so
  kCancelled,  // dropped by cancel(); the destination holds anything
  kFailed,     // the device reported an error; the destination holds anything
};

// One chunk: its slot, and the runs between the slot and the engine's blocks.
struct CopyItem {
  std::byte* slot = nullptr;       // host memory, or what CudaCopier::pool_memory() holds
  std::vector<CopyRun> runs = {};  // in any order; quickest when sorted by plane
};

// Called exactly once per item, when its last byte has arrived or it is certain that it never will.
// Runs on a copier thread, or on the thread inside cancel() for the items that cancel() dropped;
// never under a lock of the copier. It may submit(), retire() and poll; it must not wait, cancel()
// or throw.
using CopyItemDone = std::function<void(std::uint32_t item, CopyStatus status)>;

// A queue of the device on which the engine computes, as the engine's framework names it (a
// cudaStream_t; 0 is the device's default one). Copiers of host memory have no use for it.
struct EngineStream {
  std::uintptr_t handle = 0;
};

struct CopyBatch {
  CopyDirection direction = CopyDirection::kEngineToSlot;
  CopyPriority priority = CopyPriority::kForeground;
  std::uint32_t plane_count = 0;  // every run.plane is below it
  std::vector<CopyItem> items = {};
  CopyItemDone on_item = {};  // may be empty; destroyed when the ticket is retired
  // The copy waits, on the device, for what was put on this stream before submit(): the blocks of a
  // store may still be written by it, those of a load still be read.
  std::optional<EngineStream> engine_stream = std::nullopt;
};

// Names one submitted batch. 0 = none. Never used twice within one copier.
struct CopyTicket {
  std::uint64_t id = 0;
  explicit operator bool() const noexcept { return id != 0; }
  auto operator<=>(CopyTicket const&) const = default;
};

}  // namespace lmcache
