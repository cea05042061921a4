// SPDX-License-Identifier: Apache-2.0
#include "cuda_sim/sim_stream.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

namespace lmcache::test {

SimStreams::~SimStreams() {
  {
    Lock const lock{mutex_};
    for (auto& stream : streams_) stream->stopping = true;
    abandoned_ = true;
  }
  changed_.notify_all();
  for (auto& stream : streams_) {
    if (stream->thread.joinable()) stream->thread.join();
  }
}

SimStreams::Stream* SimStreams::find(CudaStream stream) const {
  for (auto const& known : streams_) {
    if (reinterpret_cast<CudaStream>(known.get()) == stream) return known.get();
  }
  return nullptr;
}

std::shared_ptr<SimEvent> SimStreams::find(CudaEvent event) const {
  for (auto const& known : events_) {
    if (reinterpret_cast<CudaEvent>(known.get()) == event) return known;
  }
  return nullptr;
}

CudaStream SimStreams::make(int priority) {
  Lock const lock{mutex_};
  auto made = std::make_unique<Stream>();
  made->priority = priority;
  made->random.seed(seed_ * 1009 + streams_.size());
  Stream& stream = *made;
  streams_.push_back(std::move(made));
  stream.thread = std::thread{[this, &stream] { run(stream); }};
  return reinterpret_cast<CudaStream>(&stream);
}

bool SimStreams::destroy(CudaStream stream) {
  Lock lock{mutex_};
  Stream* const known = find(stream);
  if (known == nullptr) return false;
  changed_.wait(lock, [&] { return abandoned_ || (known->work.empty() && !known->busy); });
  known->stopping = true;
  changed_.notify_all();
  lock.unlock();
  known->thread.join();
  lock.lock();
  std::erase_if(streams_, [&](auto const& each) { return each.get() == known; });
  return true;
}

bool SimStreams::knows(CudaStream stream) const {
  Lock const lock{mutex_};
  return find(stream) != nullptr;
}

bool SimStreams::submit(CudaStream stream, SimWork work) {
  Lock const lock{mutex_};
  Stream* const known = find(stream);
  if (known == nullptr) return false;
  known->work.push_back(std::move(work));
  changed_.notify_all();
  return true;
}

bool SimStreams::synchronize(CudaStream stream) {
  Lock lock{mutex_};
  Stream const* const known = find(stream);
  if (known == nullptr) return false;
  changed_.wait(lock, [&] { return abandoned_ || (known->work.empty() && !known->busy); });
  return !abandoned_;
}

CudaEvent SimStreams::make_event() {
  Lock const lock{mutex_};
  events_.push_back(std::make_shared<SimEvent>());
  return reinterpret_cast<CudaEvent>(events_.back().get());
}

bool SimStreams::destroy_event(CudaEvent event) {
  Lock const lock{mutex_};
  return std::erase_if(events_, [&](auto const& each) {
           return reinterpret_cast<CudaEvent>(each.get()) == event;
         }) == 1;
}

bool SimStreams::record(CudaEvent event, CudaStream stream) {
  Lock const lock{mutex_};
  auto const known = find(event);
  Stream* const on = find(stream);
  if (known == nullptr || on == nullptr) return false;
  known->last = std::make_shared<SimRecord>();
  on->work.push_back({.signalled = known->last});
  changed_.notify_all();
  return true;
}

bool SimStreams::wait_event(CudaStream stream, CudaEvent event) {
  Lock const lock{mutex_};
  auto const known = find(event);
  Stream* const on = find(stream);
  if (known == nullptr || on == nullptr) return false;
  // As CUDA: the record that is the last one now counts, and none means no wait.
  if (known->last) on->work.push_back({.awaited = known->last});
  changed_.notify_all();
  return true;
}

CudaStatus SimStreams::query(CudaEvent event) const {
  Lock const lock{mutex_};
  auto const known = find(event);
  if (known == nullptr) return CudaStatus::kInvalidHandle;
  return !known->last || known->last->reached ? CudaStatus::kSuccess : CudaStatus::kNotReady;
}

CudaStatus SimStreams::elapsed(float* ms, CudaEvent begin, CudaEvent end) const {
  Lock const lock{mutex_};
  auto const from = find(begin);
  auto const to = find(end);
  if (from == nullptr || to == nullptr || !from->last || !to->last) {
    return CudaStatus::kInvalidHandle;
  }
  if (!from->last->reached || !to->last->reached) return CudaStatus::kNotReady;
  *ms = static_cast<float>((to->last->at_us - from->last->at_us) / 1000);
  return CudaStatus::kSuccess;
}

std::vector<CudaStream> SimStreams::all() const {
  Lock const lock{mutex_};
  std::vector<CudaStream> out;
  for (auto const& stream : streams_) out.push_back(reinterpret_cast<CudaStream>(stream.get()));
  return out;
}

int SimStreams::priority_of(CudaStream stream) const {
  Lock const lock{mutex_};
  Stream const* const known = find(stream);
  return known == nullptr ? 0 : known->priority;
}

void SimStreams::hold(CudaStream stream, bool held) {
  Lock lock{mutex_};
  if (Stream* const known = find(stream)) {
    known->held = held;
    if (held) changed_.wait(lock, [&] { return !known->busy; });
  }
  changed_.notify_all();
}

void SimStreams::allow(CudaStream stream, unsigned works) {
  Lock const lock{mutex_};
  if (Stream* const known = find(stream)) known->allowed += works;
  changed_.notify_all();
}

bool SimStreams::can_run(Stream const& stream) const {
  if ((stream.held && stream.allowed == 0) || stream.work.empty() || abandoned_) return false;
  SimWork const& next = stream.work.front();
  return next.awaited == nullptr || next.awaited->reached;
}

void SimStreams::settle() {
  Lock lock{mutex_};
  changed_.wait(lock, [&] {
    return std::none_of(streams_.begin(), streams_.end(),
                        [&](auto const& stream) { return stream->busy || can_run(*stream); });
  });
}

void SimStreams::abandon() {
  Lock const lock{mutex_};
  abandoned_ = true;
  changed_.notify_all();
}

std::uint64_t SimStreams::alive() const {
  Lock const lock{mutex_};
  return streams_.size() + events_.size();
}

void SimStreams::run(Stream& stream) {
  Lock lock{mutex_};
  for (;;) {
    changed_.wait(lock, [&] { return stream.stopping || can_run(stream); });
    if (!can_run(stream)) return;
    SimWork const work = std::move(stream.work.front());
    stream.work.pop_front();
    if (stream.held) --stream.allowed;
    if (work.run) {
      stream.busy = true;
      auto const delay = stream.random() % (most_delay_us_ + 1);
      lock.unlock();
      if (delay > 0) std::this_thread::sleep_for(std::chrono::microseconds{delay});
      double const took_us = work.run();
      lock.lock();
      stream.busy = false;
      stream.now_us += took_us;
    }
    if (work.awaited) stream.now_us = std::max(stream.now_us, work.awaited->at_us);
    if (work.signalled) {
      work.signalled->reached = true;
      work.signalled->at_us = stream.now_us;
    }
    changed_.notify_all();
  }
}

}  // namespace lmcache::test
