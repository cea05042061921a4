// SPDX-License-Identifier: Apache-2.0
// Asynchronous reads and writes of files: the interface that io_uring, the thread pool and the
// decorators of tests implement.
//
// Invariants: every request that was submitted is answered exactly once, whatever happens to the
// others of its batch; a short transfer, EINTR and EAGAIN are continued inside, so that an answer
// without an error means that all bytes were moved.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include <lmcache/base/result.hpp>

namespace lmcache {

enum class IoOp : std::uint8_t {
  kRead,
  kWrite,
  kSync,  // fdatasync(2) of what was answered before; offset, data and size are ignored
};

// A file that an engine knows. Numbers are reused after remove_file().
struct IoFile {
  std::uint32_t number = 0xffff'ffff;
  [[nodiscard]] friend bool operator==(IoFile, IoFile) noexcept = default;
};

// With a file opened O_DIRECT, data, offset and size are multiples of its alignment
// (io/io_file.hpp). The memory must stay until the request is answered.
struct IoRequest {
  IoOp op = IoOp::kRead;
  IoFile file{};
  std::uint64_t offset = 0;
  std::byte* data = nullptr;
  std::uint64_t size_bytes = 0;
};

// 0: all bytes were moved. ENODATA: the file ends before them. Else the errno of the system call,
// or ECANCELED: the engine was closed before the request began.
struct IoAnswer {
  int os_error = 0;
  [[nodiscard]] bool ok() const noexcept { return os_error == 0; }
};

struct IoTraits {
  std::string_view name;  // "io_uring", "threads"
  bool registered_files = false;
  bool registered_buffers = false;
  std::uint64_t depth_bytes = 0;  // in flight at most; one larger request goes alone
};

// Called once per request with its place in the batch, on a thread of the engine, in any order.
// Must not throw and must not wait for this engine; may submit to it.
using IoDone = std::function<void(std::uint32_t request, IoAnswer answer)>;

// A seam for tests: sees each transfer that was tried and its result (bytes, or -errno) and returns
// the result to go on with. What it takes away is moved again. Called on the engine's threads, on
// several at a time where it has several.
using IoResultHook = std::function<std::int64_t(IoRequest const& piece, std::int64_t result)>;

// Thread-safe.
class AsyncFileIo {
 public:
  virtual ~AsyncFileIo() = default;
  AsyncFileIo() = default;
  AsyncFileIo(AsyncFileIo&&) = delete;

  // The descriptor is borrowed until remove_file(), before which no request of the file may be
  // under way. Errors: kOutOfMemory when the engine's table of files is full.
  [[nodiscard]] Result<IoFile> add_file(int fd) { return do_add_file(fd); }
  void remove_file(IoFile file) { do_remove_file(file); }

  // Queues the requests, in order, and returns: never waits for the disk, never fails. `done` is
  // kept until the last answer. A transfer of no bytes is answered without a system call.
  void submit(std::vector<IoRequest> batch, IoDone done);

  // Tells the kernel of memory that requests will use, so that it need not look it up each time.
  // A hint: refused (no privilege, limit), all goes on without it. The memory must outlive the
  // engine, and its pages must stay what they are: the kernel fetches them all now, keeps them, and
  // would go on using the old ones after a hole was punched or a file cut short. Pages that are not
  // there yet are made, meanwhile no request moves: 0.7 s for 256 MiB, instead of 10 ms.
  void register_memory(std::byte* data, std::uint64_t size_bytes) {
    do_register_memory(data, size_bytes);
  }

  // Requests that were submitted and whose `done` has not returned yet.
  [[nodiscard]] std::uint64_t open_requests() const noexcept { return open_.load(); }
  [[nodiscard]] IoTraits traits() const noexcept { return do_traits(); }

 protected:
  struct Batch {
    std::vector<IoRequest> requests;
    IoDone done;
  };

 private:
  [[nodiscard]] virtual Result<IoFile> do_add_file(int fd) = 0;
  virtual void do_remove_file(IoFile file) = 0;
  virtual void do_submit(Batch batch) = 0;
  virtual void do_register_memory(std::byte* data, std::uint64_t size_bytes) = 0;
  [[nodiscard]] virtual IoTraits do_traits() const noexcept = 0;

  std::atomic<std::uint64_t> open_{0};
};

}  // namespace lmcache
