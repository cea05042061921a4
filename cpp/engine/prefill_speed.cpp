// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/prefill_speed.hpp>

#include <lmcache/base/fixed_text.hpp>

namespace lmcache {

std::uint64_t measured_prefill(DramTier& dram) {
  auto const& processes = dram.state().processes;
  auto const own = text_in(processes.record(dram.state().process).instance_id);
  std::uint64_t tokens = 0;
  std::uint64_t elapsed_ns = 0;
  for (std::uint32_t i = 0; i < kMaxProcesses; ++i) {
    auto const& record = processes.record(i);
    bool const ours = i == dram.state().process ||
                      (processes.attached(i) && !own.empty() && text_in(record.instance_id) == own);
    if (!ours) continue;
    tokens += record.counters.prefill_tokens.load(std::memory_order_relaxed);
    elapsed_ns += record.counters.prefill_ns.load(std::memory_order_relaxed);
  }
  return tokens == 0 ? 0 : elapsed_ns * 1000 / tokens;
}

}  // namespace lmcache
