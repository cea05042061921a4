// SPDX-License-Identifier: Apache-2.0
#include <lmcache/io/throttled_io.hpp>

#include <cerrno>
#include <chrono>
#include <iterator>
#include <ratio>
#include <type_traits>
#include <utility>

#include <lmcache/base/worker_thread.hpp>

namespace lmcache {
namespace {

using SteadyTime = std::chrono::steady_clock::time_point;

std::int64_t now_ns() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

}  // namespace

static_assert(std::is_same_v<std::chrono::steady_clock::period, std::nano>);

Result<std::unique_ptr<ThrottledIo>> ThrottledIo::create(std::unique_ptr<AsyncFileIo> inner,
                                                         ThrottleOptions options) {
  if (options.bytes_per_second == 0) {
    return Error{ErrorCode::kInvalidArgument, "throttled I/O: bytes_per_second is 0"};
  }
  auto made = std::make_unique<ThrottledIo>(std::move(inner), options);
  LMC_TRY(made->start());
  return made;
}

ThrottledIo::ThrottledIo(std::unique_ptr<AsyncFileIo> inner, ThrottleOptions options)
    : bucket_{options.bytes_per_second, options.burst_bytes},
      target_{*inner},
      inner_{std::move(inner)} {}

Result<void> ThrottledIo::start() {
  LMC_TRY_ASSIGN(thread_, start_worker_thread({.name = "lmc-io-limit"}, [this] { run(); }));
  return {};
}

ThrottledIo::~ThrottledIo() {
  {
    Lock const lock{mutex_};
    closing_ = true;
    wake_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void ThrottledIo::do_submit(Batch batch) {
  Lock lock{mutex_};
  if (closing_) {  // from within a last `done`: the inner engine, which is closing, answers it
    lock.unlock();
    target_.submit(std::move(batch.requests), std::move(batch.done));
    return;
  }
  open_batches_.push_back({.done = std::move(batch.done), .unanswered = batch.requests.size()});
  auto const open = std::prev(open_batches_.end());
  std::uint32_t number = 0;
  std::int64_t const now = now_ns();
  for (IoRequest const& io : batch.requests) {
    std::uint64_t const cost = io.op == IoOp::kSync ? 0 : io.size_bytes;
    waiting_.push_back(
        {.io = io, .batch = open, .number = number++, .due_ns = bucket_.take(cost, now)});
  }
  wake_.notify_one();  // under the lock: who gets the answers may destroy us
}

void ThrottledIo::run() {
  Lock lock{mutex_};
  while (!closing_) {
    auto due = wait_for_due(lock);
    lock.unlock();
    if (!due.empty()) hand_on(std::move(due));
    lock.lock();
  }
  auto const cancelled = std::exchange(waiting_, {});
  lock.unlock();
  for (Waiting const& request : cancelled) answer(request, {.os_error = ECANCELED});
}

std::vector<ThrottledIo::Waiting> ThrottledIo::wait_for_due(Lock& lock) {
  std::vector<Waiting> due;
  wake_.wait(lock, [&] { return closing_ || !waiting_.empty(); });
  if (closing_) return due;
  SteadyTime const first{std::chrono::nanoseconds{waiting_.front().due_ns}};
  if (wake_.wait_until(lock, first, [&] { return closing_; })) return due;
  std::int64_t const now = now_ns();
  while (!waiting_.empty() && waiting_.front().due_ns <= now) {
    due.push_back(waiting_.front());
    waiting_.pop_front();
  }
  return due;
}

void ThrottledIo::hand_on(std::vector<Waiting> due) {
  std::vector<IoRequest> requests;
  requests.reserve(due.size());
  for (Waiting const& request : due) requests.push_back(request.io);
  target_.submit(std::move(requests),
                 [this, due = std::move(due)](std::uint32_t number, IoAnswer given) {
                   answer(due[number], given);
                 });
}

void ThrottledIo::answer(Waiting const& request, IoAnswer given) {
  request.batch->done(request.number, given);
  OpenBatches over;         // destroyed without the lock: callbacks may own anything
  Lock const lock{mutex_};  // gives up before `over` goes
  if (--request.batch->unanswered == 0) {
    over.splice(over.end(), open_batches_, request.batch);
  }
}

}  // namespace lmcache
