// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/memory_reserver.hpp>

#include <sys/resource.h>

#include <algorithm>
#include <utility>

#include <lmcache/base/cpu_load.hpp>
#include <lmcache/base/worker_thread.hpp>

namespace lmcache {
namespace {

constexpr std::chrono::milliseconds kShortestPause{20};
constexpr std::chrono::milliseconds kLongestPause{400};
// How idle the CPUs seem, 0 to kMostIdle. A computation on all of them leaves some for moments,
// between its parts, and a thread of a moment takes one that was idle: no single look decides.
constexpr int kIdleEnough = 5;
constexpr int kMostIdle = 8;
constexpr int kIdleLook = 1;
constexpr int kPreempted = -2;  // also by who is soon gone; all that shows a container's own limit
constexpr int kWantedLook = -3;

// How often the system has taken the CPU from this thread, for another one.
long times_preempted() {
  rusage used{};
  return ::getrusage(RUSAGE_THREAD, &used) == 0 ? used.ru_nivcsw : 0;
}

}  // namespace

MemoryReserver::MemoryReserver(Segment& segment, std::function<void()> on_done)
    : segment_{segment}, on_done_{std::move(on_done)} {
  // Not SCHED_IDLE: a thread that may stop for long inside fallocate() keeps the file's lock in the
  // kernel from those who reserve at the moment of need, and they hold the space lock.
  auto thread = start_worker_thread({.name = "lmc-memory", .nice = 10}, [this] { run(); });
  if (thread) thread_ = std::move(thread).value();
}

MemoryReserver::~MemoryReserver() {
  stop_.request_stop();  // ends a pause too
  step_.store(Step::kStopped, std::memory_order_release);
  step_.notify_one();
  if (thread_.joinable()) thread_.join();
}

bool MemoryReserver::ready() const noexcept {
  return step_.load(std::memory_order_acquire) == Step::kReady;
}

void MemoryReserver::start(std::uint32_t extent) {
  extent_ = extent;
  step_.store(Step::kGiven, std::memory_order_release);
  step_.notify_one();
}

std::optional<MemoryReserver::Outcome> MemoryReserver::take_outcome() {
  if (step_.load(std::memory_order_acquire) != Step::kDone) return std::nullopt;
  auto out = std::exchange(outcome_, std::nullopt);
  step_.store(Step::kReady, std::memory_order_release);
  return out;
}

void MemoryReserver::hurry(bool on) {
  {
    std::lock_guard const lock{mutex_};
    hurry_ = on;
  }
  if (on) changed_.notify_one();
}

void MemoryReserver::look() {
  auto const preempted = times_preempted();
  if (std::exchange(preempted_, preempted) != preempted) idle_ += kPreempted;
  bool const wanted = cpus_are_wanted();
  idle_ = std::clamp(idle_ + (wanted ? kWantedLook : kIdleLook), 0, kMostIdle);
  pause_ = std::clamp(wanted ? pause_ * 2 : pause_ / 2, kShortestPause, kLongestPause);
}

void MemoryReserver::make_way() {
  for (look(); idle_ < kIdleEnough; look()) {
    std::unique_lock lock{mutex_};
    if (!hurry_) ++pauses_;
    auto const go_on = [this] { return hurry_ || stop_.stop_requested(); };
    if (changed_.wait_for(lock, stop_.get_token(), pause_, go_on)) return;
  }
}

void MemoryReserver::run() {
  for (;;) {
    auto step = step_.load(std::memory_order_acquire);
    if (step == Step::kStopped) return;
    if (step != Step::kGiven) {
      step_.wait(step, std::memory_order_acquire);
      continue;
    }
    auto populated = segment_.populate_extent(extent_, stop_.get_token(), [this] { make_way(); });
    outcome_.emplace(extent_, populated ? Result<void>{} : std::move(populated).error());
    if (!step_.compare_exchange_strong(step, Step::kDone, std::memory_order_acq_rel)) return;
    on_done_();
  }
}

}  // namespace lmcache
