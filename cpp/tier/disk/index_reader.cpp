// SPDX-License-Identifier: Apache-2.0
#include "tier/disk/index_reader.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include <lmcache/base/worker_thread.hpp>
#include <lmcache/tier/disk/disk_format.hpp>

namespace lmcache::detail {
namespace {

// Less than that is read before a thread has started.
constexpr std::uint64_t kWorthAThread = 4 * IndexReader::kPieceBytes;

}  // namespace

IndexReader::IndexReader(Source source)
    : source_{source},
      memory_{static_cast<std::byte*>(std::aligned_alloc(kDiskPageBytes, kBuffers * kPieceBytes))} {
  if (source_.size_bytes == 0 || !memory_) return;
  auto* const mapped = ::mmap(nullptr, source_.size_bytes, PROT_READ, MAP_SHARED, source_.fd, 0);
  if (mapped != MAP_FAILED) mapped_ = static_cast<std::byte*>(mapped);
  if (source_.size_bytes < kWorthAThread) return;
  auto thread = start_worker_thread({.name = "lmc-index"}, [this] { read_ahead(); });
  if (thread) thread_ = std::move(thread).value();
}

IndexReader::~IndexReader() {
  {
    std::lock_guard const lock{mutex_};
    stop_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  if (mapped_ != nullptr) ::munmap(mapped_, source_.size_bytes);
}

Result<std::span<std::byte const>> IndexReader::next() {
  if (!memory_) return Error{ErrorCode::kOutOfMemory, "no memory to read the index into"};
  std::uint64_t const number = given_++;
  auto& piece = pieces_[number % kBuffers];
  if (thread_.joinable()) {
    std::unique_lock lock{mutex_};
    freed_ = number;
    changed_.notify_all();
    changed_.wait(lock, [&] { return read_ > number; });
  } else {
    piece = read(number);
  }
  if (piece.os_error != 0) {
    return Error{ErrorCode::kIo,
                 std::string{"cannot read the index: "} + std::strerror(piece.os_error),
                 piece.os_error};
  }
  return std::span<std::byte const>{memory_.get() + number % kBuffers * kPieceBytes,
                                    piece.size_bytes};
}

// To the first piece that is empty or cannot be read: the caller asks for none after it.
void IndexReader::read_ahead() {
  std::unique_lock lock{mutex_};
  for (bool over = false; !over;) {
    changed_.wait(lock, [this] { return stop_ || read_ < freed_ + kBuffers; });
    if (stop_) return;
    std::uint64_t const number = read_;
    lock.unlock();
    Piece const piece = read(number);
    lock.lock();
    over = piece.size_bytes == 0;
    pieces_[number % kBuffers] = piece;
    ++read_;
    changed_.notify_all();
  }
}

IndexReader::Piece IndexReader::read(std::uint64_t number) {
  std::uint64_t const begin = number * kPieceBytes;
  if (begin >= source_.size_bytes) return {};
  std::uint64_t const wanted = std::min(kPieceBytes, source_.size_bytes - begin);
  std::byte* const to = memory_.get() + number % kBuffers * kPieceBytes;
  bool direct = source_.direct_fd >= 0 && wanted % kDiskPageBytes == 0 && !is_cached(begin, wanted);
  std::uint64_t done = 0;
  while (done < wanted) {
    ssize_t const got = ::pread(direct ? source_.direct_fd : source_.fd, to + done, wanted - done,
                                static_cast<off_t>(begin + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && direct) {  // the cache's way may still work
      direct = false;
      continue;
    }
    if (got < 0) return {.os_error = errno};
    if (got == 0) break;
    done += static_cast<std::uint64_t>(got);
    direct = direct && done % kDiskPageBytes == 0;
  }
  return {.size_bytes = done};
}

bool IndexReader::is_cached(std::uint64_t offset, std::uint64_t size_bytes) const {
  std::array<unsigned char, kPieceBytes / kDiskPageBytes> pages{};
  if (mapped_ == nullptr || ::mincore(mapped_ + offset, size_bytes, pages.data()) != 0) return true;
  auto const count = static_cast<std::ptrdiff_t>(size_bytes / kDiskPageBytes);
  return std::all_of(pages.begin(), pages.begin() + count,
                     [](unsigned char page) { return (page & 1) != 0; });
}

}  // namespace lmcache::detail
