// SPDX-License-Identifier: Apache-2.0
// Which bytes of a KvView belong to which bytes of a slot, as few and as long runs as possible.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <lmcache/base/result.hpp>
#include <lmcache/layout/kv_view.hpp>

namespace lmcache {

// `bytes` bytes at `engine` are the `bytes` bytes at `slot_offset` in the slot's payload. The
// direction of the copy is the copier's.
struct CopyRun {
  std::byte* engine = nullptr;
  std::uint64_t slot_offset = 0;
  std::uint64_t bytes = 0;
  std::uint32_t plane = 0;
};

// The blocks of the chunk that are to be copied: [first_block, first_block + block_ids.size()), in
// a slot laid out for n_blocks_in_slot blocks (ChunkShape).
struct SlotWindow {
  std::uint32_t first_block = 0;
  std::uint32_t n_blocks_in_slot = 0;
};

// Appends the runs of every plane, plane after plane, in the order of the block ids; neighbouring
// blocks become one run where both sides touch (id + 1 follows id and the stride is the page).
// The slot's payload is [plane][block][page_bytes] with the view's page sizes.
// kInvalidArgument, and nothing appended, when an id is not a block of the view or the window is
// too small for the ids. Does not validate the view: it was, when it was registered.
[[nodiscard]] Result<void> append_runs(std::vector<CopyRun>& out, KvView const& view,
                                       std::span<std::uint32_t const> block_ids, SlotWindow window);

}  // namespace lmcache
