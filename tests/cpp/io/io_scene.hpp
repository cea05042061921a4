// SPDX-License-Identifier: Apache-2.0
// What tests of file I/O need: files on a disk, memory that direct I/O takes, and a note of
// answers.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include <lmcache/io/async_file_io.hpp>
#include <lmcache/io/io_file.hpp>

#include "support/must.hpp"

namespace lmcache::test {

inline constexpr std::uint64_t kKiB = 1024;
inline constexpr std::uint64_t kMiB = 1024 * kKiB;

// On the file system of the build, not in shared memory: direct I/O is to be the disk's.
class DiskFolder {
 public:
  DiskFolder() {
    std::string pattern = (std::filesystem::current_path() / "lmcache-io-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) {
      pattern = "/tmp/lmcache-io-XXXXXX";
      if (::mkdtemp(pattern.data()) == nullptr) ADD_FAILURE() << std::strerror(errno);
    }
    path_ = pattern;
  }
  DiskFolder(DiskFolder const&) = delete;
  DiskFolder& operator=(DiskFolder const&) = delete;
  ~DiskFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] std::string operator/(std::string const& name) const { return path_ + "/" + name; }
  [[nodiscard]] std::string const& path() const { return path_; }

 private:
  std::string path_;
};

// Begins on a page, so that it serves direct I/O.
class PageMemory {
 public:
  explicit PageMemory(std::uint64_t size_bytes) : size_bytes_{size_bytes} {
    void* const at =
        ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    data_ = at == MAP_FAILED ? nullptr : static_cast<std::byte*>(at);
    EXPECT_NE(data_, nullptr);
  }
  PageMemory(PageMemory const&) = delete;
  PageMemory& operator=(PageMemory const&) = delete;
  ~PageMemory() { ::munmap(data_, size_bytes_); }

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] std::uint64_t size_bytes() const { return size_bytes_; }
  void fill(std::uint64_t seed) {
    std::mt19937_64 random{seed};
    for (std::uint64_t at = 0; at + 8 <= size_bytes_; at += 8) {
      std::uint64_t const value = random();
      std::memcpy(data_ + at, &value, sizeof value);
    }
  }
  [[nodiscard]] bool same(PageMemory const& other) const {
    return size_bytes_ == other.size_bytes_ && std::memcmp(data_, other.data_, size_bytes_) == 0;
  }

 private:
  std::byte* data_ = nullptr;
  std::uint64_t size_bytes_;
};

// Notes what a batch was answered. Thread-safe. Outlives the batch.
class Answers {
 public:
  explicit Answers(std::size_t requests) : given_(requests) {}

  [[nodiscard]] IoDone callback() {
    return [this](std::uint32_t request, IoAnswer answer) {
      std::lock_guard const lock{mutex_};
      given_.at(request).push_back(answer.os_error);
      ++count_;
      changed_.notify_all();
    };
  }
  void wait() { wait_for(given_.size()); }
  void wait_for(std::size_t answers) {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [&] { return count_ >= answers; });
  }
  [[nodiscard]] std::size_t count() const {
    std::lock_guard const lock{mutex_};
    return count_;
  }
  // Of a request that was answered exactly once; -1 otherwise.
  [[nodiscard]] int error(std::size_t request) const {
    std::lock_guard const lock{mutex_};
    return given_.at(request).size() == 1 ? given_.at(request).front() : -1;
  }
  void expect_all_ok() const {
    for (std::size_t i = 0; i < given_.size(); ++i) EXPECT_EQ(error(i), 0) << "request " << i;
  }

 private:
  mutable std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  std::vector<std::vector<int>> given_;
  std::size_t count_ = 0;
};

// Submits, waits, and returns the errors in the order of the requests.
inline std::vector<int> run(AsyncFileIo& io, std::vector<IoRequest> batch) {
  auto const count = batch.size();
  Answers answers{count};
  io.submit(std::move(batch), answers.callback());
  answers.wait();
  std::vector<int> errors;
  for (std::size_t i = 0; i < count; ++i) errors.push_back(answers.error(i));
  return errors;
}

}  // namespace lmcache::test
