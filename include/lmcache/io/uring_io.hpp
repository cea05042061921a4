// SPDX-License-Identifier: Apache-2.0
// File I/O by io_uring: one ring, one thread, one inbox.
#pragma once

#include <cstdint>
#include <memory>

#include <lmcache/base/result.hpp>
#include <lmcache/io/async_file_io.hpp>
#include <lmcache/io/piece_queue.hpp>

namespace lmcache {

struct UringOptions {
  std::uint64_t depth_bytes = 32ULL << 20;
  std::uint64_t piece_bytes = detail::kPieceBytes;
  std::uint32_t entries = 128;  // of the ring: transfers in flight at most
  bool register_files = true;
  bool register_memory = true;
  IoResultHook on_result{};  // tests only
};

// Answers come on one thread, "lmc-io". Thread-safe. The destructor waits for the kernel: requests
// that have begun are finished, the others are answered with ECANCELED.
class UringIo final : public AsyncFileIo {
 public:
  // kUnavailable: the kernel refuses io_uring (the message says why) or a thread.
  [[nodiscard]] static Result<std::unique_ptr<UringIo>> create(UringOptions options);
  ~UringIo() override;

 private:
  class Engine;

 public:
  explicit UringIo(std::unique_ptr<Engine> engine);  // for create(): nobody else has one

 private:
  [[nodiscard]] Result<IoFile> do_add_file(int fd) override;
  void do_remove_file(IoFile file) override;
  void do_submit(Batch batch) override;
  void do_register_memory(std::byte* data, std::uint64_t size_bytes) override;
  [[nodiscard]] IoTraits do_traits() const noexcept override;

  std::unique_ptr<Engine> engine_;
};

}  // namespace lmcache
