// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/remote/transport_queue.hpp>

#include <algorithm>
#include <utility>

namespace lmcache {
namespace detail {

// All of it but `request`, which stays as it is, is guarded by the queue's mutex.
struct PostedCall {
  explicit PostedCall(RemoteRequest posted) : request{std::move(posted)} {}

  RemoteRequest const request;
  std::condition_variable changed{};
  std::optional<RemoteAnswer> answer{};
  std::uint32_t buffers_held = 0;
  bool taken = false;
  bool left = false;  // nobody waits for it any more

  [[nodiscard]] bool complete() const noexcept { return answer && buffers_held == 0; }
};

}  // namespace detail

namespace {

std::size_t numbers_wanted(RemoteRequest const& request) {
  switch (request.op) {
    case RemoteOp::kExists:
    case RemoteOp::kGetInto:
    case RemoteOp::kPut:
      return request.keys.size();
    case RemoteOp::kRemove:
    case RemoteOp::kClear:
      return 1;
    case RemoteOp::kDescribe:
    case RemoteOp::kPing:
      return 0;
  }
  return 0;
}

Result<void> check(RemoteRequest const& request, RemoteAnswer const& answer) {
  std::string const name{name_of(request.op)};
  if (answer.failure) {
    // A call that moves chunks is not tried once more: the client has done that if it is of use.
    bool const whole = request.op == RemoteOp::kPing || request.op == RemoteOp::kDescribe;
    return Error{whole ? ErrorCode::kUnavailable : ErrorCode::kIo, name + ": " + *answer.failure};
  }
  if (answer.numbers.size() != numbers_wanted(request)) {
    return Error{ErrorCode::kIo, name + ": its client answered " +
                                     std::to_string(answer.numbers.size()) + " numbers, not " +
                                     std::to_string(numbers_wanted(request))};
  }
  return {};
}

Error closing() { return Error{ErrorCode::kUnavailable, "the remote store is being closed"}; }

Error late(RemoteRequest const& request) {
  return Error{ErrorCode::kTimeout, std::string{name_of(request.op)} + ": no answer in time"};
}

}  // namespace

std::string_view name_of(RemoteOp op) noexcept {
  switch (op) {
    case RemoteOp::kExists:
      return "exists";
    case RemoteOp::kGetInto:
      return "get_into";
    case RemoteOp::kPut:
      return "put";
    case RemoteOp::kRemove:
      return "remove";
    case RemoteOp::kClear:
      return "clear";
    case RemoteOp::kDescribe:
      return "describe";
    case RemoteOp::kPing:
      return "ping";
  }
  return "";
}

TakenCall::TakenCall(std::shared_ptr<TransportQueue> queue,
                     std::shared_ptr<detail::PostedCall> call)
    : queue_{std::move(queue)}, call_{std::move(call)} {}

TakenCall::~TakenCall() {
  answer({.numbers = {}, .description = {}, .failure = "its client did not answer"});
}

RemoteRequest const& TakenCall::request() const noexcept { return call_->request; }

void TakenCall::answer(RemoteAnswer answer) {
  std::lock_guard const lock{queue_->mutex_};
  if (call_->answer) return;
  call_->answer = std::move(answer);
  call_->changed.notify_all();
}

bool TakenCall::delivered() const {
  std::lock_guard const lock{queue_->mutex_};
  return call_->complete() || call_->left;
}

void TakenCall::hold_buffer() {
  std::lock_guard const lock{queue_->mutex_};
  ++call_->buffers_held;
}

void TakenCall::let_go_of_buffer() noexcept {
  std::lock_guard const lock{queue_->mutex_};
  --call_->buffers_held;
  call_->changed.notify_all();
}

LentMemory::LentMemory(std::shared_ptr<TransportQueue> queue, std::span<std::byte> bytes)
    : queue_{std::move(queue)}, bytes_{bytes} {
  std::lock_guard const lock{queue_->mutex_};
  ++queue_->lent_;
}

LentMemory::~LentMemory() {
  std::lock_guard const lock{queue_->mutex_};
  --queue_->lent_;
  queue_->memory_returned_.notify_all();
}

std::shared_ptr<TransportQueue> TransportQueue::create(std::string name) {
  return std::shared_ptr<TransportQueue>{new TransportQueue{std::move(name)}};
}

std::shared_ptr<TakenCall> TransportQueue::take() {
  std::unique_lock lock{mutex_};
  posted_.wait(lock, [this] { return closed_ || !waiting_.empty(); });
  if (waiting_.empty()) return nullptr;
  auto call = std::move(waiting_.front());
  waiting_.pop_front();
  call->taken = true;
  call->changed.notify_all();  // who waits for it may have to wait for longer now
  return std::make_shared<TakenCall>(shared_from_this(), std::move(call));
}

void TransportQueue::close() noexcept {
  std::lock_guard const lock{mutex_};
  closed_ = true;
  for (auto const& call : waiting_) call->changed.notify_all();
  waiting_.clear();
  posted_.notify_all();
}

bool TransportQueue::closed() const {
  std::lock_guard const lock{mutex_};
  return closed_;
}

void TransportQueue::shut(Caller& caller) noexcept {
  std::lock_guard const lock{mutex_};
  caller.shut = true;
  if (caller.call) caller.call->changed.notify_all();
}

void TransportQueue::withdraw(detail::PostedCall const& call) {
  std::erase_if(waiting_, [&](auto const& it) { return it.get() == &call; });
}

// Nothing: it was answered, and nobody holds its memory.
std::optional<Error> TransportQueue::wait(std::unique_lock<std::mutex>& lock,
                                          detail::PostedCall& call, Deadline deadline,
                                          Caller const& caller) {
  bool overdue = false;
  while (!call.complete()) {
    bool const past = Deadline::clock::now() >= deadline;
    if (!call.taken || !call.request.has_memory()) {
      if (caller.shut || (closed_ && !call.taken)) return closing();
      if (past) return late(call.request);
      call.changed.wait_until(lock, deadline);
    } else if (!past) {
      call.changed.wait_until(lock, deadline);
    } else {
      if (!overdue) ++overdue_;
      overdue = true;
      call.changed.wait(lock);
    }
  }
  if (overdue) --overdue_;
  return std::nullopt;
}

Result<TransportQueue::Carried> TransportQueue::carry_out(RemoteRequest request, Deadline deadline,
                                                          Caller& caller) {
  auto const call = std::make_shared<detail::PostedCall>(std::move(request));
  std::unique_lock lock{mutex_};
  if (closed_ || caller.shut) return closing();
  if (overdue_ != 0) {
    return Error{ErrorCode::kTimeout, std::string{name_of(call->request.op)} +
                                          ": its client is in a call that ought to have ended"};
  }
  waiting_.push_back(call);
  posted_.notify_one();
  caller.call = call;
  auto error = wait(lock, *call, deadline, caller);
  caller.call.reset();
  call->left = true;
  if (error) {
    withdraw(*call);
    return *std::move(error);
  }
  LMC_TRY(check(call->request, *call->answer));
  return Carried{.answer = *std::move(call->answer),
                 .late = call->request.has_memory() && Deadline::clock::now() >= deadline};
}

std::shared_ptr<LentMemory> TransportQueue::lend(std::span<std::byte> bytes) {
  return std::make_shared<LentMemory>(shared_from_this(), bytes);
}

bool TransportQueue::wait_for_memory(std::chrono::milliseconds timeout) {
  std::unique_lock lock{mutex_};
  return memory_returned_.wait_for(lock, timeout, [this] { return lent_ == 0; });
}

}  // namespace lmcache
