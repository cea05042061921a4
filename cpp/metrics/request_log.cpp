// SPDX-License-Identifier: Apache-2.0
#include <lmcache/metrics/request_log.hpp>

#include <algorithm>
#include <bit>

#include <lmcache/base/checksum.hpp>

namespace lmcache {
namespace {

using Words = std::array<std::uint64_t, sizeof(RequestTrace) / sizeof(std::uint64_t)>;

std::uint64_t checksum_of(Words const& words) noexcept {
  return checksum64(std::as_bytes(std::span{words}));
}

}  // namespace

std::uint64_t opening_hash(std::span<std::uint32_t const> tokens) noexcept {
  auto const hash =
      checksum64(std::as_bytes(tokens.first(std::min(kOpeningTokens, tokens.size()))));
  return hash != 0 ? hash : 1;
}

RequestLog::RequestLog(std::span<std::byte> region) noexcept
    : records_{reinterpret_cast<Record*>(region.data()), kKept + 1} {}

void RequestLog::add(RequestTrace trace) const noexcept {
  trace.number = added().fetch_add(1, std::memory_order_relaxed);
  auto const words = std::bit_cast<Words>(trace);
  auto& record = records_[1 + trace.number % kKept];
  // In any order: the checksum alone says whether what is there belongs together.
  for (std::size_t i = 0; i < words.size(); ++i) {
    record.words[i].store(words[i], std::memory_order_relaxed);
  }
  record.checksum.store(checksum_of(words), std::memory_order_relaxed);
}

std::vector<RequestTrace> RequestLog::read() const {
  std::vector<RequestTrace> out;
  for (auto const& record : records_.subspan(1)) {
    Words words;
    for (std::size_t i = 0; i < words.size(); ++i) {
      words[i] = record.words[i].load(std::memory_order_relaxed);
    }
    // Never the checksum of a place that nobody wrote: that of zeros is not 0.
    if (record.checksum.load(std::memory_order_relaxed) == checksum_of(words)) {
      out.push_back(std::bit_cast<RequestTrace>(words));
    }
  }
  std::ranges::sort(out, std::ranges::greater{}, &RequestTrace::number);
  return out;
}

}  // namespace lmcache
