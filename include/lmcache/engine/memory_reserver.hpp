// SPDX-License-Identifier: Apache-2.0
// Backs extents with memory ahead of need, on a thread that yields to the engine's: clearing pages
// during a prefill makes an engine that computes on the CPU wait.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <thread>

#include <lmcache/base/result.hpp>
#include <lmcache/memory/segment.hpp>

namespace lmcache {

// One extent at a time, given by one thread. Takes no lock of ours, since it is of low priority.
class MemoryReserver {
 public:
  struct Outcome {
    std::uint32_t extent;
    Result<void> reserved;
  };

  // `on_done` is called on our thread after each extent, and must take no lock either. The segment
  // must outlive this.
  MemoryReserver(Segment& segment, std::function<void()> on_done);
  ~MemoryReserver();  // waits for the piece of 2 MB that is under way
  MemoryReserver(MemoryReserver&&) = delete;

  // False: the system had no thread to give, nothing will be reserved.
  [[nodiscard]] bool started() const noexcept { return thread_.joinable(); }
  // An extent can be given.
  [[nodiscard]] bool ready() const noexcept;
  void start(std::uint32_t extent);  // when ready()
  // What came of the extent that was given; nothing while it is under way.
  [[nodiscard]] std::optional<Outcome> take_outcome();

 private:
  enum class Step : std::uint32_t { kReady, kGiven, kDone, kStopped };
  void run();

  Segment& segment_;
  std::function<void()> on_done_;
  std::stop_source stop_;
  std::atomic<Step> step_{Step::kReady};
  std::uint32_t extent_{0};         // ours while kGiven, the caller's otherwise
  std::optional<Outcome> outcome_;  // likewise
  std::thread thread_;
};

}  // namespace lmcache
