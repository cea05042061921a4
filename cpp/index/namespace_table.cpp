// SPDX-License-Identifier: Apache-2.0
#include <lmcache/index/namespace_table.hpp>

#include <string>

#include <lmcache/base/fixed_text.hpp>

namespace lmcache {

NamespaceTable::NamespaceTable(std::span<std::byte> region) noexcept
    : records_{reinterpret_cast<NamespaceRecord*>(region.data()), kMaxNamespaces} {}

Result<std::uint16_t> NamespaceTable::open(NamespaceOpen const& request) {
  if (request.lanes == 0 || request.lanes > kMaxLanes) {
    return Error{ErrorCode::kInvalidArgument, "a namespace of " + std::to_string(request.lanes) +
                                                  " lanes (KV groups x ranks): 1 to " +
                                                  std::to_string(kMaxLanes) + " are allowed"};
  }
  NamespaceRecord* target = nullptr;
  for (auto& record : records_) {
    bool const used = record.used.load(std::memory_order_relaxed) != 0;
    if (used && record.root == request.root) {
      record.last_opened_unix_s = request.now_unix_s;
      return static_cast<std::uint16_t>(&record - records_.data());
    }
    if (target != nullptr && target->used.load(std::memory_order_relaxed) == 0) continue;
    if (!used) {
      target = &record;
    } else if (record.entries.load(std::memory_order_relaxed) == 0 &&
               (target == nullptr || record.last_opened_unix_s < target->last_opened_unix_s)) {
      target = &record;
    }
  }
  if (target == nullptr) {
    return Error{ErrorCode::kOutOfMemory, "the segment holds chunks of " +
                                              std::to_string(kMaxNamespaces) +
                                              " namespaces (models, adapters, salts) already"};
  }
  target->used.store(0, std::memory_order_relaxed);
  // Whoever dies below leaves a record that is free, never an old one with new contents.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (++target->incarnation == 0) target->incarnation = 1;
  target->root = request.root;
  target->lanes = request.lanes;
  target->chunk_tokens = request.chunk_tokens;
  target->block_tokens = request.block_tokens;
  target->root_children = kNoEntry;
  target->last_opened_unix_s = request.now_unix_s;
  for (auto* counter : {&target->entries, &target->bytes, &target->lookups, &target->lookup_tokens,
                        &target->hit_tokens}) {
    counter->store(0, std::memory_order_relaxed);
  }
  for (auto& bytes : target->lane_block_bytes) bytes.store(0, std::memory_order_relaxed);
  copy_text(target->model, request.model);
  copy_text(target->description, request.description);
  target->used.store(target->incarnation, std::memory_order_release);
  return static_cast<std::uint16_t>(target - records_.data());
}

}  // namespace lmcache
