// SPDX-License-Identifier: Apache-2.0
// A real engine of which single requests fail, wait, are torn, or come to something else.
#pragma once

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include <lmcache/base/bytes.hpp>
#include <lmcache/io/async_file_io.hpp>

namespace lmcache::test {

// What becomes of one request.
struct IoFault {
  enum class Kind : std::uint8_t {
    kNone,
    kError,  // answered with os_error, without a system call
    kTorn,   // only the first `bytes` are moved, and os_error is answered (0: as if all were)
    kFlip,   // the lowest bit of the byte at `bytes` arrives wrong: in the file, or in memory
  };
  Kind kind = Kind::kNone;
  int os_error = 0;
  std::uint64_t bytes = 0;
  bool held = false;  // before anything else it waits for release()

  static IoFault none() { return {}; }
  static IoFault error(int os_error) { return {.kind = Kind::kError, .os_error = os_error}; }
  static IoFault torn(std::uint64_t bytes, int os_error) {
    return {.kind = Kind::kTorn, .os_error = os_error, .bytes = bytes};
  }
  static IoFault flip(std::uint64_t at) { return {.kind = Kind::kFlip, .bytes = at}; }
  static IoFault hold() { return {.held = true}; }
};

// Asked once per request, in order, by the thread that submits; one call at a time.
using IoFaultPlan = std::function<IoFault(IoRequest const& request)>;

// Thread-safe. The destructor answers what is still held with ECANCELED.
class FaultyIo final : public AsyncFileIo {
 public:
  FaultyIo(std::unique_ptr<AsyncFileIo> inner, IoFaultPlan plan)
      : plan_{std::move(plan)}, target_{*inner}, inner_{std::move(inner)} {}
  ~FaultyIo() override {
    std::vector<Sent> held;
    {
      std::lock_guard const lock{mutex_};
      closing_ = true;
      held = std::exchange(held_, {});
    }
    for (Sent& sent : held) sent.fault = IoFault::error(ECANCELED);
    send(std::move(held));
  }

  // For the requests to come.
  void set_plan(IoFaultPlan plan) {
    std::lock_guard const lock{mutex_};
    plan_ = std::move(plan);
  }
  [[nodiscard]] std::size_t held() const {
    std::lock_guard const lock{mutex_};
    return held_.size();
  }
  // Until so many are held.
  void wait_held(std::size_t requests) {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [&] { return held_.size() >= requests; });
  }
  // The one that has place `at` among those held, 0 being the oldest; the places of the younger
  // ones sink.
  void release(std::size_t at = 0) {
    std::vector<Sent> released;
    {
      std::lock_guard const lock{mutex_};
      released.push_back(std::move(held_.at(at)));
      held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(at));
    }
    send(std::move(released));
  }
  void release_all() {
    std::vector<Sent> released;
    {
      std::lock_guard const lock{mutex_};
      released = std::exchange(held_, {});
    }
    send(std::move(released));
  }

 private:
  struct Sent {
    IoRequest io;
    IoFault fault;
    std::uint32_t number = 0;
    std::shared_ptr<IoDone> done;
    std::shared_ptr<std::byte> wrong_data{};  // of a write with a flipped bit
  };

  Result<IoFile> do_add_file(int fd) override { return target_.add_file(fd); }
  void do_remove_file(IoFile file) override { target_.remove_file(file); }
  void do_register_memory(std::byte* data, std::uint64_t size_bytes) override {
    target_.register_memory(data, size_bytes);
  }
  [[nodiscard]] IoTraits do_traits() const noexcept override { return target_.traits(); }

  void do_submit(Batch batch) override {
    auto const done = std::make_shared<IoDone>(std::move(batch.done));
    std::vector<Sent> at_once;
    {
      std::lock_guard const lock{mutex_};
      std::uint32_t number = 0;
      for (IoRequest const& io : batch.requests) {
        Sent sent{
            .io = io, .fault = plan_ ? plan_(io) : IoFault{}, .number = number++, .done = done};
        (sent.fault.held && !closing_ ? held_ : at_once).push_back(std::move(sent));
      }
      changed_.notify_all();
    }
    send(std::move(at_once));
  }

  void send(std::vector<Sent> sent) {
    std::vector<IoRequest> requests;
    for (Sent& one : sent) requests.push_back(with_fault(one));
    target_.submit(
        std::move(requests),
        [sent = std::move(sent)](std::uint32_t at, IoAnswer answer) { finish(sent[at], answer); });
  }

  static IoRequest with_fault(Sent& sent) {
    IoRequest io = sent.io;
    switch (sent.fault.kind) {
      case IoFault::Kind::kNone:
        break;
      case IoFault::Kind::kError:  // an engine's thread answers it, as it would answer a real one
        io.op = IoOp::kRead;
        io.size_bytes = 0;
        break;
      case IoFault::Kind::kTorn:
        io.size_bytes = std::min(io.size_bytes, sent.fault.bytes);
        break;
      case IoFault::Kind::kFlip:
        if (io.op != IoOp::kWrite || sent.fault.bytes >= io.size_bytes) break;
        constexpr std::size_t kPage = 4096;
        auto const size = static_cast<std::size_t>(align_up(io.size_bytes, std::uint64_t{kPage}));
        sent.wrong_data = {static_cast<std::byte*>(std::aligned_alloc(kPage, size)), &std::free};
        std::memcpy(sent.wrong_data.get(), io.data, io.size_bytes);
        io.data = sent.wrong_data.get();
        io.data[sent.fault.bytes] ^= std::byte{1};
        break;
    }
    return io;
  }

  static void finish(Sent const& sent, IoAnswer answer) {
    IoFault const& fault = sent.fault;
    bool const wrong_read = fault.kind == IoFault::Kind::kFlip && sent.io.op == IoOp::kRead;
    if (answer.ok() && wrong_read && fault.bytes < sent.io.size_bytes) {
      sent.io.data[fault.bytes] ^= std::byte{1};
    }
    if (answer.ok()) answer.os_error = fault.os_error;
    (*sent.done)(sent.number, answer);
  }

  mutable std::mutex mutex_;  // guards all below but the engine
  std::condition_variable changed_;
  IoFaultPlan plan_;
  std::vector<Sent> held_;
  bool closing_ = false;
  AsyncFileIo& target_;
  std::unique_ptr<AsyncFileIo> inner_;  // goes first: its last answers may submit
};

}  // namespace lmcache::test
