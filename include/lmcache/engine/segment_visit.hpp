// SPDX-License-Identifier: Apache-2.0
// A segment mapped without joining it.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include <lmcache/base/clock.hpp>
#include <lmcache/tier/dram/space_state.hpp>

namespace lmcache {

// Its upkeep needs counters to count into, which nobody reads.
class SegmentVisit {
 public:
  // Errors: those of Segment::attach().
  static Result<std::unique_ptr<SegmentVisit>> open(std::string const& path) {
    LMC_TRY_ASSIGN(auto segment, Segment::attach(path));
    return std::unique_ptr<SegmentVisit>{new SegmentVisit{std::move(segment)}};
  }
  [[nodiscard]] DramState& state() noexcept { return state_; }
  [[nodiscard]] Segment& segment() noexcept { return *segment_; }

 private:
  explicit SegmentVisit(std::unique_ptr<Segment> segment)
      : segment_{std::move(segment)}, state_{*segment_, clock_, EvictionKind::kLru} {
    state_.counters = &counters_;
  }

  SystemClock clock_;
  Counters counters_{};
  std::unique_ptr<Segment> segment_;
  DramState state_;
};

}  // namespace lmcache
