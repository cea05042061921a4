// SPDX-License-Identifier: Apache-2.0
// Backs extents with memory ahead of need, on a thread that yields to the engine's: clearing pages
// during a prefill makes an engine that computes on the CPU wait. So does a low priority, which is
// a share of the CPU still: it goes on when a CPU stays idle, or when there is a hurry.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>

#include <lmcache/base/result.hpp>
#include <lmcache/memory/segment.hpp>

namespace lmcache {

// One extent at a time, given by one thread. Takes no lock but its own, since it is of low
// priority.
class MemoryReserver {
 public:
  struct Outcome {
    std::uint32_t extent;
    Result<void> reserved;
  };

  // `on_done` is called on our thread after each extent, and must take no lock either. The segment
  // must outlive this.
  MemoryReserver(Segment& segment, std::function<void()> on_done);
  ~MemoryReserver();  // waits for the piece of 1 MB that is under way
  MemoryReserver(MemoryReserver&&) = delete;

  // False: the system had no thread to give, nothing will be reserved.
  [[nodiscard]] bool started() const noexcept { return thread_.joinable(); }
  // An extent can be given.
  [[nodiscard]] bool ready() const noexcept;
  void start(std::uint32_t extent);  // when ready()
  // Whether to go on though the CPUs are wanted: little is left of what was reserved. At first so.
  void hurry(bool on);
  // How often it has made way for those who want the CPUs.
  [[nodiscard]] std::uint64_t pauses() const noexcept { return pauses_; }
  // What came of the extent that was given; nothing while it is under way.
  [[nodiscard]] std::optional<Outcome> take_outcome();

 private:
  enum class Step : std::uint32_t { kReady, kGiven, kDone, kStopped };
  void run();
  void look();
  void make_way();

  Segment& segment_;
  std::function<void()> on_done_;
  std::stop_source stop_;
  std::mutex mutex_;  // guards hurry_; never held for long
  std::condition_variable_any changed_;
  bool hurry_{true};
  std::chrono::milliseconds pause_{0};  // the thread's, as are the next
  long preempted_{0};
  int idle_{0};
  std::atomic<std::uint64_t> pauses_{0};
  std::atomic<Step> step_{Step::kReady};
  std::uint32_t extent_{0};         // ours while kGiven, the caller's otherwise
  std::optional<Outcome> outcome_;  // likewise
  std::thread thread_;
};

}  // namespace lmcache
