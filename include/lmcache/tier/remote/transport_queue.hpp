// SPDX-License-Identifier: Apache-2.0
// Calls of a remote store on their way to threads that are not ours, which carry them out and
// answer: a client written in another language is served so, and none of our threads enters it.
//
// Invariants: a call that names memory and was taken is not returned from before it was answered
// and nobody holds a buffer of it any more, whatever its deadline says: until then the memory can
// be used for nothing else. All other calls are left at their deadline; what comes later is
// dropped. While a call with memory is past its deadline all others fail at once.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <lmcache/base/result.hpp>
#include <lmcache/key/chunk_key.hpp>
#include <lmcache/tier/remote/header_pool.hpp>
#include <lmcache/tier/remote/transport.hpp>

namespace lmcache {

enum class RemoteOp : std::uint8_t { kExists, kGetInto, kPut, kRemove, kClear, kDescribe, kPing };

// "exists", "get_into", ...
[[nodiscard]] std::string_view name_of(RemoteOp op) noexcept;

struct RemoteRequest {
  RemoteOp op = RemoteOp::kPing;
  std::vector<ChunkKey> keys{};
  std::vector<std::span<std::byte>> targets{};  // of kGetInto: one per key, to be written
  // Of kPut: two per key, one after the other: a header of headers() and what follows it.
  std::vector<std::span<std::byte const>> sources{};
  std::uint32_t ttl_seconds = 0;

  [[nodiscard]] bool has_memory() const noexcept { return !targets.empty() || !sources.empty(); }
};

struct RemoteAnswer {
  // Per key the bytes that are there (kExists) or came (kGetInto), or 1 for written (kPut). One
  // number for kRemove and kClear, none for the others.
  std::vector<std::uint64_t> numbers{};
  RemoteDescription description{};
  std::optional<std::string> failure{};  // one line; the rest means nothing then
};

class TransportQueue;
namespace detail {
struct PostedCall;
}

// A call in the hands of whoever carries it out. Thread-safe.
class TakenCall {
 public:
  TakenCall(std::shared_ptr<TransportQueue> queue, std::shared_ptr<detail::PostedCall> call);
  // A call that goes without an answer has failed.
  ~TakenCall();
  TakenCall(TakenCall&&) = delete;

  [[nodiscard]] RemoteRequest const& request() const noexcept;
  // The first answer counts. It is delivered when no buffer is held.
  void answer(RemoteAnswer answer);
  // True: whoever called has the answer, or will not ask for it any more.
  [[nodiscard]] bool delivered() const;

  void hold_buffer();
  void let_go_of_buffer() noexcept;

 private:
  std::shared_ptr<TransportQueue> const queue_;
  std::shared_ptr<detail::PostedCall> const call_;
};

// Memory that a client was told of. It stays mapped as long as this lives.
class LentMemory {
 public:
  LentMemory(std::shared_ptr<TransportQueue> queue, std::span<std::byte> bytes);
  ~LentMemory();
  LentMemory(LentMemory&&) = delete;

  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return bytes_; }

 private:
  std::shared_ptr<TransportQueue> const queue_;
  std::span<std::byte> const bytes_;
};

// Thread-safe. Shared, since neither an engine nor the threads that serve it can know who is the
// last to let go of a call.
class TransportQueue : public std::enable_shared_from_this<TransportQueue> {
 public:
  // One transport: what it is in, and whether it was shut.
  struct Caller {
    std::shared_ptr<detail::PostedCall> call;
    bool shut = false;
  };
  struct Carried {
    RemoteAnswer answer;
    bool late = false;  // after the deadline, of a call that could not be left
  };

  // `name` is for messages: the URL without its password.
  [[nodiscard]] static std::shared_ptr<TransportQueue> create(std::string name);
  TransportQueue(TransportQueue&&) = delete;

  [[nodiscard]] std::string const& name() const noexcept { return name_; }

  // Blocks until there is a call. Null: closed, and nothing will come any more.
  [[nodiscard]] std::shared_ptr<TakenCall> take();
  // Calls that nobody took fail, and all that come later. May be repeated.
  void close() noexcept;
  [[nodiscard]] bool closed() const;

  // Posts a call and waits for its answer. Errors: kTimeout (also: another call is past its
  // deadline), kUnavailable (closed, shut, or a failure of kPing and kDescribe), kIo (a failure of
  // any other, or an answer that is none).
  [[nodiscard]] Result<Carried> carry_out(RemoteRequest request, Deadline deadline, Caller& caller);
  // Ends the call that this transport is in, unless it must be waited for, and those to come.
  void shut(Caller& caller) noexcept;

  [[nodiscard]] HeaderPool& headers() noexcept { return headers_; }
  [[nodiscard]] std::shared_ptr<LentMemory> lend(std::span<std::byte> bytes);
  // True: nobody has memory of ours any more, so that it may be unmapped.
  [[nodiscard]] bool wait_for_memory(std::chrono::milliseconds timeout);

 private:
  friend class TakenCall;
  friend class LentMemory;

  explicit TransportQueue(std::string name) : name_{std::move(name)} {}
  [[nodiscard]] std::optional<Error> wait(std::unique_lock<std::mutex>& lock,
                                          detail::PostedCall& call, Deadline deadline,
                                          Caller const& caller);
  void withdraw(detail::PostedCall const& call);

  std::string const name_;
  HeaderPool headers_;
  mutable std::mutex mutex_;  // guards what follows, all callers and all calls
  std::condition_variable posted_;
  std::condition_variable memory_returned_;
  std::deque<std::shared_ptr<detail::PostedCall>> waiting_;
  std::uint32_t overdue_{0};
  std::uint32_t lent_{0};
  bool closed_{false};
};

}  // namespace lmcache
