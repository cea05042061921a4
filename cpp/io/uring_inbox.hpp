// SPDX-License-Identifier: Apache-2.0
// What other threads want of the ring's thread, and the descriptor that wakes it.
#pragma once

#include <cstddef>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include <lmcache/base/result.hpp>
#include <lmcache/base/unique_fd.hpp>
#include <lmcache/io/async_file_io.hpp>
#include <lmcache/io/file_table.hpp>

namespace lmcache::detail {

// Thread-safe, but for open().
class UringInbox {
 public:
  struct Batch {
    std::vector<IoRequest> requests;
    IoDone done;
  };
  struct FileChange {
    IoFile file;
    FileTable::Slot slot;  // {}: the file goes
  };
  // To be heeded in the order of the members: a batch may name a file that came just before.
  struct Letters {
    std::vector<FileChange> files;
    std::vector<std::span<std::byte>> memory;
    std::vector<Batch> batches;
    bool close = false;
  };

  // Once, before anything else. kOutOfMemory: no descriptor is free.
  [[nodiscard]] Result<void> open();

  void put(Batch batch) {
    add([&](Letters& to) { to.batches.push_back(std::move(batch)); });
  }
  void put(FileChange change) {
    add([&](Letters& to) { to.files.push_back(change); });
  }
  void put(std::span<std::byte> memory) {
    add([&](Letters& to) { to.memory.push_back(memory); });
  }
  void close() {
    add([](Letters& to) { to.close = true; });
  }

  // By the ring's thread. fd() is readable when letters were put; heard() makes it quiet and comes
  // before take(), so that no letter is overlooked.
  [[nodiscard]] int fd() const noexcept { return wake_.get(); }
  void heard() noexcept;
  [[nodiscard]] Letters take();

 private:
  template <class Write>
  void add(Write&& write) {
    std::lock_guard const lock{mutex_};
    write(letters_);
    wake();
  }
  void wake() noexcept;

  UniqueFd wake_;
  std::mutex mutex_;  // guards all below
  Letters letters_;
  bool woken_ = false;  // one wake-up until the next take() is enough
};

}  // namespace lmcache::detail
