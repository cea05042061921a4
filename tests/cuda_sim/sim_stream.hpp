// SPDX-License-Identifier: Apache-2.0
// Streams and events of a simulated device.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <lmcache/base/cuda_api.hpp>

namespace lmcache::test {

// One record of an event: an event that is recorded again forgets the one before, but who waits for
// that goes on waiting for it. Guarded by the lock of the device's streams.
struct SimRecord {
  bool reached = false;
  double at_us = 0;  // in simulated time
};
struct SimEvent {
  std::shared_ptr<SimRecord> last = {};  // null: never recorded
};

struct SimWork {
  std::function<double()> run = {};  // copies and kernels: the microseconds they take
  std::shared_ptr<SimRecord> awaited = {};
  std::shared_ptr<SimRecord> signalled = {};
};

// Thread-safe.
class SimStreams {
 public:
  SimStreams(std::uint64_t seed, unsigned most_delay_us)
      : seed_{seed}, most_delay_us_{most_delay_us} {}
  ~SimStreams();
  SimStreams(SimStreams const&) = delete;
  SimStreams& operator=(SimStreams const&) = delete;

  [[nodiscard]] CudaStream make(int priority);
  // Waits until it is empty, as CUDA does before it takes the resources back.
  [[nodiscard]] bool destroy(CudaStream stream);
  [[nodiscard]] bool knows(CudaStream stream) const;
  // False: no such stream.
  [[nodiscard]] bool submit(CudaStream stream, SimWork work);
  // False: dropped by abandon().
  [[nodiscard]] bool synchronize(CudaStream stream);

  [[nodiscard]] CudaEvent make_event();
  [[nodiscard]] bool destroy_event(CudaEvent event);
  [[nodiscard]] bool record(CudaEvent event, CudaStream stream);
  [[nodiscard]] bool wait_event(CudaStream stream, CudaEvent event);
  [[nodiscard]] CudaStatus query(CudaEvent event) const;
  [[nodiscard]] CudaStatus elapsed(float* ms, CudaEvent begin, CudaEvent end) const;

  [[nodiscard]] std::vector<CudaStream> all() const;
  [[nodiscard]] int priority_of(CudaStream stream) const;
  void hold(CudaStream stream, bool held);
  void allow(CudaStream stream, unsigned works);
  void settle();
  // The context is lost: what has not begun never happens.
  void abandon();
  [[nodiscard]] std::uint64_t alive() const;

 private:
  using Lock = std::unique_lock<std::mutex>;
  struct Stream {
    int priority = 0;
    std::deque<SimWork> work = {};
    bool held = false;
    unsigned allowed = 0;  // pieces of work, though it is held
    bool busy = false;
    bool stopping = false;
    double now_us = 0;
    std::mt19937_64 random{};
    std::thread thread = {};
  };

  [[nodiscard]] Stream* find(CudaStream stream) const;
  [[nodiscard]] std::shared_ptr<SimEvent> find(CudaEvent event) const;
  [[nodiscard]] bool can_run(Stream const& stream) const;
  void run(Stream& stream);

  std::uint64_t const seed_;
  unsigned const most_delay_us_;
  mutable std::mutex mutex_;  // guards all below
  mutable std::condition_variable changed_;
  bool abandoned_ = false;
  std::vector<std::unique_ptr<Stream>> streams_;
  std::vector<std::shared_ptr<SimEvent>> events_;
};

}  // namespace lmcache::test
